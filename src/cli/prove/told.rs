//! A proof's answer, for people and for programs.

use std::time::Duration;

use hostctl::prove::{Answer, Claimed, Counterexample, Extent, RulePlace};
use hostctl::reach::Judgement;
use hostctl::shown;
use hostctl::spec::Checked;
use hostctl::topology::Topology;
use serde_json::{Value, json};

use crate::cli::explain::place;
use crate::cli::terminal::{Tone, paint};
use crate::cli::{Context, Failure, line, output};

use super::unproved;

/// Prints an answer; an error where it isn't "equal".
pub fn tell(
    context: &Context,
    checked: &Checked<Topology>,
    answer: &Answer,
    time: Duration,
) -> Result<(), Failure> {
    if context.json && !matches!(answer, Answer::Unknown(_)) {
        output::json(&answer_json(checked, answer, time))?;
    }
    print_answer(context, checked, answer, time)?;
    match answer {
        Answer::Equal(extent) if !context.json => print_dead(&extent.dead),
        _ => Ok(()),
    }
}

/// As [`tell`], for who prints the JSON with something else; rules that decide
/// nothing aren't named.
pub fn print_answer(
    context: &Context,
    checked: &Checked<Topology>,
    answer: &Answer,
    time: Duration,
) -> Result<(), Failure> {
    match answer {
        Answer::Equal(_) if context.json => Ok(()),
        Answer::Equal(extent) => print_equal(extent, time),
        Answer::Unknown(unknown) => Err(unproved(unknown)),
        Answer::Different(found) => {
            if !context.json {
                found.iter().flat_map(|one| different_lines(Some(checked), one)).try_for_each(line)?;
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
    ))
}

/// Rules that would decide, and never do: most are for what this host hasn't, since
/// the rules are the same on every host.
fn print_dead(dead: &[RulePlace]) -> Result<(), Failure> {
    if dead.is_empty() {
        return Ok(());
    }
    line(format!(
        "\n{} about no packet: rules before them do, or they are for what this host hasn't (IPv6, a tailnet, a \
         private subnet)",
        match dead.len() {
            1 => "1 rule decides".into(),
            more => format!("{more} rules decide"),
        }
    ))?;
    dead.iter().try_for_each(|rule| line(format!("  {}", rule_text(Some(rule)))))
}

/// An answer for programs; null where nothing can be said.
pub fn answer_json(checked: &Checked<Topology>, answer: &Answer, time: Duration) -> Value {
    match answer {
        Answer::Equal(extent) => json!({
            "answer": "equal",
            "senders": extent.slices,
            "hooks": extent.cases,
            "rules": extent.rules.len(),
            "dead": extent.dead.iter().map(rule_json).collect::<Vec<_>>(),
            "seconds": time.as_secs_f64(),
        }),
        Answer::Different(found) => {
            let found: Vec<Value> = found.iter().map(|one| different_json(checked, one)).collect();
            json!({ "answer": "different", "packets": found })
        }
        Answer::Unknown(_) => Value::Null,
    }
}

fn different_json(checked: &Checked<Topology>, found: &Counterexample) -> Value {
    json!({
        "packet": found.packet.to_string(),
        "rules": found.rules.as_str(),
        "rule": found.rule.as_ref().map(rule_json),
        "spec": found.model.outcome().as_str(),
        "why": reasons(Some(checked), &found.model),
    })
}

/// A packet of which rules and spec don't say the same.
pub fn different_lines(checked: Option<&Checked<Topology>>, found: &Counterexample) -> Vec<String> {
    let rule = rule_text(found.rule.as_ref());
    let mut lines = vec![
        shown::line(&found.packet.to_string()),
        format!("  by the rules {}: {rule}", paint(found.rules.as_str(), Tone::Bad)),
        format!("  by the spec  {}:", found.model.outcome().as_str()),
    ];
    lines.extend(reasons(checked, &found.model).iter().map(|reason| format!("    {reason}")));
    lines
}

/// A rule, for people; what its comment says may be anybody's word.
pub fn rule_text(rule: Option<&RulePlace>) -> String {
    match rule {
        Some(rule) => shown::line(&rule.to_string()),
        None => "no rule: a chain's policy, or none is asked".into(),
    }
}

/// A rule, for programs.
pub fn rule_json(rule: &RulePlace) -> Value {
    json!({ "table": rule.table, "chain": rule.chain, "rule": rule.number, "comment": rule.comment })
}

/// What the model says of a packet, stage by stage, with the spec's lines.
pub fn reasons(checked: Option<&Checked<Topology>>, claimed: &Claimed) -> Vec<String> {
    let at = |stage| checked.and_then(|checked| place(checked, stage));
    match claimed {
        Claimed::Port(None) => vec!["port: in the guest's own name".into()],
        Claimed::Port(Some(why)) => vec![format!("port: {why}")],
        Claimed::Judged(Judgement { way, .. }) => way
            .iter()
            .map(|stage| {
                let place = at(stage).map_or_else(String::new, |place| format!(" ({place})"));
                shown::line(&format!("{}: {}{place}", stage.place.as_str(), stage.what))
            })
            .collect(),
    }
}

/// Says what becomes of packets that are really sent.
#[cfg(feature = "testbed")]
pub fn replay(context: &Context, rules: &hostctl::host::Rules, answer: &Answer) {
    let Answer::Different(found) = answer else { return };
    for one in found {
        let fate = match rules.replay(&one.packet) {
            Ok(fate) => fate.as_str().to_string(),
            Err(error) => error.to_string(),
        };
        context.note(format!("as a real packet {fate}: {}", one.packet));
    }
}
