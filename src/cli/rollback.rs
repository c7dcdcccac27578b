//! `hostctl generations`, `hostctl rollback`, `hostctl confirm`.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use hostctl::host::{self, Entry, Files, Step};
use serde_json::json;

use super::apply::{host, preview_json, print_outcome, print_preview};
use super::change::add_proof;
use super::progress::Progress;
use super::prove_first::{Prove, told};
use super::wait::Wait;
use super::{Context, Failure, line, output};

/// Most changes that a line of the table names.
const MOST_CHANGES: usize = 5;

#[derive(Debug, Args)]
pub struct Rollback {
    /// The generation to return to; default: the one before the current one.
    number: Option<u64>,
    /// Print the steps and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    prove: Prove,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, Args)]
pub struct Confirm {
    #[command(flatten)]
    wait: Wait,
}

pub fn generations(context: &Context) -> Result<(), Failure> {
    let entries = host::history(&context.root)?;
    if context.json {
        return output::json(&entries);
    }
    if entries.is_empty() {
        return line("nothing is applied yet");
    }
    let rows = entries.iter().map(|entry| {
        let time = |seconds| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds));
        let when = entry.applied_at.map_or("-".into(), |seconds| time(seconds).to_string());
        let by = entry.command.clone().unwrap_or_else(|| "-".into());
        [entry.number.to_string(), when, by, changed(entry), state(entry)]
    });
    output::table(&["GENERATION", "APPLIED", "BY", "CHANGED", "STATE"], rows)
}

fn changed(entry: &Entry) -> String {
    match &entry.changes {
        None => "-".into(),
        Some(changes) if changes.is_empty() => "nothing".into(),
        Some(changes) => {
            let shown: Vec<&str> = changes.iter().take(MOST_CHANGES).map(String::as_str).collect();
            match changes.len().saturating_sub(MOST_CHANGES) {
                0 => shown.join(", "),
                more => format!("{} and {more} more", shown.join(", ")),
            }
        }
    }
}

fn state(entry: &Entry) -> String {
    let words = [
        entry.current.then(|| "current".into()),
        entry.unconfirmed.map(|seconds| format!("unconfirmed, reverts in {seconds} s")),
        entry.error.as_ref().map(|_| "can't be read".into()),
    ];
    words.into_iter().flatten().collect::<Vec<String>>().join(", ")
}

pub fn confirm(context: &Context, arguments: &Confirm) -> Result<(), Failure> {
    let generation = host(context)?.confirm(&mut Progress::new(context, arguments.wait))?;
    if context.json {
        return output::json(&json!({ "generation": generation }));
    }
    line(format!("generation {generation} is confirmed"))
}

pub async fn rollback(context: &Context, arguments: &Rollback) -> Result<(), Failure> {
    let host = host(context)?;
    if arguments.dry_run {
        let (to, preview, files) = host.plan_rollback(arguments.number).await?;
        let topology = host::read_generation(&context.root, to)?.compile()?;
        let proved = arguments.prove.rehearsed(context, &topology).await?;
        if !context.json {
            eprintln!("note: to generation {to}");
            tell(&files, false);
        }
        if context.json {
            let mut value = preview_json(&preview);
            add_proof(&mut value, proved.as_ref());
            return output::json(&value);
        }
        print_preview(context, &preview)?;
        return proved.as_ref().map_or(Ok(()), told);
    }
    let mut progress = Progress::new(context, arguments.wait).proving(arguments.prove.prove);
    let done = host.rollback(arguments.number, &mut progress).await?;
    if context.json {
        for note in &done.outcome.notes {
            context.note(note);
        }
        let commands: Vec<_> = done.outcome.steps.iter().flat_map(Step::commands).collect();
        return output::json(&json!({
            "to": done.to,
            "steps": commands,
            "generation": done.outcome.generation,
            "files": done.files,
        }));
    }
    print_outcome(context, &done.outcome)?;
    tell(&done.files, true);
    Ok(())
}

/// Says what the spec's files say, where that isn't what the host is.
fn tell(files: &Files, done: bool) {
    match files {
        Files::Agree => {}
        Files::Restored(path) if done => eprintln!("note: {} is what it was then", path.display()),
        Files::Restored(path) => eprintln!("note: {} would be what it was then", path.display()),
        Files::Differ(changes) => eprintln!(
            "note: the spec's files still say otherwise, and the next hostctl apply does what they say: {}",
            changes.join(", ")
        ),
    }
}
