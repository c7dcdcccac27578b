//! A process that is known to be the right one: by pid *and* start time, and
//! held by a pid file descriptor, so that no signal ever hits another that was
//! given the same number.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use tokio::io::unix::AsyncFd;

use crate::bounded::read_bounded;

/// A process by its pid file descriptor (pidfd_open(2)).
#[derive(Debug)]
pub(crate) struct Process {
    pub pid: u32,
    /// Clock ticks after boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    fd: OwnedFd,
}

impl Process {
    /// The living process `pid`; `None` where there is none (or a zombie).
    pub fn open(pid: u32) -> Option<Self> {
        let fd = pidfd_open(i32::try_from(pid).ok().and_then(Pid::from_raw)?, PidfdFlags::empty()).ok()?;
        // Read after the descriptor is held: if it names another, the process
        // that had this start time is gone.
        Some(Self { pid, start_time: Stat::read(pid)?.start_time, fd })
    }

    /// The process `pid` if it is still the one that started then.
    pub fn find(pid: u32, start_time: u64) -> Option<Self> {
        Self::open(pid).filter(|process| process.start_time == start_time)
    }

    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            // It is gone: what a signal was to achieve.
            Err(rustix::io::Errno::SRCH) => Ok(()),
            result => Ok(result?),
        }
    }

    /// For a runtime: readable when the process ended.
    pub fn watch(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: `Process` owns its descriptor, which is neither replaced nor
        // closed before it is dropped.
        #[allow(unsafe_code)]
        let watched = unsafe { AsyncFd::register(self) };
        watched.map_err(Into::into)
    }

    /// Whether it ended within `timeout`. Blocks.
    pub fn wait(&self, timeout: std::time::Duration) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        Ok(poll(&mut fds, Some(&timeout))? > 0)
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What proc_pid_stat(5) says of a living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub parent: u32,
    /// Clock ticks after boot.
    pub start_time: u64,
}

impl Stat {
    /// `None` where there is no such process, or a zombie.
    pub fn read(pid: u32) -> Option<Self> {
        let stat = read_bounded(Path::new(&format!("/proc/{pid}/stat")), 4096).ok()?;
        Self::parse(&String::from_utf8_lossy(&stat))
    }

    /// The second field is the program's name in parentheses, and may hold
    /// anything.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // The state is field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |text: Option<&str>| text?.parse::<u64>().ok();
        let living = match field(3)? {
            "X" => false,
            // Threads can outlive the first one.
            "Z" => number(field(20))? > 1,
            _ => true,
        };
        let parent = u32::try_from(number(field(4))?).ok()?;
        living.then_some(Self { parent, start_time: number(field(22))? })
    }
}

/// Has a program start in a session of its own: what ends the caller's
/// terminal doesn't end it.
pub(crate) fn in_own_session(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: runs between fork and exec and makes one system call.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into));
    }
}

/// The pids that there are, living or not.
pub(crate) fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // Processes come and go: what can't be read is gone.
        let pid: Option<u32> = entry.ok().and_then(|entry| entry.file_name().to_str()?.parse().ok());
        pids.extend(pid);
    }
    Ok(pids)
}

/// Processes whose real user id is in `uids`, with their arguments.
pub(crate) fn of_users(uids: std::ops::RangeInclusive<u32>) -> io::Result<Vec<(Process, Vec<String>)>> {
    let mut found = Vec::new();
    for pid in pids()? {
        let dir = Path::new("/proc").join(pid.to_string());
        // Processes come and go: what can't be read is gone.
        let theirs = || real_uid(&dir.join("status")).is_some_and(|uid| uids.contains(&uid));
        if !theirs() {
            continue;
        }
        // Asked again with the process in hand: the number may be another's now.
        let Some(process) = Process::open(pid).filter(|_| theirs()) else { continue };
        let Ok(line) = read_bounded(&dir.join("cmdline"), 256 * 1024) else { continue };
        let arguments = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        found.push((process, arguments.collect()));
    }
    Ok(found)
}

/// From proc_pid_status(5), where it is among the first lines.
fn real_uid(status: &Path) -> Option<u32> {
    let mut start = [0; 1024];
    let length = File::open(status).and_then(|mut file| file.read(&mut start)).ok()?;
    parse_uid(&String::from_utf8_lossy(start.get(..length)?))
}

fn parse_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_programs_name_cant_forge_the_start_time() {
        let rest = "1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        let living = Some(Stat { parent: 1, start_time: 777 });
        assert_eq!(Stat::parse(&format!("5 (qemu) S {rest}")), living);
        assert_eq!(Stat::parse(&format!("5 (a) S 9 9 (x) R {rest}")), living);
        assert_eq!(Stat::parse(&format!("5 (qemu) Z {rest}")), None);
        let threads = rest.replace(" 20 0 1 ", " 20 0 2 ");
        assert_eq!(Stat::parse(&format!("5 (qemu) Z {threads}")), living, "its other threads live");
        assert_eq!(Stat::parse("5 (qemu"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_process_is_found_by_pid_and_start_time_only() {
        let us = Process::open(std::process::id()).unwrap();
        assert!(Process::find(us.pid, us.start_time).is_some());
        assert!(Process::find(us.pid, us.start_time + 1).is_none());
        assert!(Process::open(0).is_none());
        assert!(Process::open(u32::MAX).is_none());
    }

    #[test]
    fn a_dead_process_is_seen_by_its_descriptor() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert!(!process.wait(Duration::ZERO).unwrap());
        process.signal(Signal::KILL).unwrap();
        assert!(process.wait(Duration::from_secs(5)).unwrap());
        assert!(Process::find(process.pid, process.start_time).is_none(), "a zombie isn't alive");
        child.wait().unwrap();
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn the_real_user_is_the_first_number() {
        assert_eq!(parse_uid("Name:\tx\nUid:\t7\t8\t9\t9\n"), Some(7));
        assert_eq!(parse_uid("Name:\tx\n"), None);
    }
}
