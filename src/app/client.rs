//! The other end of a supervisor's control socket, and starting a supervisor.
//! Blocks.

use std::path::Path;
use std::time::Duration;

use crate::root_dir::RootDir;
use crate::supervise::client::{self, Told, WaitError};
use crate::supervise::control::{AskError, Connection, REPLY_LIMIT, Request};
use crate::supervise::lifecycle::State;
use crate::supervise::spawn::{self, SpawnError};
use crate::topology::{App, Name, NamespaceName};

use super::control::AppReport;
use super::error::AppError;
use super::record::AppRecord;
use super::runtime_dir::{DESIRED, ENDED, RuntimeDir, label};

/// A connection to the supervisor of one app.
#[derive(Debug)]
pub struct Client {
    label: String,
    connection: Connection,
}

impl Client {
    /// Connects to the supervisor of the app `name` in `namespace`.
    ///
    /// # Errors
    /// [`AppError::NotSupervised`] where there is none.
    pub fn connect(root: &RootDir, namespace: &NamespaceName, name: &Name) -> Result<Self, AppError> {
        let label = label(namespace, name);
        let dir = RuntimeDir::open(root, namespace, name)?;
        match dir.and_then(|dir| client::connect(&dir, AppReport::REPLY_MAX)) {
            Some(connection) => Ok(Self { label, connection }),
            None => Err(AppError::NotSupervised(label)),
        }
    }

    /// What the supervisor says of its app.
    ///
    /// # Errors
    /// Where it doesn't answer.
    pub fn status(&mut self) -> Result<AppReport, AppError> {
        let asked = self.connection.request(&Request::Status, REPLY_LIMIT);
        asked.map_err(|error| AppError::asked(error, "the supervisor's answer"))
    }

    /// Stops the app: SIGTERM to all of its processes, and after `timeout`
    /// SIGKILL to those that are left. Returns when all are gone, and the
    /// supervisor too.
    ///
    /// # Errors
    /// Where the supervisor doesn't answer, or hasn't left in time.
    pub fn stop(mut self, timeout: Duration) -> Result<(), AppError> {
        let stopped = match self.connection.stop(timeout) {
            // With nothing to end it may be gone before it answers.
            Err(AskError::Protocol(_)) => self.connection.wait_stopped(timeout),
            result => result,
        };
        stopped.map_err(|error| AppError::asked(error, format!("the end of app {}", self.label)))
    }
}

/// Writes down the app that a supervisor is to run.
///
/// # Errors
/// Where the file can't be written.
pub fn write_desired(root: &RootDir, app: &App) -> Result<(), AppError> {
    Ok(RuntimeDir::create(root, &app.namespace, &app.name)?.write_json(DESIRED, &AppRecord::from(app))?)
}

/// The app that ran last and ended as it should, where one did.
///
/// # Errors
/// Where its file can't be read.
pub fn read_ended(
    root: &RootDir,
    namespace: &NamespaceName,
    name: &Name,
) -> Result<Option<AppRecord>, AppError> {
    match RuntimeDir::open(root, namespace, name)? {
        Some(dir) => Ok(dir.read_record(ENDED)?),
        None => Ok(None),
    }
}

/// The app that [`write_desired`] wrote down.
///
/// # Errors
/// Where there is none of that name, or it can't be read.
pub fn read_desired(root: &RootDir, namespace: &NamespaceName, name: &Name) -> Result<App, AppError> {
    let found = match RuntimeDir::open(root, namespace, name)? {
        Some(dir) => dir.read_record::<AppRecord>(DESIRED)?,
        None => None,
    };
    let app = label(namespace, name);
    let Some(record) = found else { return Err(AppError::NotSupervised(app)) };
    match record.app() {
        Ok(found) if found.name == *name && found.namespace == *namespace => Ok(found),
        Ok(_) => Err(AppError::NotSupervised(app)),
        Err(strange) => Err(AppError::Invalid { app, reason: strange.to_string() }),
    }
}

/// Writes `app` down and starts `program --root-dir ROOT app supervise
/// NAMESPACE NAME` in the background: in a session of its own, its own
/// messages in `<run>/apps/NAMESPACE/NAME/supervisor.log`.
///
/// # Errors
/// Where it has a supervisor already, or none can be started. What becomes of
/// the app, [`wait_until`] tells.
pub fn spawn_supervisor(root: &RootDir, app: &App, program: &Path) -> Result<(), AppError> {
    let dir = RuntimeDir::create(root, &app.namespace, &app.name)?;
    if let Some(pid) = dir.lock_holder() {
        return Err(AppError::Supervised { app: app.label(), pid });
    }
    dir.write_json(DESIRED, &AppRecord::from(app))?;
    let arguments = ["app", "supervise", app.namespace.as_str(), app.name.as_str()];
    spawn::spawn_supervisor(root, &dir, program, &arguments).map_err(|error| match error {
        SpawnError::File(error) => error.into(),
        SpawnError::Program(source) => AppError::spawn(program.display().to_string(), source),
    })
}

/// Waits until the app is in `wanted`, calling `on_progress` with each new
/// status.
///
/// # Errors
/// Where it fails for good or three times in a row, its supervisor ends, or
/// `timeout` passes.
pub fn wait_until(
    root: &RootDir,
    (namespace, name): (&NamespaceName, &Name),
    wanted: &State,
    timeout: Duration,
    on_progress: impl FnMut(&AppReport),
) -> Result<AppReport, AppError> {
    let path = root.app(namespace.as_str(), name.as_str());
    let reached = |status: &AppReport| status.state == *wanted;
    client::wait_until(&path, reached, timeout, on_progress).map_err(|error| {
        let app = label(namespace, name);
        match error {
            WaitError::File(error) => error.into(),
            WaitError::Failed(why) => AppError::Failed { app, why },
            WaitError::NotSupervised => AppError::NotSupervised(app),
            WaitError::Late(now) => {
                let what = format!("app {app}, to become {wanted} (it is {now}),");
                AppError::late(what, timeout)
            }
        }
    })
}
