//! What other programs' tables do to guests' packets → findings with remedies.

use std::collections::{BTreeMap, BTreeSet};

use crate::firewall::severity::Severity;
use crate::topology::{IfName, Topology};

use super::packet::{Journey, journeys};
use super::program::{Program, program};
use super::ruleset::Foreign;
use super::walk::{Effect, Event, Place, walk};

/// Something of another program's that is in guests' way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hazard {
    /// How bad it is.
    pub severity: Severity,
    /// Which chain or rule.
    pub object: String,
    /// What it does, and to whom.
    pub found: String,
    /// What would do.
    pub expected: String,
    /// What to set where, so that it lasts.
    pub remedy: String,
    /// What helps now.
    pub commands: Vec<String>,
}

/// How many of those that something happens to are named.
const NAMED: usize = 4;

/// Everything in other programs' tables that is in the way of `topology`'s
/// guests, or of the rules that keep them apart.
pub fn hazards(foreign: &Foreign, topology: &Topology, uplinks: &[IfName]) -> Vec<Hazard> {
    let mut found: Vec<Hazard> = foreign.unreadable.iter().map(unreadable).collect();
    if foreign.chains.values().all(|chain| chain.base.is_none()) {
        return found;
    }
    let frames = foreign.chains.iter().any(|((family, _, _), chain)| {
        chain.base.is_some() && matches!(family.as_str(), "bridge" | "netdev")
    });
    let journeys = journeys(topology, uplinks, frames);
    let links: BTreeSet<&str> =
        journeys.iter().flat_map(|journey| [journey.packet.iif, journey.packet.oif]).flatten().collect();
    let mut happenings: BTreeMap<(Severity, Effect, Place), Vec<&Journey<'_>>> = BTreeMap::new();
    for journey in &journeys {
        for event in walk(foreign, journey) {
            if let Some(severity) = severity(&event, journey, &links) {
                happenings.entry((severity, event.effect, event.place)).or_default().push(journey);
            }
        }
    }
    // What is certain of one is not worth saying as possible of another.
    let certain: BTreeSet<(Effect, Place)> = happenings
        .keys()
        .filter(|(severity, ..)| *severity > Severity::Info)
        .map(|(_, effect, place)| (*effect, place.clone()))
        .collect();
    happenings.retain(|(severity, effect, place), _| {
        *severity > Severity::Info || !certain.contains(&(*effect, place.clone()))
    });
    found.extend(
        happenings.iter().rev().map(|((severity, effect, place), journeys)| {
            hazard(*severity, *effect, place, journeys, foreign)
        }),
    );
    found
}

fn unreadable((family, table): &(String, String)) -> Hazard {
    Hazard {
        severity: Severity::Info,
        object: format!("table {family} {table}"),
        found: "nft can't list it, so what it does to guests isn't known".into(),
        expected: "a table that nft lists".into(),
        remedy: format!("look at it by hand (nft list table {family} {table}); a newer nft may list it"),
        commands: Vec::new(),
    }
}

/// How bad it is that this happens to that packet; none where it doesn't
/// matter.
fn severity(event: &Event, journey: &Journey<'_>, links: &BTreeSet<&str>) -> Option<Severity> {
    let judged = if event.certain { Severity::Warning } else { Severity::Info };
    match event.effect {
        Effect::Drop | Effect::Queue | Effect::Redirect => Some(judged),
        Effect::Untrack if !journey.packet.reply => Some(judged),
        Effect::Masquerade if journey.keeps_source => Some(judged),
        // Tailscale does so by itself (--snat-subnet-routes).
        Effect::Masquerade if !journey.outbound => Some(Severity::Info),
        Effect::Offload if event.devices.iter().any(|device| links.contains(device.as_str())) => {
            Some(Severity::Critical)
        }
        Effect::Divert => Some(Severity::Critical),
        _ => None,
    }
}

fn hazard(
    severity: Severity,
    effect: Effect,
    place: &Place,
    journeys: &[&Journey<'_>],
    foreign: &Foreign,
) -> Hazard {
    let mut who: Vec<&str> = journeys.iter().map(|journey| journey.who.as_str()).collect();
    who.dedup();
    let who = match who.split_at_checked(NAMED) {
        Some((named, rest)) if !rest.is_empty() => format!("{}, and {} more", named.join("; "), rest.len()),
        _ => who.join("; "),
    };
    let Place { family, table, base, hook, chain, handle, text } = place;
    let program = program(place, foreign);
    let object = match handle {
        Some(handle) => format!("rule {handle} of chain {family} {table} {chain} ({})", program.name()),
        None => format!("chain {family} {table} {chain} ({})", program.name()),
    };
    let does = match (effect, severity > Severity::Info) {
        (Effect::Drop, true) => "drops",
        (Effect::Drop, false) => "may drop some of",
        (Effect::Queue, _) => "hands to a program, which may drop",
        (Effect::Masquerade, true) => "hides the sender of",
        (Effect::Masquerade, false) => "may hide the sender of",
        (Effect::Redirect, true) => "sends elsewhere",
        (Effect::Redirect, false) => "may send elsewhere",
        (Effect::Untrack, true) => "keeps from being tracked, so from being masqueraded",
        (Effect::Untrack, false) => "may keep from being tracked",
        (Effect::Offload, _) => "takes past the forward hook, where hostctl judges them",
        (Effect::Divert, _) => "sends or copies past hostctl's rules",
    };
    let by = if base == chain { format!("{hook} hook") } else { format!("{hook} hook, by {base}") };
    let commands = commands(place, journeys, program, foreign);
    let bridges: Vec<&str> =
        journeys.iter().map(|journey| journey.ours).collect::<BTreeSet<_>>().into_iter().collect();
    let remedy = if commands.is_empty() && program != Program::Tailscale {
        "look whether it is meant for guests' packets; an exception would be one for the whole interface"
            .into()
    } else {
        program.setting(place, &bridges)
    };
    Hazard {
        severity,
        object,
        found: format!("{text} ({by}) {does}: {who}"),
        expected: match effect {
            Effect::Drop | Effect::Queue => "no rule at guests' hooks that drops what hostctl allows",
            Effect::Masquerade => "the sender's own address between guests",
            Effect::Redirect => "the receiver that the guest chose",
            Effect::Untrack => "tracked packets",
            Effect::Offload | Effect::Divert => "nothing that passes by hostctl's rules",
        }
        .into(),
        remedy,
        commands,
    }
}

/// A rule in front of the others for each link of hostctl's; hostctl's own
/// table goes on judging. In iptables' tables each rule is one that iptables
/// could have made: it refuses to list a table with others.
fn commands(place: &Place, journeys: &[&Journey<'_>], program: Program, foreign: &Foreign) -> Vec<String> {
    let Place { family, table, hook, .. } = place;
    let chain = program.entrance(place, foreign);
    // What answers look like before they are known as a guest's can't be said
    // by a bridge's name.
    let named = journeys.iter().filter(|journey| journey.outbound || hook != "prerouting");
    let links: BTreeSet<(&str, &str)> = named
        .map(|journey| if journey.outbound { ("iifname", journey.ours) } else { ("oifname", journey.ours) })
        // Nothing says at the input hook where a packet goes out.
        .filter(|(key, _)| *key == "iifname" || hook != "input")
        .collect();
    let command = |(key, link): (&str, &str)| {
        format!("nft insert rule {family} {table} {chain} {key} {link} counter accept")
    };
    links.into_iter().map(command).collect()
}
