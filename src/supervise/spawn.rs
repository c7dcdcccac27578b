//! Starting a supervisor in the background.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::process::in_own_session;
use super::runtime_dir::{FAILURE, FileError, RuntimeDir, SUPERVISOR_LOG};
use crate::bounded::new_log;
use crate::ownership::APP_VARIABLE;
use crate::root_dir::RootDir;

/// Why there is none.
#[derive(Debug)]
pub(crate) enum SpawnError {
    File(FileError),
    /// The program can't be executed.
    Program(io::Error),
}

impl From<FileError> for SpawnError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// Starts `program --root-dir ROOT ARGUMENTS…` in a session of its own, its
/// messages in [`SUPERVISOR_LOG`]. What is to be supervised is written down
/// already, and nobody supervises it yet: the supervisor's lock decides.
pub(crate) fn spawn_supervisor(
    root: &RootDir,
    dir: &RuntimeDir,
    program: &Path,
    arguments: &[&str],
) -> Result<(), SpawnError> {
    dir.remove(FAILURE)?;
    let path = dir.path(SUPERVISOR_LOG);
    let log = new_log(&path).map_err(FileError::at("write", &path))?;
    let error_log = log.try_clone().map_err(FileError::at("write", &path))?;
    let root_path = std::path::absolute(root.path()).map_err(FileError::at("find", root.path()))?;
    let mut command = command(program, &root_path, arguments);
    command.stdin(Stdio::null()).stdout(log).stderr(error_log);
    in_own_session(&mut command);
    let mut child = command.spawn().map_err(SpawnError::Program)?;
    // Where we outlive it, it shall not stay a zombie.
    std::thread::Builder::new().spawn(move || child.wait()).map_err(SpawnError::Program)?;
    Ok(())
}

fn command(program: &Path, root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--root-dir").arg(root).args(arguments).current_dir("/");
    // A unit's readiness isn't this one's; and started from within an app, it is
    // none of that one's processes.
    command.env_remove("NOTIFY_SOCKET").env_remove(APP_VARIABLE);
    // What kills this process in a test isn't meant for that one.
    #[cfg(feature = "testbed")]
    command.env_remove(crate::kill_point::KILL_AT);
    command
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_supervisor_is_nobodys_but_its_own() {
        let command = command(Path::new("/bin/hostctl"), Path::new("/r"), &["vm", "run", "x"]);
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
        for name in ["NOTIFY_SOCKET", "HOSTCTL_APP"] {
            assert!(removed.contains(&(OsStr::new(name), None)), "{removed:?}");
        }
    }

    #[test]
    fn what_it_says_is_logged_and_an_old_failure_is_gone() {
        let top = tempfile::tempdir().unwrap();
        let root = RootDir::new(top.path());
        let dir = RuntimeDir::create(&root, root.vm("x")).unwrap();
        dir.write_json(FAILURE, &"it was so").unwrap();
        let program = top.path().join("program");
        std::fs::write(&program, "#!/bin/sh\necho \"$@\"\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        spawn_supervisor(&root, &dir, &program, &["vm", "run", "x"]).unwrap();
        let wanted = format!("--root-dir {} vm run x\n", top.path().display());
        let deadline = Instant::now() + Duration::from_secs(20);
        let said = || std::fs::read_to_string(dir.path(SUPERVISOR_LOG)).unwrap();
        while said() != wanted {
            assert!(Instant::now() < deadline, "{}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!dir.path(FAILURE).exists());
        let none = spawn_supervisor(&root, &dir, Path::new("/nowhere/hostctl"), &[]);
        assert!(matches!(none, Err(SpawnError::Program(_))), "{none:?}");
    }
}
