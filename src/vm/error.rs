//! What can go wrong with a VM.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::supervise::control::AskError;
use crate::supervise::error::SystemError;
use crate::supervise::runtime_dir::FileError;
use crate::tap::TapError;
use crate::topology::{Arch, Name};

/// Why something couldn't be done with a VM.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The system didn't do what it was to do.
    #[error(transparent)]
    System(#[from] SystemError),
    /// A named image that isn't there.
    #[error("there is no image {name} in {}: build it with vm-images/build.sh, or copy one there", dir.display())]
    NoImage {
        /// Its name in the spec.
        name: Name,
        /// Where images are looked for.
        dir: PathBuf,
    },
    /// An image that can't be booted.
    #[error("{}: {reason}", path.display())]
    BadImage {
        /// Its description or the file in question.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// An image for another processor.
    #[error("{}: an image for {found}, and the VM is {wanted}: set arch = \"{found}\" or take another image", path.display())]
    WrongArch {
        /// The image's description.
        path: PathBuf,
        /// What it was built for.
        found: Arch,
        /// What the VM has.
        wanted: Arch,
    },
    /// The guest's network card.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// QEMU isn't installed.
    #[error("{0} is not in PATH: install QEMU for that architecture")]
    NoQemu(String),
    /// KVM was asked for by name and isn't to be had.
    #[error("accel = \"kvm\", but {0}: take accel = \"auto\" or \"tcg\"")]
    NoKvm(String),
    /// Another supervisor has this VM.
    #[error("VM {name} has a supervisor already (pid {pid}): stop it first with `hostctl vm down {name}`")]
    Supervised {
        /// The VM.
        name: Name,
        /// Its supervisor; 0 where that is in another pid namespace.
        pid: i32,
    },
    /// The guest of another network namespace's hostctl.
    #[error(
        "the VM is that of a hostctl in another network namespace, or another PID namespace{}: \
         run this there, or give this namespace a directory of its own with --root-dir",
        if *pid == 0 { String::new() } else { format!(" (net:[{network}], pid {pid} there)") }
    )]
    Elsewhere {
        /// Its QEMU, or its supervisor, as it is numbered there; 0 where that
        /// isn't known.
        pid: u32,
        /// That namespace's inode; 0 where it isn't known.
        network: u64,
    },
    /// Nobody answers for this VM.
    #[error("no supervisor answers for VM {0}: start it with `hostctl vm up {0}`")]
    NotSupervised(Name),
    /// A peer broke its protocol, or is gone.
    #[error("{peer}: {reason}")]
    Protocol {
        /// Who.
        peer: &'static str,
        /// What it did.
        reason: String,
    },
    /// A peer said no.
    #[error("{peer} refused: {message}")]
    Refused {
        /// Who.
        peer: &'static str,
        /// Its words, made printable.
        message: String,
    },
    /// The guest or its QEMU failed for good.
    #[error("VM {name} failed: {why}")]
    Failed {
        /// The VM.
        name: Name,
        /// As seen by its supervisor.
        why: String,
    },
}

impl VmError {
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| SystemError::File { action, path, source }.into()
    }

    pub(super) fn kernel(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| SystemError::Kernel { action, source }.into()
    }

    /// `what` took longer than `limit`.
    pub fn late(what: impl Into<String>, limit: Duration) -> Self {
        SystemError::Timeout { what: what.into(), limit }.into()
    }

    pub(super) fn spawn(program: impl Into<String>, source: io::Error) -> Self {
        SystemError::Spawn { program: program.into(), source }.into()
    }

    /// A supervisor was asked for `what` in vain.
    pub(super) fn asked(error: AskError, what: &str) -> Self {
        const PEER: &str = "supervisor";
        match error {
            AskError::Protocol(reason) => Self::protocol(PEER, reason),
            AskError::Refused(message) => Self::Refused { peer: PEER, message },
            AskError::Timeout(limit) => Self::late(what, limit),
        }
    }

    pub(super) fn protocol(peer: &'static str, reason: impl Into<String>) -> Self {
        Self::Protocol { peer, reason: reason.into() }
    }
}

impl From<FileError> for VmError {
    fn from(error: FileError) -> Self {
        Self::System(error.into())
    }
}
