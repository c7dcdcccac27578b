//! The process that waits for a confirmation.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bounded::new_log;
use crate::root_dir::RootDir;
use crate::supervise::process;
use crate::supervise::runtime_dir::RuntimeDir;

use crate::host::HostError;

fn directory(root: &RootDir) -> PathBuf {
    root.run().join("confirm")
}

/// Where it says that it is there.
pub fn runtime_dir(root: &RootDir) -> Result<RuntimeDir, HostError> {
    let dir = RuntimeDir::create(root, directory(root));
    dir.map_err(|error| HostError::File { path: error.path, source: error.source })
}

/// Its pid, where it runs; 0 where the kernel doesn't say.
pub fn pid(root: &RootDir) -> Option<i32> {
    RuntimeDir::open(directory(root)).ok()??.lock_holder()
}

/// What it has to say.
pub fn log(root: &RootDir) -> PathBuf {
    directory(root).join("watchdog.log")
}

/// Starts `program --root-dir ROOT watchdog` in the background, in a session
/// of its own: it outlives the terminal that it was started from.
pub fn spawn(root: &RootDir, program: &Path) -> Result<(), HostError> {
    let output = new_log(&log(root)).map_err(HostError::NoWatchdog)?;
    let errors = output.try_clone().map_err(HostError::NoWatchdog)?;
    let root_path = std::path::absolute(root.path()).map_err(HostError::NoWatchdog)?;
    let mut command = Command::new(program);
    command.arg("--root-dir").arg(root_path).arg("watchdog");
    command.current_dir("/").stdin(Stdio::null()).stdout(output).stderr(errors);
    command.env_remove("NOTIFY_SOCKET");
    // What kills this process in a test isn't meant for that one.
    #[cfg(feature = "testbed")]
    command.env_remove(crate::kill_point::KILL_AT);
    process::in_own_session(&mut command);
    let mut child = command.spawn().map_err(HostError::NoWatchdog)?;
    // Where we outlive it, it shall not stay a zombie.
    std::thread::Builder::new().spawn(move || child.wait()).map_err(HostError::NoWatchdog)?;
    Ok(())
}
