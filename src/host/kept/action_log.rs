//! What was changed, when, by what, with which result: for people who ask
//! later.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::bounded::append;
use crate::private;
use crate::root_dir::RootDir;
use crate::shown;
use crate::whole_file;

use crate::host::{HostError, Outcome};

/// Longer ones are put aside, in bytes; one old one is kept.
const LONGEST: u64 = 1024 * 1024;

/// Events of this target are actions: for whoever keeps them besides the file.
pub const TARGET: &str = "hostctl_action";

/// Writes a line to `<state>/hostctl.log`, and tells tracing's subscribers.
/// That it can't be written takes nothing back of what was done.
pub fn write(root: &RootDir, action: &str, result: &Result<Outcome, HostError>) {
    let told = match result {
        Ok(outcome) if outcome.steps.is_empty() => return,
        Ok(outcome) => match outcome.generation {
            Some(generation) => format!("done: {} steps, generation {generation}", outcome.steps.len()),
            None => format!("done: {} steps", outcome.steps.len()),
        },
        Err(error) => format!("failed: {error}"),
    };
    // One line each, whatever an error says.
    let entry = shown::line(&format!("{action}: {told}"));
    match result {
        Ok(outcome) => {
            let (steps, generation) = (outcome.steps.len(), outcome.generation);
            tracing::info!(target: TARGET, command = action, result = "done", steps, generation, "{entry}");
        }
        Err(_) => tracing::error!(target: TARGET, command = action, result = "failed", "{entry}"),
    }
    if let Err(error) = add(root, &entry) {
        tracing::warn!("can't write {}: {error}", path(root).display());
    }
}

fn path(root: &RootDir) -> PathBuf {
    root.state().join("hostctl.log")
}

fn add(root: &RootDir, entry: &str) -> std::io::Result<()> {
    let path = path(root);
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    private::directory(&root.state())?;
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LONGEST) {
        whole_file::rename(&path, &path.with_extension("log.1"))?;
    }
    let mut log = append(&path)?;
    writeln!(log, "{time} {entry}")?;
    log.sync_data()
}
