//! What can go wrong with an app.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::supervise::control::AskError;
use crate::supervise::runtime_dir::FileError;

/// Why something couldn't be done with an app. Apps are named
/// `<namespace>/<name>`.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
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
    /// A file couldn't be used.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused something that has no file.
    #[error("can't {action}: {source}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program couldn't be started.
    #[error("can't start {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// The kernel's answer.
        source: io::Error,
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
    /// Something took too long.
    #[error("{what} took longer than {:.1} s", limit.as_secs_f64())]
    Timeout {
        /// What was waited for.
        what: String,
        /// The time it was given.
        limit: Duration,
    },
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
        move |source| Self::File { action, path, source }
    }

    pub(super) fn kernel(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { action, source }
    }

    /// The supervisor was asked for `what` in vain.
    pub(super) fn asked(error: AskError, what: impl Into<String>) -> Self {
        match error {
            AskError::Protocol(reason) => Self::Protocol(reason),
            AskError::Refused(message) => Self::Refused(message),
            AskError::Timeout(limit) => Self::Timeout { what: what.into(), limit },
        }
    }
}

impl From<FileError> for AppError {
    fn from(FileError { action, path, source }: FileError) -> Self {
        Self::File { action, path, source }
    }
}
