//! What was changed, when, by what, with which result: for people who ask
//! later.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::SystemTime;

use crate::root_dir::RootDir;

use super::{HostError, Outcome};

/// Longer ones are put aside, in bytes; one old one is kept.
const LONGEST: u64 = 1024 * 1024;

/// Writes a line to `<state>/hostctl.log`. That it can't be written takes
/// nothing back of what was done.
pub fn write(root: &RootDir, action: &str, result: &Result<Outcome, HostError>) {
    let told = match result {
        Ok(outcome) if outcome.steps.is_empty() => return,
        Ok(outcome) => match outcome.generation {
            Some(generation) => format!("done: {} steps, generation {generation}", outcome.steps.len()),
            None => format!("done: {} steps", outcome.steps.len()),
        },
        Err(error) => format!("failed: {error}"),
    };
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    // One line each, whatever an error says.
    let line: String =
        format!("{time} {action}: {told}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let path = root.state().join("hostctl.log");
    let append = || -> std::io::Result<()> {
        fs::create_dir_all(root.state())?;
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LONGEST) {
            fs::rename(&path, path.with_extension("log.1"))?;
        }
        writeln!(OpenOptions::new().append(true).create(true).open(&path)?, "{line}")
    };
    if let Err(error) = append() {
        tracing::warn!("can't write {}: {error}", path.display());
    }
}
