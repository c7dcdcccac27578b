//! The other end of a supervisor's control socket, and starting a supervisor.
//! Blocks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bounded::create;
use crate::ownership::APP_VARIABLE;
use crate::root_dir::RootDir;
use crate::supervise::control::{Connection, REPLY_LIMIT, millis};
use crate::topology::{App, Name, NamespaceName};

use super::control::{Request, Status};
use super::error::AppError;
use super::record::AppRecord;
use super::runtime_dir::{CONTROL, DESIRED, ENDED, FAILURE, RuntimeDir, SUPERVISOR_LOG, label};
use super::state::State;

/// The longest answer, in bytes.
const REPLY_MAX: u64 = 64 * 1024;

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
        // Whatever is wrong with the socket, nobody answers on it.
        let stream = dir.and_then(|dir| dir.connect(CONTROL).ok());
        let stream = stream.ok_or_else(|| AppError::NotSupervised(label.clone()))?;
        Ok(Self { label, connection: Connection::new(stream, REPLY_MAX) })
    }

    /// What the supervisor says of its app.
    ///
    /// # Errors
    /// Where it doesn't answer.
    pub fn status(&mut self) -> Result<Status, AppError> {
        self.ask(&Request::Status)
    }

    /// Stops the app: SIGTERM to all of its processes, and after `timeout`
    /// SIGKILL to those that are left. Returns when all are gone, and the
    /// supervisor too.
    ///
    /// # Errors
    /// Where the supervisor doesn't answer, or hasn't left in time.
    pub fn stop(mut self, timeout: Duration) -> Result<(), AppError> {
        match self.ask::<Option<()>>(&Request::Stop { timeout_ms: millis(timeout) }) {
            // With nothing to end it may be gone before it answers.
            Ok(_) | Err(AppError::Protocol(_)) => {}
            Err(error) => return Err(error),
        }
        let closed = self.connection.wait_closed(timeout.saturating_add(REPLY_LIMIT));
        closed.map_err(|error| AppError::asked(error, format!("the end of app {}", self.label)))
    }

    fn ask<T: serde::de::DeserializeOwned>(&mut self, request: &Request) -> Result<T, AppError> {
        let asked = self.connection.request(request, REPLY_LIMIT);
        asked.map_err(|error| AppError::asked(error, "the supervisor's answer"))
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
    dir.remove(FAILURE)?;
    let path = dir.path(SUPERVISOR_LOG);
    let log = create(&path).map_err(AppError::file("write", &path))?;
    let error_log = log.try_clone().map_err(AppError::file("write", &path))?;
    let root_path = std::path::absolute(root.path()).map_err(AppError::file("find", root.path()))?;
    let mut command = Command::new(program);
    command.arg("--root-dir").arg(root_path);
    command.args(["app", "supervise", app.namespace.as_str(), app.name.as_str()]);
    command.current_dir("/").stdin(Stdio::null()).stdout(log).stderr(error_log);
    // Started from within another app, it is none of that one's processes.
    command.env_remove(APP_VARIABLE).env_remove("NOTIFY_SOCKET");
    crate::supervise::process::in_own_session(&mut command);
    let error = |source| AppError::Spawn { program: program.display().to_string(), source };
    let mut child = command.spawn().map_err(error)?;
    // Where we outlive it, it shall not stay a zombie.
    std::thread::Builder::new().spawn(move || child.wait()).map_err(error)?;
    Ok(())
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
    mut on_progress: impl FnMut(&Status),
) -> Result<Status, AppError> {
    let begun = Instant::now();
    let app = label(namespace, name);
    let mut last: Option<Status> = None;
    // A supervisor that was just started has no lock yet.
    let mut seen = false;
    loop {
        match Client::connect(root, namespace, name).and_then(|mut client| client.status()) {
            Ok(status) => {
                seen = true;
                if last.as_ref() != Some(&status) {
                    on_progress(&status);
                }
                if status.state == *wanted {
                    return Ok(status);
                }
                if let State::Failed(why) = &status.state
                    && (status.retry_in_ms.is_none() || status.failures >= 3)
                {
                    return Err(AppError::Failed { app, why: why.clone() });
                }
                last = Some(status);
            }
            Err(_) => {
                let dir = RuntimeDir::open(root, namespace, name)?;
                let failure = dir.as_ref().and_then(|dir| dir.read_json::<String>(FAILURE).ok().flatten());
                let supervised = dir.is_some_and(|dir| dir.lock_holder().is_some());
                match (failure, supervised) {
                    (Some(why), false) => return Err(AppError::Failed { app, why }),
                    (None, false) if seen || begun.elapsed() > REPLY_LIMIT => {
                        return Err(AppError::NotSupervised(app));
                    }
                    _ => {}
                }
            }
        }
        if begun.elapsed() >= timeout {
            let now = last.map_or("unknown".into(), |status| status.state.to_string());
            let what = format!("app {app}, to become {wanted} (it is {now}),");
            return Err(AppError::Timeout { what, limit: timeout });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
