//! The runtime files of one VM: `<run>/vms/NAME/`, root's alone.

use std::ops::Deref;

use crate::root_dir::RootDir;
use crate::supervise::runtime_dir::{CONTROL, FAILURE, FileError, LockError, SUPERVISOR_LOG, SupervisorLock};
use crate::topology::Name;

use super::error::VmError;

pub(super) const DESIRED: &str = "vm.json";
pub(super) const LAUNCH: &str = "launch.json";
pub(super) const BOOTED: &str = "booted.json";
pub(super) const QMP: &str = "qmp.sock";
pub(super) const AGENT: &str = "agent.sock";
pub(super) const SERIAL: &str = "serial.sock";
pub(super) const CONSOLE: &str = "console.sock";
pub(super) const CONSOLE_LOG: &str = "console.log";
pub(super) const QEMU_LOG: &str = "qemu.log";

/// One VM's directory, held open.
#[derive(Debug)]
pub(super) struct RuntimeDir(crate::supervise::runtime_dir::RuntimeDir);

impl RuntimeDir {
    /// Makes the directory where it isn't there; mode 0700.
    pub fn create(root: &RootDir, name: &Name) -> Result<Self, VmError> {
        Ok(Self(crate::supervise::runtime_dir::RuntimeDir::create(root, root.vm(name.as_str()))?))
    }

    /// The directory, where there is one.
    pub fn open(root: &RootDir, name: &Name) -> Result<Option<Self>, VmError> {
        Ok(crate::supervise::runtime_dir::RuntimeDir::open(root.vm(name.as_str()))?.map(Self))
    }

    /// Takes the supervisor's lock.
    pub fn lock(&self, name: &Name) -> Result<SupervisorLock, VmError> {
        self.0.lock().map_err(|error| match error {
            LockError::Held(pid) => VmError::Supervised { name: name.clone(), pid },
            LockError::File(error) => error.into(),
        })
    }

    /// Removes what a stopped VM leaves: all but its console log and, after a
    /// failure, the reason and QEMU's own log. The lock goes last, by whoever
    /// holds it.
    pub fn clear(&self, failed: bool) -> Result<(), FileError> {
        self.remove_all(&[DESIRED, LAUNCH, BOOTED, QMP, AGENT, SERIAL, CONSOLE, CONTROL])?;
        if !failed {
            self.remove_all(&[FAILURE, QEMU_LOG, SUPERVISOR_LOG])?;
        }
        self.remove_lock()
    }
}

impl Deref for RuntimeDir {
    type Target = crate::supervise::runtime_dir::RuntimeDir;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn dir(name: &str) -> (tempfile::TempDir, RuntimeDir, Name) {
        let root = tempfile::tempdir().unwrap();
        let name = Name::new(name).unwrap();
        let dir = RuntimeDir::create(&RootDir::new(root.path()), &name).unwrap();
        (root, dir, name)
    }

    #[test]
    fn there_is_one_supervisor_and_asking_doesnt_disturb_it() {
        let (_root, dir, name) = dir("vm1");
        assert_eq!(dir.lock_holder(), None);
        let mut lock = dir.lock(&name).unwrap();
        lock.sign().unwrap();
        let us = i32::try_from(std::process::id()).unwrap();
        assert_eq!(dir.lock_holder(), Some(us));
        assert!(matches!(dir.lock(&name), Err(VmError::Supervised { pid, .. }) if pid == us));
        dir.clear(false).unwrap();
        drop(lock);
        assert_eq!(dir.lock_holder(), None);
        dir.lock(&name).unwrap();
    }

    #[test]
    fn sockets_work_under_the_longest_names() {
        let (_root, dir, _) = dir(&"n".repeat(63));
        let listener = dir.listen(CONTROL).unwrap();
        dir.connect(CONTROL).unwrap();
        drop(listener);
        assert!(dir.connect(CONTROL).is_err());
        dir.listen(CONTROL).unwrap();
    }

    #[test]
    fn the_directory_is_roots_alone_and_files_are_bounded() {
        let (_root, dir, _) = dir("vm1");
        assert_eq!(fs::metadata(dir.path(".")).unwrap().mode() & 0o777, 0o700);
        dir.write_json(LAUNCH, &"x".repeat(10)).unwrap();
        assert_eq!(dir.read_json::<String>(LAUNCH).unwrap(), Some("x".repeat(10)));
        fs::write(dir.path(LAUNCH), vec![b' '; 2 << 20]).unwrap();
        assert!(dir.read_json::<String>(LAUNCH).is_err());
        assert_eq!(dir.read_json::<String>(DESIRED).unwrap(), None);
    }
}
