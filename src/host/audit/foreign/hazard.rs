//! What other programs' tables do to guests' packets → findings with remedies.

use std::collections::{BTreeMap, BTreeSet};

use crate::firewall::{Foreign, Severity, Unjudged};
use crate::prove::{Effect, Happening, Sureness, Traffic};

use super::super::{Finding, Kind};
use super::place::RulePlace;
use super::program::{Program, program};
use super::remedy;

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
struct Alikes<'h> {
    places: BTreeSet<RulePlace>,
    happenings: Vec<&'h Happening>,
}

/// Everything in other programs' tables that is in the way of guests, or of the
/// rules that keep them apart.
pub(super) fn hazards(foreign: &Foreign, happenings: &[Happening]) -> Vec<Finding> {
    let unreadable = foreign.unreadable().iter().map(unreadable);
    let mut found: Vec<Finding> = unreadable.chain(foreign.unjudged().iter().map(unjudged)).collect();
    let mut alike: BTreeMap<Alike, Alikes<'_>> = BTreeMap::new();
    for happening in happenings {
        let Some(severity) = severity(happening) else { continue };
        let place = RulePlace::of(happening, foreign);
        let program = program(&place, foreign);
        let text = if program.is_known() { String::new() } else { place.text.clone() };
        let key = Alike { severity, effect: happening.effect, program, hook: place.hook.clone(), text };
        let alikes = alike.entry(key).or_default();
        alikes.places.insert(place);
        alikes.happenings.push(happening);
    }
    // What is certain of one is not worth saying as possible of another.
    let certain: BTreeSet<(Effect, RulePlace)> = alike
        .iter()
        .filter(|(alike, _)| alike.severity > Severity::Info)
        .flat_map(|(alike, all)| all.places.iter().map(|place| (alike.effect, place.clone())))
        .collect();
    alike.retain(|alike, all| {
        if alike.severity == Severity::Info {
            all.places.retain(|place| !certain.contains(&(alike.effect, place.clone())));
        }
        !all.places.is_empty()
    });
    found.extend(alike.iter().rev().map(|(alike, all)| hazard(alike, all, foreign)));
    found
}

fn unjudged(Unjudged { family, what }: &Unjudged) -> Finding {
    let (tool, version) =
        if family == "ip6" { ("ip6tables-legacy", "IPv6") } else { ("iptables-legacy", "IPv4") };
    Finding {
        severity: Severity::Warning,
        kind: Kind::Foreign,
        object: format!("{tool}'s tables ({version})"),
        found: format!("not judged: {what}"),
        expected: "rules that hostctl can judge".into(),
        remedy: "see that they drop no guest's packets; or move to iptables-nft, which nft shows".into(),
        commands: ["INPUT", "FORWARD"].map(|chain| format!("{tool} -S {chain}")).into(),
    }
}

fn unreadable((family, table): &(String, String)) -> Finding {
    Finding {
        severity: Severity::Info,
        kind: Kind::Foreign,
        object: format!("table {family} {table}"),
        found: "nft can't list it, so what it does to guests isn't known".into(),
        expected: "a table that nft lists".into(),
        remedy: format!("look at it by hand (nft list table {family} {table}); a newer nft may list it"),
        commands: Vec::new(),
    }
}

/// How bad it is that this happens; none where it doesn't matter.
fn severity(Happening { effect, sureness, traffic, .. }: &Happening) -> Option<Severity> {
    let judged = if *sureness == Sureness::All { Severity::Warning } else { Severity::Info };
    match effect {
        Effect::Drop | Effect::Queue | Effect::Redirect => Some(judged),
        Effect::Untrack if !traffic.reply => Some(judged),
        Effect::Unmark if traffic.outbound && !traffic.reply => Some(judged),
        Effect::Masquerade if traffic.keeps_source => Some(judged),
        // Tailscale does so by itself (--snat-subnet-routes).
        Effect::Masquerade if !traffic.outbound => Some(Severity::Info),
        Effect::Unknown => Some(Severity::Info),
        Effect::Offload | Effect::Divert => Some(Severity::Critical),
        Effect::Untrack | Effect::Unmark | Effect::Masquerade => None,
    }
}

fn hazard(alike: &Alike, all: &Alikes<'_>, foreign: &Foreign) -> Finding {
    let Alike { severity, effect, program, hook, .. } = alike;
    let places: Vec<&RulePlace> = all.places.iter().collect();
    let traffic: Vec<&Traffic> = all.happenings.iter().map(|happening| &happening.traffic).collect();
    let who = some(traffic.iter().map(|these| these.who.as_str()), "; ");
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
        (Effect::Unmark, true) => {
            "takes hostctl's mark from, without which there is no route to a metadata service for"
        }
        (Effect::Unmark, false) => {
            "may take hostctl's mark from, without which there is no route to a metadata service for"
        }
        (Effect::Unknown, _) => "does something that hostctl doesn't know to",
        (Effect::Offload, _) => "takes past the forward hook, where hostctl judges them",
        (Effect::Divert, _) => "sends or copies past hostctl's rules",
    };
    let texts = some(places.iter().map(|place| place.text.as_str()), "; ");
    let by = match places.as_slice() {
        [place] if place.base != place.chain => format!("{hook} hook, by {}", place.base),
        _ => format!("{hook} hook"),
    };
    let commands = remedy::commands(&places, &traffic, *program, foreign);
    Finding {
        severity: *severity,
        kind: Kind::Foreign,
        object: object(&places, *program),
        found: format!("{texts} ({by}) {does}: {who}{}", example(&all.happenings)),
        expected: match effect {
            Effect::Drop | Effect::Queue => "no rule at guests' hooks that drops what hostctl allows",
            Effect::Masquerade => "the sender's own address between guests",
            Effect::Redirect => "the receiver that the guest chose",
            Effect::Untrack => "tracked packets",
            Effect::Unmark => "marks that keep the bits of others",
            Effect::Unknown => "rules that hostctl knows",
            Effect::Offload | Effect::Divert => "nothing that passes by hostctl's rules",
        }
        .into(),
        remedy: remedy::setting(*program, &places, &commands, &traffic),
        commands,
    }
}

/// A packet that it happens to, and what that depends on.
fn example(happenings: &[&Happening]) -> String {
    // The first of the surest.
    let surest = happenings.iter().rev().max_by_key(|happening| happening.sureness);
    let Some(Happening { packet, sureness, depends, .. }) = surest else { return String::new() };
    let depends = || some(depends.iter().map(String::as_str), ", ");
    match sureness {
        Sureness::All if !depends().is_empty() => format!("; for example {packet}, unless by {}", depends()),
        Sureness::All => format!("; for example {packet}"),
        Sureness::Some => format!("; for certain {packet}"),
        Sureness::Perhaps => format!("; perhaps {packet}, by {}", depends()),
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
