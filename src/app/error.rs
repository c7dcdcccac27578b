//! What can go wrong with an app.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::supervise::control::AskError;
use crate::supervise::error::SystemError;
use crate::supervise::runtime_dir::FileError;

/// Why something couldn't be done with an app. Apps are named
/// `<namespace>/<name>`.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The system didn't do what it was to do.
    #[error(transparent)]
    System(#[from] SystemError),
    /// It could never be started.
    #[error("app {app}: {reason}")]
    Invalid {
        /// The app.
        app: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Its namespace isn't there.
    #[error("there is no network namespace {0}: it comes with its subnet, run `hostctl apply`")]
    NoNamespace(String),
    /// The machine's own namespace, or the caller's, under another name.
    #[error("{0} is the machine's own network namespace, or this process's: nobody in it is killed")]
    SparedNamespace(String),
    /// Limits that this host can't enforce.
    #[error("limits need cgroup v2 with the {missing} controller; this host has {found}: remove the limits")]
    NoCgroup {
        /// The controllers that are missing.
        missing: String,
        /// What there is instead.
        found: String,
    },
    /// Called by hand: it is part of an isolated app's start.
    #[error("this isn't the first process of a PID namespace: use `hostctl app run --isolate`")]
    NotInit,
    /// Another supervisor has this app.
    #[error("app {app} has a supervisor already (pid {pid}): stop it first")]
    Supervised {
        /// The app.
        app: String,
        /// Its supervisor; 0 where that is in another PID namespace.
        pid: i32,
    },
    /// The app of another network namespace's hostctl.
    #[error(
        "app {0} is another network namespace's hostctl's: run this there, or give this namespace a \
         directory of its own with --root-dir"
    )]
    Elsewhere(String),
    /// Nobody answers for this app.
    #[error("no supervisor answers for app {0}: it isn't running")]
    NotSupervised(String),
    /// The supervisor broke the protocol, or is gone.
    #[error("the supervisor: {0}")]
    Protocol(String),
    /// The supervisor said no.
    #[error("the supervisor refused: {0}")]
    Refused(String),
    /// It failed and isn't started again.
    #[error("app {app} failed: {why}")]
    Failed {
        /// The app.
        app: String,
        /// As seen by its supervisor.
        why: String,
    },
}

impl AppError {
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| SystemError::File { action, path, source }.into()
    }

    pub(super) fn kernel(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| SystemError::Kernel { action, source }.into()
    }

    /// `what` took longer than `limit`.
    pub(super) fn late(what: impl Into<String>, limit: Duration) -> Self {
        SystemError::Timeout { what: what.into(), limit }.into()
    }

    pub(super) fn spawn(program: impl Into<String>, source: io::Error) -> Self {
        SystemError::Spawn { program: program.into(), source }.into()
    }

    /// The supervisor was asked for `what` in vain.
    pub(super) fn asked(error: AskError, what: impl Into<String>) -> Self {
        match error {
            AskError::Protocol(reason) => Self::Protocol(reason),
            AskError::Refused(message) => Self::Refused(message),
            AskError::Timeout(limit) => Self::late(what, limit),
        }
    }
}

impl From<FileError> for AppError {
    fn from(error: FileError) -> Self {
        Self::System(error.into())
    }
}
