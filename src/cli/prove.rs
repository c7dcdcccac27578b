//! `hostctl prove`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use hostctl::host;
use hostctl::prove::{Answer, Claimed, Counterexample, Extent, RulePlace};
use hostctl::reach::Judgement;
use hostctl::spec::Checked;
use hostctl::topology::Topology;
use serde_json::{Value, json};

use super::explain::place;
use super::spec::{SpecFile, load};
use super::terminal::{Tone, paint};
use super::{Context, Failure, line, output};

#[derive(Debug, Args)]
pub struct Prove {
    /// The host spec, TOML or JSON; default: /etc/hostctl/host.toml. Drop-ins of
    /// /var/lib/hostctl/host.d are merged into it.
    spec: Option<PathBuf>,
    /// Prove what the kernel has, not what would be loaded.
    #[arg(long)]
    live: bool,
}

pub async fn prove(context: &Context, arguments: &Prove) -> Result<(), Failure> {
    let checked = load(context, &SpecFile { spec: arguments.spec.clone() })?;
    let topology = &checked.compiled;
    let begun = Instant::now();
    let answer = if arguments.live {
        host::prove_live(&context.root, topology).await?
    } else {
        host::prove_spec(topology)?
    };
    tell(context, &checked, &answer, begun.elapsed())
}

/// Prints an answer; an error where it isn't "equal".
pub fn tell(
    context: &Context,
    checked: &Checked<Topology>,
    answer: &Answer,
    time: Duration,
) -> Result<(), Failure> {
    match answer {
        Answer::Equal(extent) if context.json => output::json(&extent_json(extent, time)),
        Answer::Equal(extent) => print_equal(extent, time),
        Answer::Unknown(unknown) => Err(Failure::other(format!("nothing is proved: {unknown}"))),
        Answer::Different(found) => {
            if context.json {
                let found: Vec<Value> = found.iter().map(|one| different_json(checked, one)).collect();
                output::json(&json!({ "answer": "different", "packets": found }))?;
            } else {
                found.iter().try_for_each(|one| print_different(checked, one))?;
            }
            let count = output::count(found.len(), "kind");
            Err(Failure::Found(format!("rules and spec don't say the same of {count} of packets")))
        }
    }
}

fn print_equal(extent: &Extent, time: Duration) -> Result<(), Failure> {
    line(format!(
        "{} for every packet: {} senders at {} hooks, {} rules decide ({:.2?})",
        paint("equal", Tone::Good),
        extent.slices,
        extent.cases,
        extent.rules.len(),
        time
    ))?;
    if extent.dead.is_empty() {
        return Ok(());
    }
    line("\nrules that decide about no packet here:")?;
    extent.dead.iter().try_for_each(|rule| line(format!("  {rule}")))
}

fn extent_json(extent: &Extent, time: Duration) -> Value {
    json!({
        "answer": "equal",
        "senders": extent.slices,
        "hooks": extent.cases,
        "rules": extent.rules.len(),
        "dead": extent.dead.iter().map(rule_json).collect::<Vec<_>>(),
        "seconds": time.as_secs_f64(),
    })
}

fn rule_json(rule: &RulePlace) -> Value {
    json!({ "table": rule.table, "chain": rule.chain, "rule": rule.number, "comment": rule.comment })
}

fn different_json(checked: &Checked<Topology>, found: &Counterexample) -> Value {
    json!({
        "packet": found.packet.to_string(),
        "rules": found.rules.as_str(),
        "rule": found.rule.as_ref().map(rule_json),
        "spec": found.model.outcome().as_str(),
        "why": reasons(checked, found),
    })
}

fn print_different(checked: &Checked<Topology>, found: &Counterexample) -> Result<(), Failure> {
    line(format!("{}", found.packet))?;
    let rule = found
        .rule
        .as_ref()
        .map_or_else(|| "by no rule: a chain's policy, or none is asked".into(), ToString::to_string);
    line(format!("  by the rules {}: {rule}", paint(found.rules.as_str(), Tone::Bad)))?;
    line(format!("  by the spec  {}:", found.model.outcome().as_str()))?;
    reasons(checked, found).iter().try_for_each(|reason| line(format!("    {reason}")))
}

/// What the model says of a packet, stage by stage, with the spec's lines.
fn reasons(checked: &Checked<Topology>, found: &Counterexample) -> Vec<String> {
    match &found.model {
        Claimed::Port(None) => vec!["port: in the guest's own name".into()],
        Claimed::Port(Some(why)) => vec![format!("port: {why}")],
        Claimed::Judged(Judgement { way, .. }) => way
            .iter()
            .map(|stage| {
                let place = place(checked, stage).map_or_else(String::new, |place| format!(" ({place})"));
                format!("{}: {}{place}", stage.place.as_str(), stage.what)
            })
            .collect(),
    }
}
