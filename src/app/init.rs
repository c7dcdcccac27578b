//! The first process of an isolated app's PID namespace: it mounts what shows
//! the namespaces as they are, starts the program, buries orphans. When it
//! ends the kernel ends everything in the namespace.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{WaitOptions, WaitStatus, wait};

use crate::confine::User;

use super::error::AppError;
use super::user::{limit_capabilities, usual_umask};

/// Runs `command` as `user` and waits for it: the status to exit with, 128
/// and the signal's number where one killed it. Only for
/// [`supervise`](super::supervise), which starts it in a PID namespace.
///
/// # Errors
/// Where this isn't process 1, mounts are refused, or the program can't be
/// started.
pub fn init(user: Option<User>, command: &[String]) -> Result<u8, AppError> {
    if std::process::id() != 1 {
        return Err(AppError::NotInit);
    }
    mounts().map_err(AppError::kernel("mount /proc and /sys anew"))?;
    usual_umask();
    let (program, arguments) = command.split_first().ok_or(AppError::NotInit)?;
    let mut process = Command::new(program);
    process.args(arguments).stdin(Stdio::null());
    // SAFETY: runs between fork and exec; it makes system calls and nothing
    // else: no allocation, no lock.
    #[allow(unsafe_code)]
    unsafe {
        process.pre_exec(move || {
            limit_capabilities()?;
            user.map_or(Ok(()), User::become_for_good)
        });
    }
    let spawned = process.spawn();
    let child = spawned.map_err(|source| AppError::spawn(program.clone(), source))?;
    watch_lifeline()?;
    let main = child.id();
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if u32::try_from(pid.as_raw_pid()) == Ok(main) => {
                return Ok(code(status));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(AppError::kernel("wait for the program")(error.into())),
        }
    }
}

/// Ends the namespace when the supervisor, who holds the other end of the
/// standard input, is gone.
fn watch_lifeline() -> Result<(), AppError> {
    let watch = || {
        let stdin = io::stdin();
        let mut fds = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::empty())];
        while poll(&mut fds, None).is_err() {}
        std::process::exit(128 + 9)
    };
    let thread = std::thread::Builder::new().name("lifeline".into()).spawn(watch);
    thread.map(drop).map_err(AppError::kernel("start a thread"))
}

fn mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Nothing that is mounted here shows outside.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)?;
    // It shows the network namespace of who mounts it.
    mount("sysfs", "/sys", "sysfs", flags | MountFlags::RDONLY, None)?;
    Ok(())
}

fn code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(1)
}
