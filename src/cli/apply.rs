//! Commands that change the host.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use hostctl::host::{
    self, Host, Loss, Outcome, Preview, Restart, Step, Unconfirmed, newest_readable_generation,
};
use hostctl::reach::Change;
use hostctl::spec::Checked;
use hostctl::topology::Topology;
use serde_json::json;

use super::change::add_proof;
use super::diff;
use super::failure::placed;
use super::progress::{self, Progress};
use super::prove_first::{Prove, told};
use super::spec::{SpecFile, load, load_quietly};
use super::summary::summary;
use super::wait::Wait;
use super::{Context, Failure, line, output, topology_json};

#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    file: SpecFile,
    /// Look at the whole host, as `hostctl apply --full` does.
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    prove: Prove,
}

#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    file: SpecFile,
    /// Return to what was confirmed last unless `hostctl confirm` comes within TIME
    /// (`60s`, `5m`): for a change that may cut the session it is made from.
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm: Option<Duration>,
    /// Start guests again for which something waits, or those of NAME.
    ///
    /// Without it a running guest goes on as it was started: what can't be
    /// changed while it runs waits for its next start. What confines it changes
    /// at once.
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..,
        require_equals = true,
        value_delimiter = ',',
        conflicts_with_all = ["confirm", "firewall_only"]
    )]
    restart: Option<Vec<String>>,
    /// Load the firewall, and nothing else: for the time before the network is up.
    ///
    /// Makes no link, starts no guest, keeps no generation. Where the spec is
    /// refused, or its firewall, the one that was applied last is loaded, and the
    /// command fails all the same.
    #[arg(long, conflicts_with_all = ["confirm", "prove"])]
    firewall_only: bool,
    /// Look at the whole host, and repair what others changed anywhere.
    ///
    /// Without it, where the last apply came to its end and the spec says something
    /// else now, what differs is looked at, changed and verified, and the rest is
    /// left as it is. Where the spec says nothing else, all of it is looked at
    /// anyway.
    #[arg(long)]
    full: bool,
    /// Also where the spec removes all networks or all guests: don't ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    prove: Prove,
    #[command(flatten)]
    wait: Wait,
}

/// Between a second and a day.
fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
    if range.contains(&time) { Ok(time) } else { Err("take 1s to 1day".into()) }
}

#[derive(Debug, Args)]
pub struct Down {
    /// Print the steps and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
}

/// The machine, changed by this program.
pub fn host(context: &Context) -> Result<Host, Failure> {
    let program = std::env::current_exe();
    let program =
        program.map_err(|error| Failure::other(format!("can't find this program's own file: {error}")))?;
    Ok(Host { root: context.root.clone(), program })
}

pub async fn plan(context: &Context, arguments: &Plan) -> Result<(), Failure> {
    let file = &arguments.file;
    let Checked { spec, compiled: topology, .. } = load(context, file)?;
    let loss = Loss::of(&context.root, &spec)?;
    let advice = host::advice(&topology, host::Machine::here());
    if !context.json {
        if let Some(loss) = &loss {
            line(format!("{loss}: hostctl apply asks first, or needs --yes\n"))?;
        }
        advice.iter().for_each(|note| context.note(note));
    }
    let preview = host(context)?.preview(&spec, &topology, arguments.full).await;
    let preview = preview.map_err(|error| placed(context, Some(file), error))?;
    let proved = arguments.prove.rehearsed(context, &topology).await;
    let proved = proved.map_err(|error| placed(context, Some(file), error))?;
    let change = since_last(context, &topology);
    if context.json {
        let change = change.map(|(_, change)| change);
        let mut value = json!({
            "steps": steps_json(&preview.steps),
            "addresses": topology_json::moves(&preview.moves),
            "pending": preview.pending,
            "removes": loss,
            "notes": advice,
            "widens": change.as_ref().map(Change::widens),
            "changes": change.map(|change| change.lines),
        });
        add_proof(&mut value, proved.as_ref());
        return output::json(&value);
    }
    print_preview(context, &preview)?;
    if let Some(extent) = &proved {
        told(extent)?;
    }
    match change.filter(|(_, change)| !change.lines.is_empty()) {
        Some((since, change)) => {
            line(format!("\nwho reaches whom, compared with {since}:"))?;
            diff::print(&change)
        }
        None => Ok(()),
    }
}

/// What opens and closes since what was applied last, and what that is.
fn since_last(context: &Context, topology: &Topology) -> Option<(String, Change)> {
    let before = newest_readable_generation(&context.root).and_then(|(last, _)| match last {
        Some(last) => Ok((format!("generation {}", last.number), last.compile()?)),
        None => Ok(("an empty host".into(), Topology::empty())),
    });
    match before {
        Ok((since, before)) => Some((since, Change::between(&before, topology))),
        Err(error) => {
            context.note(format!("what opens and closes can't be said: {error}"));
            None
        }
    }
}

pub fn steps_json(steps: &[Step]) -> Vec<serde_json::Value> {
    steps.iter().map(|step| json!({ "commands": step.commands(), "reason": step.reason() })).collect()
}

