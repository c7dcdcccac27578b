//! How a failed command ends.

use std::io::IsTerminal;
use std::process::ExitCode;

use hostctl::app::AppError;
use hostctl::host::HostError;
use hostctl::spec::{EditError, SpecError};
use hostctl::vm::VmError;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The spec is refused: exit code 3.
    Spec(SpecError),
    /// A change of the spec is refused: exit code 3.
    Edit(EditError),
    /// A change is refused as the host and the spec's files are: exit code 3.
    Refused(String),
    /// Another hostctl holds the lock, or a change waits for its confirmation:
    /// exit code 4.
    Locked(String),
    /// The spec is one that wasn't confirmed: exit code 5.
    Rejected(String),
    /// An audit found something: exit code 6.
    Found(String),
    /// Anything else: exit code 1.
    Other(String),
}

impl Failure {
    /// A failure with a message.
    pub fn other(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }

    /// Prints the failure; gives the exit code.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Spec(error) if std::io::stderr().is_terminal() => {
                eprintln!("{}", error.render(terminal_width(), color()));
                ExitCode::from(3)
            }
            Self::Spec(error) => {
                eprintln!("{error}");
                ExitCode::from(3)
            }
            Self::Edit(error) => {
                eprintln!("error: {error}");
                ExitCode::from(3)
            }
            Self::Refused(message) => {
                eprintln!("error: {message}");
                ExitCode::from(3)
            }
            Self::Locked(message) => {
                eprintln!("error: {message}");
                ExitCode::from(4)
            }
            Self::Rejected(message) => {
                eprintln!("error: {message}");
                ExitCode::from(5)
            }
            Self::Found(message) => {
                eprintln!("error: {message}");
                ExitCode::from(6)
            }
            Self::Other(message) => {
                eprintln!("error: {message}");
                ExitCode::FAILURE
            }
        }
    }
}

/// The width of the terminal, in columns.
fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|width| *width >= 40).unwrap_or(80)
}

/// Colours, unless the user wants none (no-color.org).
fn color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Spec(error) => Self::Spec(error),
            HostError::Edit(error) => Self::Edit(error),
            HostError::FilesDiffer { .. } => Self::Refused(error.to_string()),
            HostError::Rejected { .. } => Self::Rejected(error.to_string()),
            HostError::Unconfirmed { .. } | HostError::Locked(_) => Self::Locked(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

impl From<VmError> for Failure {
    fn from(error: VmError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        Self::Other(error.to_string())
    }
}
