//! What other programs' tables do to guests' packets → findings with remedies.

use std::collections::{BTreeMap, BTreeSet};

use crate::firewall::severity::Severity;
use crate::topology::Topology;

use super::legacy::Unjudged;
use super::packet::{Exits, Journey, journeys};
use super::program::{Program, program};
use super::remedy;
use super::ruleset::Foreign;
use super::walk::{Effect, Event, RulePlace, walk};

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

/// What happens alike, by one program's rules: one thing to know, with one
/// remedy.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    severity: Severity,
    effect: Effect,
    program: Program,
    hook: String,
    /// Of programs that aren't known, whose rules can be anything.
    text: String,
}

/// Where it happens, and to whom.
#[derive(Default)]
struct Happening<'j, 't> {
    places: BTreeSet<RulePlace>,
    journeys: Vec<&'j Journey<'t>>,
}

/// Everything in other programs' tables that is in the way of `topology`'s
/// guests, or of the rules that keep them apart.
pub fn hazards(foreign: &Foreign, topology: &Topology, exits: Exits<'_>) -> Vec<Hazard> {
    let unreadable = foreign.unreadable.iter().map(unreadable);
    let mut found: Vec<Hazard> = unreadable.chain(foreign.legacy_unjudged.iter().map(unjudged)).collect();
    if foreign.chains.values().all(|chain| chain.base.is_none()) {
        return found;
    }
    let frames = foreign.chains.iter().any(|((family, _, _), chain)| {
        chain.base.is_some() && matches!(family.as_str(), "bridge" | "netdev")
    });
    let journeys = journeys(topology, exits, frames);
    let links: BTreeSet<&str> =
        journeys.iter().flat_map(|journey| [journey.packet.iif, journey.packet.oif]).flatten().collect();
    let mut happenings: BTreeMap<Alike, Happening<'_, '_>> = BTreeMap::new();
    for journey in &journeys {
        for event in walk(foreign, journey) {
            let Some(severity) = severity(&event, journey, &links) else { continue };
            let program = program(&event.place, foreign);
            let (hook, effect) = (event.place.hook.clone(), event.effect);
            let text = if program.is_known() { String::new() } else { event.place.text.clone() };
            let happening = happenings.entry(Alike { severity, effect, program, hook, text }).or_default();
            happening.places.insert(event.place);
            happening.journeys.push(journey);
        }
    }
    // What is certain of one is not worth saying as possible of another.
    let certain: BTreeSet<(Effect, RulePlace)> = happenings
        .iter()
        .filter(|(alike, _)| alike.severity > Severity::Info)
        .flat_map(|(alike, happening)| happening.places.iter().map(|place| (alike.effect, place.clone())))
        .collect();
    happenings.retain(|alike, happening| {
        if alike.severity == Severity::Info {
            happening.places.retain(|place| !certain.contains(&(alike.effect, place.clone())));
        }
        !happening.places.is_empty()
    });
    found.extend(happenings.iter().rev().map(|(alike, happening)| hazard(alike, happening, foreign)));
    found
}

fn unjudged(Unjudged { family, what }: &Unjudged) -> Hazard {
    let (tool, version) =
        if family == "ip6" { ("ip6tables-legacy", "IPv6") } else { ("iptables-legacy", "IPv4") };
    Hazard {
        severity: Severity::Warning,
        object: format!("{tool}'s tables ({version})"),
        found: format!("not judged: {what}"),
        expected: "rules that hostctl can judge".into(),
        remedy: "see that they drop no guest's packets; or move to iptables-nft, which nft shows".into(),
        commands: ["INPUT", "FORWARD"].map(|chain| format!("{tool} -S {chain}")).into(),
    }
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

fn hazard(alike: &Alike, happening: &Happening<'_, '_>, foreign: &Foreign) -> Hazard {
    let Alike { severity, effect, program, hook, .. } = alike;
    let places: Vec<&RulePlace> = happening.places.iter().collect();
    let who = some(happening.journeys.iter().map(|journey| journey.who.as_str()), "; ");
    let does = match (effect, *severity > Severity::Info) {
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
    let texts = some(places.iter().map(|place| place.text.as_str()), "; ");
    let by = match places.as_slice() {
        [place] if place.base != place.chain => format!("{hook} hook, by {}", place.base),
        _ => format!("{hook} hook"),
    };
    let commands = remedy::commands(&places, &happening.journeys, *program, foreign);
    Hazard {
        severity: *severity,
        object: object(&places, *program),
        found: format!("{texts} ({by}) {does}: {who}"),
        expected: match effect {
            Effect::Drop | Effect::Queue => "no rule at guests' hooks that drops what hostctl allows",
            Effect::Masquerade => "the sender's own address between guests",
            Effect::Redirect => "the receiver that the guest chose",
            Effect::Untrack => "tracked packets",
            Effect::Offload | Effect::Divert => "nothing that passes by hostctl's rules",
        }
        .into(),
        remedy: remedy::setting(*program, &places, &commands, &happening.journeys),
        commands,
    }
}

/// The first few of several, each once.
fn some<'a>(all: impl Iterator<Item = &'a str>, between: &str) -> String {
    let mut seen = BTreeSet::new();
    let all: Vec<&str> = all.filter(|one| seen.insert(*one)).collect();
    match all.split_at_checked(NAMED) {
        Some((named, rest)) if !rest.is_empty() => {
            format!("{}, and {} more", named.join(between), rest.len())
        }
        _ => all.join(between),
    }
}

/// Which rules or chains: one by its number, several by their chains.
fn object(places: &[&RulePlace], program: Program) -> String {
    let legacy = places.iter().any(|place| place.legacy_table().is_some());
    let name = if legacy && program == Program::Iptables {
        "iptables-legacy".into()
    } else if legacy {
        format!("{}, iptables-legacy", program.name())
    } else {
        program.name().to_string()
    };
    let chain = |place: &RulePlace| {
        format!("{} {} {}", place.family, place.legacy_table().unwrap_or(&place.table), place.chain)
    };
    let chains: BTreeSet<String> = places.iter().map(|place| chain(place)).collect();
    let chains = some(chains.iter().map(String::as_str), ", ");
    let plural = if chains.contains(',') { "s" } else { "" };
    let rules = places.iter().filter(|place| place.handle.is_some()).count();
    match places {
        [RulePlace { handle: Some(handle), .. }] => format!("rule {handle} of chain {chains} ({name})"),
        _ if rules > 1 => format!("{rules} rules of chain{plural} {chains} ({name})"),
        _ => format!("chain{plural} {chains} ({name})"),
    }
}
