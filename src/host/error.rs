//! Why the host isn't as the spec says.

use std::io;
use std::path::PathBuf;

use crate::app::{AppError, NamespaceError};
use crate::firewall::{NftError, PolicyTooLarge, TemplateFault};
use crate::link::{Conflict, LinkError};
use crate::spec::{EditError, SpecError};
use crate::vm::VmError;

/// Why a host couldn't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Not root.
    #[error("hostctl changes links and firewall rules: run it as root")]
    NotRoot,
    /// Another hostctl is at it.
    #[error("the host is being changed by {0}: wait for it, or end it")]
    Locked(String),
    /// Things on the host that hostctl didn't make are in the way; nothing was
    /// touched.
    #[error("nothing was changed:\n  {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Conflicts(Vec<Conflict>),
    /// One of hostctl's files.
    #[error("can't use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel, or the parser, said.
        source: io::Error,
    },
    /// The spec, as it is or as a command would leave it.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A change of the spec.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A change failed, and its drop-in can't be taken back.
    #[error("{cause}\n  {} still says the change, and can't be restored ({source}): edit or remove it", path.display())]
    Unrestored {
        /// Why the change failed.
        cause: Box<HostError>,
        /// The drop-in.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The firewall.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// A policy that can't be loaded.
    #[error(transparent)]
    Policy(#[from] PolicyTooLarge),
    /// The firewall's text.
    #[error(transparent)]
    Template(#[from] TemplateFault),
    /// Tracked flows.
    #[error("can't end the flows that are no longer allowed: {0}")]
    Flows(#[source] io::Error),
    /// Links.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Apps.
    #[error(transparent)]
    App(#[from] AppError),
    /// A namespace's name.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Guests.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A step failed.
    #[error("step {number} of {total} failed: {step}\n  {source}\n  {consequence}")]
    Step {
        /// Its number, from 1.
        number: usize,
        /// How many steps there were.
        total: usize,
        /// The step, as a command.
        step: String,
        /// Why.
        source: Box<HostError>,
        /// What the host is like now.
        consequence: String,
    },
    /// All steps were done, and the kernel still isn't as it should be.
    #[error("the kernel isn't as planned; still missing:\n  {}\n  {consequence}", steps.join("\n  "))]
    Unverified {
        /// The steps that a new plan has.
        steps: Vec<String>,
        /// What the host is like now.
        consequence: String,
    },
    /// No word from the kernel.
    #[error("can't listen to the kernel's changes over netlink: {0}")]
    Events(#[source] io::Error),
    /// Nobody listens to a watch any more.
    #[error("can't say what was found: {0}")]
    Told(String),
    /// A generation of a former version of hostctl.
    #[error(
        "generation {0} is of another version of hostctl, which took what this one refuses; apply the spec again"
    )]
    Outdated(u64),
    /// The caller of an apply wanted it to end.
    #[error("interrupted")]
    Interrupted,
}
