//! Starting a supervisor in the background.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::process::in_own_session;
use super::runtime_dir::{FAILURE, FileError, RuntimeDir, SUPERVISOR_LOG};
use crate::bounded::create;
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
    let log = create(&path).map_err(FileError::at("write", &path))?;
    let error_log = log.try_clone().map_err(FileError::at("write", &path))?;
    let root_path = std::path::absolute(root.path()).map_err(FileError::at("find", root.path()))?;
    let mut command = Command::new(program);
    command.arg("--root-dir").arg(root_path).args(arguments);
    command.current_dir("/").stdin(Stdio::null()).stdout(log).stderr(error_log);
    // A unit's readiness isn't this one's; and started from within an app, it is
    // none of that one's processes.
    command.env_remove("NOTIFY_SOCKET").env_remove(APP_VARIABLE);
    in_own_session(&mut command);
    let mut child = command.spawn().map_err(SpawnError::Program)?;
    // Where we outlive it, it shall not stay a zombie.
    std::thread::Builder::new().spawn(move || child.wait()).map_err(SpawnError::Program)?;
    Ok(())
}
