//! Why the host isn't as the spec says.

use std::io;
use std::path::PathBuf;

use crate::app::AppError;
use crate::firewall::{NftError, PolicyTooLarge, TemplateFault};
use crate::link::{Conflict, LinkError};
use crate::prove::Answer;
use crate::spec::{EditError, SpecError};
use crate::topology::{Name, NamespaceNameError};
use crate::vm::VmError;

use super::Loss;

/// Why a host couldn't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Not root.
    #[error("hostctl changes links and firewall rules: run it as root")]
    NotRoot,
    /// Another hostctl is at it.
    #[error("the host is being changed by {0}: wait for it, or end it")]
    Locked(String),
    /// The root directory is another hostctl's.
    #[error(
        "{} is kept by the hostctl of another network namespace: {what}\n  \
         hint: run this there, or give this namespace a directory of its own with --root-dir",
        root.display()
    )]
    Elsewhere {
        /// The root directory.
        root: PathBuf,
        /// What shows it.
        what: String,
    },
    /// Things on the host that hostctl didn't make are in the way; nothing was
    /// touched.
    #[error("nothing was changed:\n  {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Conflicts(Vec<Conflict>),
    /// Guests that would be started and can't; nothing was touched.
    #[error(
        "nothing was changed:\n  {}",
        .0.iter().map(|(name, why)| format!("VM {name}: {why}")).collect::<Vec<_>>().join("\n  ")
    )]
    Unbootable(Vec<(Name, VmError)>),
    /// Apps that would be started and can't; nothing was touched.
    #[error("nothing was changed:\n  {}", .0.iter().map(|(_, why)| why.to_string()).collect::<Vec<_>>().join("\n  "))]
    Unstartable(Vec<(Name, AppError)>),
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
    #[error("{cause}\n  {} still says the change, and can't be restored ({error}): edit or remove it", path.display())]
    Unrestored {
        /// Why the change failed.
        cause: Box<HostError>,
        /// The drop-in.
        path: PathBuf,
        /// Why it can't be restored.
        error: Box<HostError>,
    },
    /// There is no such generation.
    #[error("there is no generation {number}; {}", range(kept))]
    NoGeneration {
        /// The number that was asked for.
        number: u64,
        /// Those that are there, in order.
        kept: Vec<u64>,
    },
    /// There is no generation before.
    #[error("there is no generation to return to: hostctl generations lists those that are kept")]
    NoEarlier,
    /// A generation's file is torn, or somebody edited it.
    #[error("generation {number} can't be read ({}: {source}): hostctl apply keeps a new one", path.display())]
    Unreadable {
        /// Its number.
        number: u64,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A generation that an earlier version of hostctl applied.
    #[error("generation {number} isn't valid any more: {reason}")]
    Outdated {
        /// Its number.
        number: u64,
        /// The first thing that is wrong with it.
        reason: String,
    },
    /// The host was rolled back, and the spec's files still say what it was.
    #[error(
        "the host was rolled back, as generation {number}, and the spec's files say otherwise: {}\n  \
         hint: bring the files in line, or run hostctl apply to have what they say; then run this again",
        changes.join(", ")
    )]
    FilesDiffer {
        /// The newest generation.
        number: u64,
        /// What an apply of the files would change.
        changes: Vec<String>,
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
    /// The tables belong to a process that isn't this root directory's holder.
    #[error(
        "hostctl's tables belong to another process (netlink port {0}), and only that one may change them\n  \
         hint: hostctl firewall hold runs elsewhere, or hangs: end it, then run this again"
    )]
    HeldByAnother(u32),
    /// A holder runs already.
    #[error("the tables are held already, by the process {0}")]
    HolderRuns(i32),
    /// The socket that tables belong to.
    #[error("can't hold the firewall's tables: {0}")]
    Hold(#[source] io::Error),
    /// Tracked flows.
    #[error("can't end the flows that are no longer allowed: {0}")]
    Flows(#[source] io::Error),
    /// Their marks.
    #[error("can't take back the marks of flows that older rules have judged: {0}")]
    Marks(#[source] io::Error),
    /// Links.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Apps.
    #[error(transparent)]
    App(#[from] AppError),
    /// A namespace's name.
    #[error(transparent)]
    Namespace(#[from] NamespaceNameError),
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
    /// All networks or all guests would go, and nobody said that they shall.
    #[error("{0}: nothing was changed\n  hint: hostctl apply --yes does it")]
    Unconsented(Loss),
    /// Rules that were to be proved before they are loaded, and aren't; nothing was
    /// touched.
    #[error("nothing was changed: {}", unproved(.0))]
    Unproved(Box<Answer>),
    /// A change that wasn't a step's failure.
    #[error("{cause}\n  {consequence}")]
    TakenBack {
        /// Why.
        cause: Box<HostError>,
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
    /// A change waits for its confirmation.
    #[error(
        "{} isn't confirmed yet and goes in {seconds} s\n  \
         hint: hostctl confirm keeps it, hostctl rollback takes it back now, hostctl apply --confirm TIME tries another",
        which(generation)
    )]
    Unconfirmed {
        /// Its generation; none while it is being applied.
        generation: Option<u64>,
        /// How long it is waited for.
        seconds: u64,
    },
    /// The spec is the one that nobody confirmed; the host is as it was before.
    #[error(
        "the spec is that of {}, which wasn't confirmed: the host stays as it was before\n  \
         hint: change the spec's files, or try it again with hostctl apply --confirm TIME",
        which(generation)
    )]
    Rejected {
        /// Its generation.
        generation: Option<u64>,
    },
    /// Nothing waits for a confirmation.
    #[error("there is nothing to confirm: hostctl apply --confirm TIME waits for it")]
    NothingToConfirm,
    /// The confirmation came after the time.
    #[error("it is too late to confirm: the host returns to what it was before")]
    TooLate,
    /// Nobody would return to the last generation.
    #[error("can't start a process that waits for the confirmation: {0}")]
    NoWatchdog(#[source] io::Error),
    /// The caller of an apply wanted it to end.
    #[error("interrupted")]
    Interrupted,
}

/// Why rules aren't loaded.
fn unproved(answer: &Answer) -> String {
    match answer {
        Answer::Equal(_) => "the rules are proved".into(),
        Answer::Unknown(unknown) => format!(
            "nobody can say whether the rules do with every packet what the spec says: {unknown}\n  \
             hint: without --prove they are loaded unproved"
        ),
        Answer::Different(found) => {
            let first = found.first().map(ToString::to_string).unwrap_or_default();
            format!(
                "the rules that would be loaded don't do with every packet what the spec says:\n  {first}"
            )
        }
    }
}

/// `generation 7`.
fn which(generation: &Option<u64>) -> String {
    generation.map_or("an apply".into(), |number| format!("generation {number}"))
}

/// `those from 3 to 52 are kept`.
fn range(kept: &[u64]) -> String {
    match kept {
        [] => "none is kept yet".into(),
        [only] => format!("{only} is kept"),
        [first, .., last] => format!("those from {first} to {last} are kept"),
    }
}
