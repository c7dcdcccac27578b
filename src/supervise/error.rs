//! What can go wrong with anything that is supervised.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::runtime_dir::FileError;

/// The system didn't do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
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
    /// A program couldn't be started.
    #[error("can't start {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something took too long.
    #[error("{what} took longer than {:.1} s", limit.as_secs_f64())]
    Timeout {
        /// What was waited for.
        what: String,
        /// The time it was given.
        limit: Duration,
    },
}

impl From<FileError> for SystemError {
    fn from(FileError { action, path, source }: FileError) -> Self {
        Self::File { action, path, source }
    }
}
