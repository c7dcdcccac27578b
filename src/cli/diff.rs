//! `hostctl diff`, and the end of `hostctl plan`: who reaches whom, before and
//! after.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hostctl::host::read_generation;
use hostctl::reach::{Change, Line};
use hostctl::topology::Topology;
use serde_json::json;

use super::explain::brief;
use super::spec::{SpecFile, load};
use super::terminal::{Tone, paint};
use super::{Context, Failure, line, output};

#[derive(Debug, Args)]
pub struct Diff {
    /// The old spec: a file, or a generation's number.
    old: String,
    /// The new spec, likewise; default: /etc/hostctl/host.toml and its drop-ins.
    new: Option<String>,
    /// Exit with 1 where something opens.
    #[arg(long)]
    exit_code: bool,
}

/// Prints what opens and closes; gives the exit code.
pub fn diff(context: &Context, arguments: &Diff) -> Result<ExitCode, Failure> {
    let old = topology(context, Some(&arguments.old))?;
    let new = topology(context, arguments.new.as_deref())?;
    let change = Change::between(&old, &new);
    if context.json {
        output::json(&json!({ "widens": change.widens(), "changes": change.lines }))?;
    } else {
        print(&change)?;
    }
    let failed = arguments.exit_code && change.widens();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The spec that `what` names.
fn topology(context: &Context, what: Option<&str>) -> Result<Topology, Failure> {
    match what.and_then(|what| what.parse().ok()) {
        Some(number) => Ok(read_generation(&context.root, number)?.compile()?),
        None => Ok(load(context, &SpecFile { spec: what.map(PathBuf::from) })?.compiled),
    }
}

/// Prints a change, a line for each part of it, and what it comes to.
pub fn print(change: &Change) -> Result<(), Failure> {
    if change.lines.is_empty() {
        return line("nobody reaches more or less than before");
    }
    for part in &change.lines {
        line(text(part))?;
    }
    let opens = change.lines.iter().filter(|line| line.opens).count();
    let closes = change.lines.len() - opens;
    line(match (opens, closes) {
        (0, _) => "nothing opens: guests reach less than before".to_string(),
        (_, 0) => format!("{} {}", paint("WIDER:", Tone::Bad), verb(opens, "opens", "open")),
        _ => format!(
            "{} {}, {}",
            paint("WIDER:", Tone::Bad),
            verb(opens, "opens", "open"),
            verb(closes, "closes", "close")
        ),
    })
}

fn verb(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn text(part: &Line) -> String {
    let sign = if part.opens { paint("+ OPENS ", Tone::Bad) } else { "- closes".into() };
    format!("{sign} {} -> {}: {}", brief(&part.from), brief(&part.to), part.services)
}
