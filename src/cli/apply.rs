//! Commands that change the host.

use clap::Args;
use hostctl::host::{Host, HostError, Outcome, Step, Watch};
use serde_json::json;

use super::spec::{SpecFile, load, load_quietly};
use super::{Context, Failure, line, output};

#[derive(Debug, Args)]
pub struct Down {
    /// Print the steps and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    file: SpecFile,
    /// Load the firewall, and nothing else: for the time before the network is up.
    ///
    /// Makes no link, starts no guest, keeps no generation. Where the spec is
    /// refused, or its firewall, the one that was applied last is loaded, and the
    /// command fails all the same.
    #[arg(long)]
    firewall_only: bool,
}

/// The machine, changed by this program.
pub fn host(context: &Context) -> Result<Host, Failure> {
    let program = std::env::current_exe();
    let program =
        program.map_err(|error| Failure::other(format!("can't find this program's own file: {error}")))?;
    Ok(Host { root: context.root.clone(), program })
}

/// Prints each step as it is done.
pub struct Progress {
    /// Prints nothing.
    pub quiet: bool,
}

impl Watch for Progress {
    fn before(&mut self, number: usize, total: usize, step: &Step) -> Result<(), HostError> {
        if !self.quiet {
            let width = total.to_string().len();
            eprintln!("[{number:width$}/{total}] {}", first_line(step));
        }
        Ok(())
    }

    fn rolling_back(&mut self, to: u64) {
        if !self.quiet {
            eprintln!("failed; returning to generation {to}");
        }
    }
}

fn first_line(step: &Step) -> String {
    let text = step.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_string();
    match lines.count() {
        0 => first,
        more => format!("{first} … and {more} more"),
    }
}

pub async fn plan(context: &Context, file: &SpecFile) -> Result<(), Failure> {
    let topology = load(context, file)?.compiled;
    print_steps(context, &host(context)?.plan(&topology).await?)
}

/// Prints steps that would be done.
pub fn print_steps(context: &Context, steps: &[Step]) -> Result<(), Failure> {
    if context.json {
        let steps: Vec<_> = steps
            .iter()
            .map(|step| json!({ "commands": step.commands(), "reason": step.reason() }))
            .collect();
        return output::json(&json!({ "steps": steps }));
    }
    if steps.is_empty() {
        return line("nothing to do");
    }
    for step in steps {
        line(step)?;
    }
    Ok(())
}

pub async fn apply(context: &Context, arguments: &Apply) -> Result<(), Failure> {
    if arguments.firewall_only {
        return load_firewall(context, &arguments.file).await;
    }
    let checked = load(context, &arguments.file)?;
    let mut progress = Progress { quiet: context.json };
    let outcome = host(context)?.apply(&checked.spec, &checked.compiled, &mut progress).await?;
    print_outcome(context, &outcome)
}

async fn load_firewall(context: &Context, file: &SpecFile) -> Result<(), Failure> {
    let loaded = load_quietly(context, file);
    let wanted = loaded.as_ref().map(|checked| &checked.compiled).map_err(Clone::clone);
    let mut progress = Progress { quiet: context.json };
    match host(context)?.load_firewall(wanted, &mut progress).await {
        Ok(outcome) => print_outcome(context, &outcome),
        Err(unloaded) => {
            eprintln!("note: {}", unloaded.consequence);
            Err(unloaded.cause.into())
        }
    }
}

pub async fn down(context: &Context, arguments: &Down) -> Result<(), Failure> {
    let host = host(context)?;
    if arguments.dry_run {
        return print_steps(context, &host.removal().await?);
    }
    let outcome = host.down(&mut Progress { quiet: context.json }).await?;
    print_outcome(context, &outcome)
}

pub async fn cleanup(context: &Context, arguments: &Down) -> Result<(), Failure> {
    down(context, arguments).await?;
    if !arguments.dry_run {
        host(context)?.forget_commands()?;
    }
    Ok(())
}

fn print_outcome(context: &Context, outcome: &Outcome) -> Result<(), Failure> {
    for note in &outcome.notes {
        eprintln!("note: {note}");
    }
    if context.json {
        let commands: Vec<_> = outcome.steps.iter().flat_map(Step::commands).collect();
        return output::json(&json!({ "steps": commands, "generation": outcome.generation }));
    }
    let steps = output::count(outcome.steps.len(), "step");
    match (outcome.steps.is_empty(), outcome.generation) {
        (true, _) => line("nothing to do"),
        (false, Some(generation)) => line(format!("done: {steps}, generation {generation}")),
        (false, None) => line(format!("done: {steps}")),
    }
}
