//! Who reaches whom by the rules, as boxes of headers.

use std::collections::BTreeMap;

use crate::packet::{Family, number};
use crate::reach::subject::{Field, Kind};
use crate::reach::{Model, Service};

use super::answer::RulePlace;
use super::boxes::{HeaderBox, Told, boxes};
use super::diagram::{Diagram, Diagrams};
use super::ground::Ground;
use super::header::{Header, truth};
use super::legal;
use super::links::LinkNumbers;
use super::rules::{Tables, Unknown};
use super::slice::{Follow, Sender};
use super::target::{Target, of_service};

/// What somebody sends that arrives, by one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reacher {
    /// The link that it comes in by; none of the host's own.
    pub from: Option<String>,
    /// The family.
    pub family: Family,
    /// The rule that lets it pass; none where it is a chain's policy, or no
    /// chain is asked.
    pub rule: Option<RulePlace>,
    /// First packets that arrive, in boxes.
    pub boxes: Vec<HeaderBox>,
}

/// A link that nobody names.
pub const ANY_OTHER: &str = "any other link";

/// Who reaches a target, with a service, by all rules of `tables`.
pub(super) fn reaches(
    model: &Model<'_>,
    tables: &Tables,
    links: &LinkNumbers,
    senders: &[Sender<'_>],
    (target, service): (&Target, Option<Service>),
) -> Result<Vec<Reacher>, Unknown> {
    let mut follow = Follow::new(model, tables, links);
    let mut found: Vec<Reacher> = Vec::new();
    let mut grounds: BTreeMap<Kind, Ground> = BTreeMap::new();
    let told = Told { sources: true, destinations: target.is_many(), tracking: false };
    for sender in senders {
        // What a port refuses, its bridge never sends; what comes in by the loopback
        // the host has sent.
        let routed = *target != Target::Host && sender.link() == Some("lo");
        if matches!(sender, Sender::Port(_)) || routed {
            continue;
        }
        for &kind in sender.kinds().iter().filter(|kind| target.has(**kind)) {
            let ground = grounds.entry(kind).or_insert_with(|| Ground::new(kind, &[tables], links));
            let asked = Asked { links, target, service, told };
            let arrived = ground.settled(|ground| of_sender(&mut follow, ground, (kind, sender), asked))?;
            arrived.into_iter().for_each(|one| add(&mut found, one));
        }
    }
    found.retain(|reacher| !reacher.boxes.is_empty());
    Ok(found)
}

/// What is asked of every sender.
#[derive(Clone, Copy)]
struct Asked<'a> {
    links: &'a LinkNumbers,
    target: &'a Target,
    service: Option<Service>,
    told: Told,
}

/// What one sender's packets of a kind come to.
fn of_sender<'t>(
    follow: &mut Follow<'_, 't>,
    ground: &mut Ground,
    (kind, sender): (Kind, &Sender<'t>),
    asked: Asked<'_>,
) -> Result<Vec<Reacher>, Unknown> {
    let mut found = Vec::new();
    for judged in follow.all(ground, kind, sender)? {
        let passed = follow.passed(&mut ground.diagrams, judged.rules);
        let (diagrams, header) = (&mut ground.diagrams, &judged.header);
        let there = asked.target.space(diagrams, follow.model, asked.links, &judged);
        let there = without_itself(diagrams, header, there, asked.target);
        let first = legal::first(diagrams, header);
        let free = header.masked(diagrams, Field::Limits, u128::MAX, 0);
        let whole = header.range(diagrams, Field::Translated, (0, 0));
        let service = of_service(diagrams, header, asked.service);
        let arrives = [there, first, free, whole, service]
            .into_iter()
            .fold(passed, |all, these| diagrams.and(all, these));
        let by_rule = diagrams.choose(arrives, judged.rules, Diagram::NEVER);
        for terminal in diagrams.terminals(by_rule) {
            let these = diagrams.rename(by_rule, &|other| truth(other == terminal && other != 0));
            let boxes = boxes(diagrams, header, these, asked.told);
            if !boxes.is_empty() {
                let from = sender.link().map(|link| if link.is_empty() { ANY_OTHER } else { link });
                let (from, family) = (from.map(String::from), header.family());
                found.push(Reacher { from, family, rule: follow.rule(terminal), boxes });
            }
        }
    }
    Ok(found)
}

/// Nobody reaches himself by way of the host.
fn without_itself(diagrams: &mut Diagrams, header: &Header, there: Diagram, target: &Target) -> Diagram {
    let Target::Addresses(addresses) = target else { return there };
    let mut rest = there;
    for address in addresses.iter().filter(|address| Family::of(**address) == header.family()) {
        let own = (number(*address), number(*address));
        let to = header.range(diagrams, Field::Destination, own);
        let from = header.range(diagrams, Field::Source, own);
        let both = diagrams.and(to, from);
        rest = diagrams.minus(rest, both);
    }
    rest
}

/// Adds what arrives; guests of one network that differ in nothing but their
/// address are told together.
fn add(found: &mut Vec<Reacher>, more: Reacher) {
    let without_sources = |boxes: &[HeaderBox]| -> Vec<HeaderBox> {
        boxes.iter().map(|one| HeaderBox { sources: Vec::new(), ..one.clone() }).collect()
    };
    let same = |known: &&mut Reacher| {
        (&known.from, known.family, &known.rule) == (&more.from, more.family, &more.rule)
            && without_sources(&known.boxes) == without_sources(&more.boxes)
    };
    match found.iter_mut().find(same) {
        Some(known) => {
            for (known, more) in known.boxes.iter_mut().zip(more.boxes) {
                known.sources.extend(more.sources);
            }
        }
        None => found.push(more),
    }
}
