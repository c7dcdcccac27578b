//! The generations, for people.

use serde::Serialize;

use crate::root_dir::RootDir;

use super::generation;
use crate::host::apply::changes::changes;
use crate::host::confirm::unconfirmed;
use crate::host::{Generation, HostError};
use crate::spec::HostSpec;

/// One generation of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// When it was applied, in seconds since 1970-01-01 UTC.
    pub applied_at: Option<u64>,
    /// By which command.
    pub command: Option<String>,
    /// The generation that it returned to, where it is a rollback.
    pub from: Option<u64>,
    /// What it changed of the one before (`+network a`); none where that one
    /// isn't kept any more.
    pub changes: Option<Vec<String>>,
    /// Whether it is the newest.
    pub current: bool,
    /// In how many seconds the host returns to the one before, where it waits
    /// for a confirmation.
    pub unconfirmed: Option<u64>,
    /// Why it can't be read, where it can't.
    pub error: Option<String>,
}

/// The generations that are kept, the oldest first. One that can't be read is
/// listed with the reason.
///
/// # Errors
/// Where their directory can't be read.
pub fn history(root: &RootDir) -> Result<Vec<Entry>, HostError> {
    let numbers = generation::numbers(root)?;
    let waiting = unconfirmed::unconfirmed(root)?;
    let mut entries: Vec<Entry> = Vec::new();
    // The first generation of all changed an empty host.
    let mut before = (numbers.first() == Some(&1)).then(HostSpec::default);
    for number in &numbers {
        let current = numbers.last() == Some(number);
        let unconfirmed = waiting.as_ref().filter(|waiting| waiting.generation == Some(*number));
        let unconfirmed = unconfirmed.map(|waiting| waiting.seconds);
        let number = *number;
        let entry = match generation::read(root, number) {
            Ok(Generation { applied_at, command, from, spec, .. }) => {
                let changes = before.as_ref().map(|before| changes(before, &spec));
                before = Some(spec);
                let applied_at = Some(applied_at);
                Entry { number, applied_at, command, from, changes, current, unconfirmed, error: None }
            }
            Err(error) => {
                before = None;
                let error = Some(error.to_string());
                let (applied_at, command, from, changes) = (None, None, None, None);
                Entry { number, applied_at, command, from, changes, current, unconfirmed, error }
            }
        };
        entries.push(entry);
    }
    Ok(entries)
}
