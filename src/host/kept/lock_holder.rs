//! Who holds a lock of flock(2), as the kernel has it: what a lock's file says
//! may be old, or anybody's words.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::bounded::{printable, read_bounded};
use crate::supervise::process::pids;

/// A process that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its user, where that can be seen.
    pub uid: Option<u32>,
    /// Its command line, as far as it is one.
    pub command: String,
}

impl Holder {
    /// Whether its own command line says what it does.
    pub fn is_hostctl(&self) -> bool {
        self.command == "hostctl" || self.command.starts_with("hostctl ")
    }
}

/// Whether the kernel's list of locks (proc_locks(5)) has one of a file with
/// that number, of whichever file system, or may not show it.
pub fn may_be_held(file: &Metadata) -> bool {
    !is_listed_whole() || !listed(&locks(), file.ino()).is_empty()
}

/// Who holds the lock of that file.
pub fn holders(file: &Metadata) -> Vec<Holder> {
    // Whoever took it is on the list; where that one has ended, one that
    // inherited the file has it.
    let listed = listed(&locks(), file.ino());
    let mut found: Vec<u32> = listed.iter().copied().filter(|pid| holds(*pid, file)).collect();
    if found.is_empty() && (!listed.is_empty() || !is_listed_whole()) {
        found = pids().unwrap_or_default().into_iter().filter(|pid| holds(*pid, file)).collect();
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(holder).collect()
}

/// Whether the list shows every lock: in a PID namespace it leaves out those
/// that a process took which has no pid there, or none any more
/// (`locks_show` of the kernel's fs/locks.c).
fn is_listed_whole() -> bool {
    /// `PROC_PID_INIT_INO` of linux/proc_ns.h.
    const FIRST_NAMESPACE: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() == FIRST_NAMESPACE)
}

fn locks() -> String {
    fs::read_to_string("/proc/locks").unwrap_or_default()
}

/// The pids with a lock on a file of that number; 0 for one that can't be
/// told. `1: FLOCK ADVISORY WRITE 4711 00:1a:815 0 EOF`; who waits for one has
/// an arrow (`1: -> FLOCK …`). The device isn't compared: file systems with
/// subvolumes and layers give stat(2) another one.
fn listed(locks: &str, inode: u64) -> Vec<u32> {
    let inode = format!(":{inode}");
    let held = locks.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = words.get(1) == Some(&"FLOCK") && words.get(5).is_some_and(|file| file.ends_with(&inode));
        ours.then(|| words.get(4).and_then(|pid| pid.parse().ok()).unwrap_or(0))
    });
    held.collect()
}

/// Whether one of the process's descriptors is of that very file, and has the
/// lock (proc_pid_fdinfo(5)).
fn holds(pid: u32, file: &Metadata) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let entries = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let same = fs::metadata(entry.path())
            .is_ok_and(|opened| (opened.dev(), opened.ino()) == (file.dev(), file.ino()));
        same && read_bounded(&process.join("fdinfo").join(entry.file_name()), 64 * 1024)
            .is_ok_and(|info| String::from_utf8_lossy(&info).contains("FLOCK"))
    })
}

fn holder(pid: u32) -> Holder {
    let process = Path::new("/proc").join(pid.to_string());
    let line = read_bounded(&process.join("cmdline"), 256 * 1024).unwrap_or_default();
    let mut words: Vec<String> = line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .filter(|word| !word.is_empty())
        .collect();
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let uid = fs::metadata(&process).ok().map(|metadata| metadata.uid());
    let command = match words.as_slice() {
        [] => "a process".into(),
        words => printable(&words.join(" "), 120),
    };
    Holder { pid, uid, command }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_list_is_read_without_who_waits() {
        let locks = "1: FLOCK  ADVISORY  WRITE 11 00:1a:815 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 12 00:1a:815 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 13 00:1a:815 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 14 00:1b:815 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 15 00:1a:1815 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE -1 00:1a:815 0 EOF\n";
        assert_eq!(listed(locks, 815), [11, 14, 0]);
        assert_eq!(listed("", 815), [0_u32; 0]);
    }

    #[test]
    fn the_holder_is_whoever_has_it_and_not_whoever_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let ours = File::create(&path).unwrap();
        let metadata = ours.metadata().unwrap();
        assert_eq!(holders(&metadata), []);
        let mut child = Command::new("flock").arg(&path).args(["sleep", "60"]).spawn().unwrap();
        let begun = std::time::Instant::now();
        while holders(&metadata).is_empty() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let found = holders(&metadata);
        assert_eq!(found[0].pid, child.id());
        assert!(found[0].command.starts_with("flock "), "{found:?}");
        assert!(!found.iter().any(|holder| holder.pid == std::process::id()));
        // Its own child, once there is one, goes on holding it.
        let sleeps = |pid: u32| holds(pid, &metadata) && holder(pid).command == "sleep 60";
        while !pids().unwrap().into_iter().any(sleeps) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let left = holders(&metadata);
        assert_eq!(left.iter().map(|holder| holder.command.as_str()).collect::<Vec<_>>(), ["sleep 60"]);
        let pid = rustix::process::Pid::from_raw(left[0].pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// There the kernel's list leaves the lock out once whoever took it ended.
    #[test]
    fn the_holder_is_found_in_a_pid_namespace() {
        let (_, module) = module_path!().split_once("::").unwrap();
        let test = format!("{module}::the_holder_is_whoever_has_it_and_not_whoever_has_it_open");
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        let output = unshare.arg(std::env::current_exe().unwrap()).args(["--exact", &test]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
