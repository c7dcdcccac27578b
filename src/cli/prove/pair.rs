//! `hostctl prove --why FROM TO`: what is done with every packet of a pair.

use hostctl::packet::Family;
use hostctl::prove::{Class, Pair, Tracked, senders_of, services_text, target_of};
use hostctl::reach::{End, EndError, Model, Side};
use hostctl::shown;
use hostctl::spec::Checked;
use hostctl::topology::Topology;
use serde_json::{Value, json};

use crate::cli::explain::Which;
use crate::cli::terminal::{Tone, paint};
use crate::cli::{Context, Failure, line, output};

use super::reaches::{Addresses, group};
use super::told::{reasons, rule_json, rule_text};
use super::{rules, unproved};

/// Pairs that are told one by one; who asks about more wants `hostctl explain`.
const MOST: usize = 32;

pub async fn why(
    context: &Context,
    checked: &Checked<Topology>,
    (from, to): (&str, &str),
    which: &Which,
    live: bool,
) -> Result<(), Failure> {
    let topology = &checked.compiled;
    let service = which.service()?;
    let unclear = |error: EndError| Failure::other(error.to_string());
    let from = End::sender(topology, from).map_err(unclear)?;
    let to = End::receiver(topology, to).map_err(unclear)?;
    let families = which.families(&from, &to)?;
    let pairs: Vec<(&str, Side<'_>, &str, Side<'_>)> = from
        .sides()
        .flat_map(|(name, side)| to.sides().map(move |(other, receiver)| (name, side, other, receiver)))
        .filter(|(_, from, _, to)| from != to)
        .collect();
    if pairs.len() > MOST {
        let count = output::count(pairs.len(), "pair");
        return Err(Failure::other(format!(
            "that is {count}: name ends with fewer guests, or ask hostctl explain"
        )));
    }
    let rules = rules(context, checked, live).await?;
    let model = Model::new(topology, &rules.vicinity);
    let usual = hostctl::reach::usual();
    let (mut told, mut differs) = (Vec::new(), false);
    if pairs.is_empty() && !context.json {
        line(format!("{} is {}: what it sends itself leaves it by no port", from.name, to.name))?;
    }
    for (name, sender, other, receiver) in pairs {
        let target = target_of(&model, receiver)
            .ok_or_else(|| Failure::other(format!("{other}: the host has no way there")))?;
        let mut classes = Vec::new();
        for from in senders_of(&model, sender) {
            let pair = Pair { from, to: &target, service, families: &families, usual: &usual };
            classes.extend(rules.why(topology, pair).map_err(|unknown| unproved(&unknown))?);
        }
        differs |= !classes.iter().all(Class::agrees);
        let names = Addresses::new(topology);
        if context.json {
            let classes: Vec<Value> = classes.iter().map(|one| class_json(checked, &names, one)).collect();
            told.push(json!({ "from": name, "to": other, "classes": classes }));
        } else {
            line(format!("{}{name} -> {other}", if told.is_empty() { "" } else { "\n" }))?;
            print(checked, &names, &classes)?;
            told.push(Value::Null);
        }
    }
    if context.json {
        output::json(&told)?;
    }
    match differs {
        true => Err(Failure::Found("rules and spec don't say the same of these packets".into())),
        false => Ok(()),
    }
}

fn print(checked: &Checked<Topology>, names: &Addresses<'_>, classes: &[Class]) -> Result<(), Failure> {
    if classes.is_empty() {
        return line("  no packet: not both have an address of a family");
    }
    for family in Family::ALL {
        let (at_port, others): (Vec<&Class>, Vec<&Class>) = classes
            .iter()
            .filter(|class| class.family == family)
            .partition(|class| class.at_port && class.agrees());
        if !at_port.is_empty() || !others.is_empty() {
            line(family_text(family))?;
        }
        others.into_iter().try_for_each(|class| print_one(checked, names, class))?;
        if !at_port.is_empty() {
            line(format!(
                "  {} at the guest's port already, whatever it is for",
                paint("dropped", Tone::Bad)
            ))?;
        }
        for class in at_port {
            let beyond = if class.beyond_limits { ", beyond a limit" } else { "" };
            line(format!("    rule  {}{beyond}", rule_text(class.rule.as_ref())))?;
        }
    }
    Ok(())
}

fn print_one(checked: &Checked<Topology>, names: &Addresses<'_>, class: &Class) -> Result<(), Failure> {
    let verdict = paint(class.rules.as_str(), tone(class));
    let beyond = if class.beyond_limits { ", beyond a limit" } else { "" };
    let place = if class.at_port { " at the guest's port" } else { "" };
    line(format!("  {verdict}{place}{beyond}"))?;
    packets(names, class).into_iter().try_for_each(|text| line(format!("    {text}")))?;
    line(format!("    rule  {}", rule_text(class.rule.as_ref())))?;
    for reason in reasons(Some(checked), &class.model) {
        line(format!("    spec  {reason}"))?;
    }
    if !class.agrees() {
        let says = class.model.outcome().as_str();
        line(format!("    {}: the spec says {says}", paint("DIFFERENT", Tone::Bad)))?;
    }
    line(format!("    as    {}", shown::line(&class.example.to_string())))
}

const fn tone(class: &Class) -> Tone {
    match class.rules {
        hostctl::prove::Outcome::Dropped => Tone::Bad,
        _ => Tone::Good,
    }
}

pub const fn family_text(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// A class's packets: a line for each that has its own addresses or is otherwise
/// tracked.
fn packets(names: &Addresses<'_>, class: &Class) -> Vec<String> {
    let all = group(&class.boxes).into_iter().map(|(one, boxes)| {
        let tracked: Vec<&str> = one.tracked.iter().map(|tracked| tracked.as_str()).collect();
        let tracked =
            if tracked.len() == Tracked::ALL.len() { "all packets".into() } else { tracked.join(", ") };
        let from = names.text(class.family, &one.sources).map(|text| format!(" from {text}"));
        let to = names.text(class.family, &one.destinations).map(|text| format!(" to {text}"));
        let ends = from.unwrap_or_default() + &to.unwrap_or_default();
        format!("{}: {tracked}{ends}", services_text(class.family, boxes))
    });
    all.collect()
}

fn class_json(checked: &Checked<Topology>, names: &Addresses<'_>, class: &Class) -> Value {
    let packets = group(&class.boxes).into_iter().map(|(one, boxes)| {
        json!({
            "tracked": one.tracked.iter().map(|tracked| tracked.as_str()).collect::<Vec<_>>(),
            "sources": names.ranges(class.family, &one.sources),
            "destinations": names.ranges(class.family, &one.destinations),
            "services": services_text(class.family, boxes),
        })
    });
    json!({
        "family": class.family,
        "at_port": class.at_port,
        "beyond_limits": class.beyond_limits,
        "rules": class.rules.as_str(),
        "rule": class.rule.as_ref().map(rule_json),
        "spec": class.model.outcome().as_str(),
        "why": reasons(Some(checked), &class.model),
        "equal": class.agrees(),
        "packets": packets.collect::<Vec<_>>(),
        "example": class.example.to_string(),
    })
}
