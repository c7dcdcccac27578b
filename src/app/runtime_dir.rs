//! The runtime files of one app: `<run>/apps/NAMESPACE/NAME/`, root's alone.

use std::ops::Deref;

use crate::root_dir::RootDir;
use crate::supervise::runtime_dir::{CONTROL, FAILURE, FileError, LockError, SUPERVISOR_LOG, SupervisorLock};
use crate::topology::{Name, NamespaceName};

use super::error::AppError;

pub(super) const DESIRED: &str = "app.json";
pub(super) const ENDED: &str = "ended.json";
pub(super) const LOG: &str = "log";

/// One app's directory, held open.
#[derive(Debug)]
pub(super) struct RuntimeDir {
    dir: crate::supervise::runtime_dir::RuntimeDir,
    label: String,
}

impl RuntimeDir {
    /// Makes the directory where it isn't there; mode 0700.
    pub fn create(root: &RootDir, namespace: &NamespaceName, name: &Name) -> Result<Self, AppError> {
        let path = root.app(namespace.as_str(), name.as_str());
        let dir = crate::supervise::runtime_dir::RuntimeDir::create(root, path)?;
        Ok(Self { dir, label: label(namespace, name) })
    }

    /// The directory, where there is one.
    pub fn open(root: &RootDir, namespace: &NamespaceName, name: &Name) -> Result<Option<Self>, AppError> {
        let dir =
            crate::supervise::runtime_dir::RuntimeDir::open(root.app(namespace.as_str(), name.as_str()))?;
        Ok(dir.map(|dir| Self { dir, label: label(namespace, name) }))
    }

    /// Takes the supervisor's lock.
    pub fn lock(&self) -> Result<SupervisorLock, AppError> {
        self.dir.lock().map_err(|error| match error {
            LockError::Held(pid) => AppError::Supervised { app: self.label.clone(), pid },
            LockError::File(error) => error.into(),
        })
    }

    /// Removes what a stopped app leaves: all but its log and, after a
    /// failure, the reason. The lock goes last, by whoever holds it.
    pub fn clear(&self, failed: bool) -> Result<(), FileError> {
        self.remove_all(&[DESIRED, CONTROL])?;
        if !failed {
            self.remove_all(&[FAILURE, SUPERVISOR_LOG])?;
        }
        self.remove_lock()
    }
}

impl Deref for RuntimeDir {
    type Target = crate::supervise::runtime_dir::RuntimeDir;

    fn deref(&self) -> &Self::Target {
        &self.dir
    }
}

/// How messages name an app.
pub(super) fn label(namespace: &NamespaceName, name: &Name) -> String {
    format!("{namespace}/{name}")
}
