//! Starting a program in confinement.

use std::io::{self, Read};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use nix::sched::{CloneFlags, unshare};

use super::child::{Child, out_of_the_way};
use super::filter::{self, Calls};
use super::limits::Limits;
use super::room::{self, RoomError};
use super::user::User;
use super::view;

/// How a program is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confinement {
    pub user: User,
    pub limits: Limits,
    /// What it has, and so may ask for.
    pub calls: Calls,
}

/// What couldn't be done to confine it, and so it wasn't started.
fn refused(action: &str, source: &io::Error) -> io::Error {
    let remedy = match source.kind() {
        io::ErrorKind::PermissionDenied => {
            ": hostctl needs CAP_SYS_ADMIN, CAP_SETPCAP, CAP_SETUID and CAP_SETGID, and mounts that nothing \
             forbids (a container needs to be a privileged one)"
        }
        _ => "",
    };
    io::Error::new(source.kind(), format!("it can't be confined: can't {action}: {source}{remedy}"))
}

/// Starts `program`, an absolute path, with `arguments`: its stderr in a pipe;
/// a user of its own, without a privilege, a network, an environment or a
/// terminal; in a room with its own files alone, where it is process 1, which
/// no signal from inside ends; with limits and a filter. `inherited` are its
/// descriptors, beside the standard ones.
///
/// # Errors
/// Where it can't be confined or executed; then it doesn't run.
pub(crate) fn spawn(
    program: &Path,
    arguments: &[String],
    inherited: Vec<FdMapping>,
    confinement: &Confinement,
) -> io::Result<Process> {
    let file = std::fs::canonicalize(program)?;
    let devices: &[&str] = if confinement.calls.kvm { &["/dev/kvm"] } else { &[] };
    let seen = view::of(&file, devices);
    let (mut failure, tell) = io::pipe()?;
    let child = Child {
        user: confinement.user,
        limits: confinement.limits,
        filters: filter::programs(confinement.calls).map_err(io::Error::other)?,
        inherited: after(inherited.iter().map(|mapping| mapping.child_fd)),
        tell: out_of_the_way(tell.as_fd())?,
    };
    drop(tell);
    let process = command(&file, program, arguments, inherited, child)?;
    // Namespaces are a thread's own, and its children's: this thread ends here.
    let thread = std::thread::Builder::new().name("confine".into()).spawn(move || {
        let mut process = process;
        isolate(&seen).map_err(|RoomError { action, source }| refused(&action, &source))?;
        process.spawn()
    })?;
    let spawned = thread.join().map_err(|_| io::Error::other("the launching thread died"))?;
    spawned.map_err(|error| {
        // The thread, and with it this process's end of the pipe, is gone.
        let mut action = String::new();
        match failure.read_to_string(&mut action) {
            Ok(length) if length > 0 => refused(&action, &error),
            _ => error,
        }
    })
}

fn after(inherited: impl Iterator<Item = RawFd>) -> u32 {
    inherited.max().and_then(|last| u32::try_from(last).ok()).map_or(3, |last| last.saturating_add(1).max(3))
}

fn command(
    file: &Path,
    name: &Path,
    arguments: &[String],
    inherited: Vec<FdMapping>,
    child: Child,
) -> io::Result<Command> {
    let mut process = Command::new(PathBuf::from(file));
    process.arg0(name).args(arguments).env_clear().current_dir("/");
    process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    process.fd_mappings(inherited).map_err(io::Error::other)?;
    // SAFETY: runs between fork and exec; it makes system calls and nothing
    // else: no allocation, no lock.
    #[allow(unsafe_code)]
    unsafe {
        process.pre_exec(move || child.confine());
    }
    Ok(process)
}

/// Moves the calling thread to namespaces of its own, and into a room. What it
/// starts next is process 1.
fn isolate(seen: &[view::Seen]) -> Result<(), RoomError> {
    let failed = |action: &str| {
        let action = action.to_owned();
        move |error: io::Error| RoomError { action, source: error }
    };
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    unshare(flags).map_err(io::Error::from).map_err(failed("make namespaces for it"))?;
    room::enter(seen)
}

#[cfg(test)]
mod tests {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;

    fn run(program: &str, arguments: &[&str]) -> io::Result<std::process::Output> {
        let confinement = Confinement {
            user: User { uid: 0x7000_0002, gid: 0x7000_0002 },
            limits: Limits { address_space: 1 << 30, file_size: 1 << 20, files: 64, threads: 64, locked: 0 },
            calls: Calls::default(),
        };
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        spawn(Path::new(program), &arguments, Vec::new(), &confinement)?.wait_with_output()
    }

    #[test]
    fn a_program_runs_and_sees_its_own_files() {
        // A service manager's umask is no matter.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let output = run("/usr/bin/ls", &["/usr/bin", "/etc/passwd"]).unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains("'/etc/passwd': No such file"), "{complaint}");
        let missing = run("/nonexistent/program", &[]).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn without_the_rights_to_confine_it_nothing_is_started() {
        for (capability, expected) in [
            (CapabilitySet::SYS_ADMIN, "can't make namespaces for it"),
            (CapabilitySet::SETPCAP, "can't take the capabilities away"),
            (CapabilitySet::SETUID, "can't change its user"),
        ] {
            // Capabilities are a thread's own, and those of the threads it starts.
            let failed = std::thread::spawn(move || {
                let mut mine = capabilities(None).unwrap();
                mine.effective.remove(capability);
                mine.permitted.remove(capability);
                set_capabilities(None, mine).unwrap();
                run("/usr/bin/ls", &[]).unwrap_err()
            });
            let failed = failed.join().unwrap();
            assert_eq!(failed.kind(), io::ErrorKind::PermissionDenied, "{failed}");
            let text = failed.to_string();
            assert!(text.contains(expected) && text.contains("a privileged one"), "{text}");
        }
    }
}
