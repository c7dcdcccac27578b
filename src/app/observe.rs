//! What apps there are; stopping and removing one, whoever supervises it.
//! Blocks.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::root_dir::RootDir;
use crate::supervise::client::Seen;
use crate::supervise::runtime_dir::{FAILURE, names};
use crate::topology::{Name, NamespaceName};

use super::client::Client;
use super::control::AppReport;
use super::error::AppError;
use super::record::AppRecord;
use super::runtime_dir::{DESIRED, RuntimeDir, label};
use super::strays::reap_app;

/// A supervisor that was just started answers within this time.
const START_LIMIT: Duration = Duration::from_secs(5);

/// One app as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: Name,
    /// What it was started as, while it isn't stopped.
    pub record: Option<AppRecord>,
    /// Whether a supervisor lives.
    pub supervised: bool,
    /// What the supervisor says, where it answers.
    pub status: Option<AppReport>,
    /// Why it failed, where it did and nobody started it since.
    pub failure: Option<String>,
}

impl Observed {
    /// Its state as its supervisor tells it, or as it is without one.
    pub fn state(&self) -> String {
        match (&self.status, &self.failure) {
            (Some(status), _) => status.state.to_string(),
            (None, Some(failure)) => format!("failed: {failure}"),
            (None, None) if self.record.is_some() && !self.supervised => "lost its supervisor".into(),
            (None, None) => "stopped".into(),
        }
    }
}

/// Looks at every app that has a runtime directory.
///
/// # Errors
/// Where the runtime directories can't be read. An app whose own files can't
/// be understood is listed as one that doesn't run.
pub fn observe(root: &RootDir) -> Result<Vec<Observed>, AppError> {
    let mut found = Vec::new();
    for namespace in names(&root.apps())?.into_iter().filter_map(|name| NamespaceName::new(name).ok()) {
        let apps = names(&root.apps().join(namespace.as_str()))?;
        let apps = apps.into_iter().filter_map(|name| Name::new(name).ok());
        found.extend(apps.filter_map(|name| observe_one(root, &namespace, &name)));
    }
    found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(found)
}

/// Looks at one app; none where it has no runtime directory.
pub fn observe_one(root: &RootDir, namespace: &NamespaceName, name: &Name) -> Option<Observed> {
    let dir = RuntimeDir::open(root, namespace, name).ok().flatten()?;
    let Seen { status, supervised, failure } = Seen::of(&dir);
    let record = dir.read_record(DESIRED).ok().flatten();
    Some(Observed { namespace: namespace.clone(), name: name.clone(), record, supervised, status, failure })
}

/// An app of that directory's whose supervisor is in another network namespace
/// than the calling thread.
///
/// # Errors
/// Where the runtime directories can't be read.
pub fn elsewhere(root: &RootDir) -> Result<Option<String>, AppError> {
    for namespace in names(&root.apps())?.into_iter().filter_map(|name| NamespaceName::new(name).ok()) {
        let apps = names(&root.apps().join(namespace.as_str()))?;
        for name in apps.into_iter().filter_map(|name| Name::new(name).ok()) {
            let dir = RuntimeDir::open(root, &namespace, &name).ok().flatten();
            if dir.is_some_and(|dir| dir.is_held_elsewhere()) {
                return Ok(Some(label(&namespace, &name)));
            }
        }
    }
    Ok(None)
}

/// Stops an app: through its supervisor, or by ending what a killed one left.
/// `timeout` is the app's time after SIGTERM; then it is killed. One that
/// doesn't run is left as it is.
///
/// # Errors
/// Where a process of it lives on.
pub fn stop(
    root: &RootDir,
    namespace: &NamespaceName,
    name: &Name,
    timeout: Duration,
) -> Result<(), AppError> {
    if RuntimeDir::open(root, namespace, name)?.is_some_and(|dir| dir.is_held_elsewhere()) {
        return Err(AppError::Elsewhere(label(namespace, name)));
    }
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match Client::connect(root, namespace, name) {
            Ok(client) => {
                client.stop(timeout)?;
                // Not before its lock is free, and another can be started.
                while RuntimeDir::open(root, namespace, name)?.is_some_and(|dir| dir.lock_holder().is_some())
                {
                    if Instant::now() >= deadline + timeout {
                        let what = format!("the end of the supervisor of app {namespace}/{name}");
                        return Err(AppError::late(what, START_LIMIT));
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                return Ok(());
            }
            Err(AppError::NotSupervised(_)) => {}
            Err(error) => return Err(error),
        }
        let Some(dir) = RuntimeDir::open(root, namespace, name)? else {
            return reap_app(root, namespace, name);
        };
        match dir.lock() {
            // No supervisor starts meanwhile.
            Ok(_lock) => {
                reap_app(root, namespace, name)?;
                let failed = dir.read_json::<String>(FAILURE).ok().flatten().is_some();
                return Ok(dir.clear(failed)?);
            }
            // It is about to listen, or about to leave.
            Err(AppError::Supervised { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Stops an app and removes its runtime files, its log too.
///
/// # Errors
/// As [`stop`], and where a file can't be removed.
pub fn remove(
    root: &RootDir,
    namespace: &NamespaceName,
    name: &Name,
    timeout: Duration,
) -> Result<(), AppError> {
    stop(root, namespace, name, timeout)?;
    let path = root.app(namespace.as_str(), name.as_str());
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(AppError::file("remove", path)(error));
        }
        _ => {}
    }
    // The namespace's last app takes its directory along.
    let _ = fs::remove_dir(root.apps().join(namespace.as_str()));
    Ok(())
}