/// Prints steps that would be done.
pub fn print_steps(context: &Context, steps: &[Step]) -> Result<(), Failure> {
    if context.json {
        return output::json(&json!({ "steps": steps_json(steps) }));
    }
    if steps.is_empty() {
        return line("nothing to do");
    }
    line(steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// What would be done, and what guests are given.
pub fn preview_json(preview: &Preview) -> serde_json::Value {
    json!({ "steps": steps_json(&preview.steps), "addresses": topology_json::moves(&preview.moves), "pending": preview.pending })
}

/// Prints what would be done, and what guests are given.
pub fn print_preview(context: &Context, preview: &Preview) -> Result<(), Failure> {
    if context.json {
        return output::json(&preview_json(preview));
    }
    print_steps(context, &preview.steps)?;
    if !preview.moves.is_empty() {
        line("\naddresses that are new or move:")?;
    }
    preview.moves.iter().try_for_each(|moved| line(format!("  {moved}")))?;
    if !preview.pending.is_empty() {
        line("\nwaits for the next start (hostctl apply --restart):")?;
    }
    preview.pending.iter().try_for_each(|waiting| line(format!("  {waiting}")))
}

pub async fn apply(context: &Context, arguments: &Apply) -> Result<(), Failure> {
    if arguments.firewall_only {
        return load_firewall(context, arguments).await;
    }
    let host = host(context)?;
    let progress = Progress::of_apply(context, arguments.yes, arguments.wait);
    let mut progress = progress.proving(arguments.prove.prove).looking_at_all(arguments.full);
    let lock = host.begin_with("apply", &mut progress)?;
    let checked = load(context, &arguments.file)?;
    let (spec, topology) = (&checked.spec, &checked.compiled);
    let Some(time) = arguments.confirm else {
        let restart = restart(arguments.restart.as_deref(), topology)?;
        let outcome = host.apply_restarting(&lock, (spec, topology), &restart, &mut progress).await;
        let outcome = outcome.map_err(|error| placed(context, Some(&arguments.file), error))?;
        progress.clear();
        return print_outcome(context, &outcome);
    };
    let outcome = host.apply_unconfirmed(&lock, (spec, topology), time, &mut progress).await;
    let outcome = outcome.map_err(|error| placed(context, Some(&arguments.file), error))?;
    progress.clear();
    print_outcome(context, &outcome)?;
    match host::unconfirmed(&context.root)? {
        Some(waiting) if !context.json => line(unconfirmed(&waiting)),
        _ => Ok(()),
    }
}

/// What happens unless somebody confirms.
pub fn unconfirmed(waiting: &Unconfirmed) -> String {
    let returns = match waiting.returns_to {
        Some(number) => format!("to generation {number}"),
        None => "to what it was before hostctl".into(),
    };
    match waiting.generation {
        Some(number) => {
            format!(
                "generation {number} is unconfirmed, reverts in {} s {returns} (hostctl confirm keeps it)",
                waiting.seconds
            )
        }
        None => format!("an apply that has to be confirmed isn't done; the host reverts {returns}"),
    }
}

/// Whom the operator lets be started again.
fn restart(asked: Option<&[String]>, topology: &Topology) -> Result<Restart, Failure> {
    let Some(names) = asked else { return Ok(Restart::No) };
    if names.is_empty() {
        return Ok(Restart::All);
    }
    let known = |name: &String| match topology.vm(name) {
        Some(vm) => Ok(vm.name.clone()),
        None => Err(Failure::other(format!("--restart={name}: there is no VM {name} in the spec"))),
    };
    Ok(Restart::Named(names.iter().map(known).collect::<Result<_, _>>()?))
}

async fn load_firewall(context: &Context, arguments: &Apply) -> Result<(), Failure> {
    let mut progress = Progress::of_apply(context, arguments.yes, arguments.wait);
    let read = || load_quietly(context, &arguments.file);
    let loaded = host(context)?.load_firewall(read, &mut progress).await;
    progress.clear();
    match loaded {
        Ok(outcome) => print_outcome(context, &outcome),
        Err(unloaded) => {
            context.note(&unloaded.consequence);
            Err(unloaded.cause.into())
        }
    }
}

pub async fn down(context: &Context, arguments: &Down) -> Result<(), Failure> {
    let host = host(context)?;
    if arguments.dry_run {
        return print_steps(context, &host.removal().await?);
    }
    let outcome = host.down(&mut Progress::new(context, arguments.wait)).await?;
    print_outcome(context, &outcome)
}

pub async fn cleanup(context: &Context, arguments: &Down) -> Result<(), Failure> {
    down(context, arguments).await?;
    if !arguments.dry_run {
        host(context)?.forget_commands(&mut Progress::new(context, arguments.wait))?;
    }
    Ok(())
}

pub fn print_outcome(context: &Context, outcome: &Outcome) -> Result<(), Failure> {
    for note in &outcome.notes {
        context.note(note);
    }
    if context.json {
        let commands: Vec<_> = outcome.steps.iter().flat_map(Step::commands).collect();
        let unconfirmed = host::unconfirmed(&context.root)?;
        return output::json(
            &json!({ "steps": commands, "generation": outcome.generation, "unconfirmed": unconfirmed }),
        );
    }
    // Whoever saw the commands go by knows.
    if progress::is_one_line(context) && std::io::stdout().is_terminal() {
        summary(&outcome.steps).into_iter().try_for_each(line)?;
    }
    let steps = output::count(outcome.steps.len(), "step");
    match (outcome.steps.is_empty(), outcome.generation) {
        (true, _) => line("nothing to do"),
        (false, Some(generation)) => line(format!("done: {steps}, generation {generation}")),
        (false, None) => line(format!("done: {steps}")),
    }
}
