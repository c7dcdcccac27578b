//! What becomes of the flows between two ends, and why.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::packet::{Family, Range};
use crate::topology::Nat;

use super::class::{Class, Classes};
use super::end::End;
use super::names::ranges;
use super::services::Services;
use super::side::{Pair, Service, Side, is_usual, regions, telling};
use super::{Judgement, Model, Verdict};

/// What becomes of flows from some to others, of which all that is said holds
/// alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who sends.
    pub from: Vec<String>,
    /// Who receives.
    pub to: Vec<String>,
    /// For each family that both ends have.
    pub families: Vec<FamilyAnswer>,
}

/// As [`Answer`], of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyAnswer {
    /// Which.
    pub family: Family,
    /// An address of those who send.
    pub source: IpAddr,
    /// An address of those who receive.
    pub destination: IpAddr,
    /// Each service is in one of them; what is allowed comes first.
    pub outcomes: Vec<Outcome>,
}

/// What becomes of some services' flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which; none where one was asked about.
    pub services: Option<Services>,
    /// The way of their first packets.
    pub judgement: Judgement,
}

/// Which services have which verdict; just the verdict of the one asked about.
pub type Verdicts = Vec<(Verdict, Option<Services>)>;

impl Answer {
    /// The verdicts alone, by which answers can be compared.
    pub fn verdicts(&self) -> Vec<(Family, Verdicts)> {
        let of = |answer: &FamilyAnswer| {
            let mut verdicts: BTreeMap<Verdict, Option<Services>> = BTreeMap::new();
            for outcome in &answer.outcomes {
                let sum = verdicts.entry(outcome.judgement.verdict).or_default();
                *sum = match (sum.take(), &outcome.services) {
                    (Some(sum), Some(more)) => Some(sum.plus(more)),
                    (sum, more) => sum.or_else(|| more.clone()),
                };
            }
            (answer.family, verdicts.into_iter().collect())
        };
        self.families.iter().map(of).collect()
    }
}

/// What becomes of flows between two ends: of one service, or of all. Ends
/// that nothing tells apart are one answer; a guest isn't asked about itself.
pub fn explain(
    model: &Model<'_>,
    from: &End<'_>,
    to: &End<'_>,
    families: &[Family],
    service: Option<Service>,
) -> Vec<Answer> {
    let classes = Classes::new(model.topology());
    let (from, to) = (groups(&classes, from), groups(&classes, to));
    let mut answers = Vec::new();
    for senders in &from {
        for receivers in &to {
            let Some((sender, _)) = senders.first() else { continue };
            // Another one than the sender, where there is one.
            let Some((receiver, _)) = receivers.iter().find(|(receiver, _)| receiver != sender) else {
                continue;
            };
            let names = |group: &[(Side<'_>, String)]| group.iter().map(|(_, name)| name.clone()).collect();
            let (from, to): (Vec<String>, Vec<String>) = (names(senders), names(receivers));
            answers.extend(between(model, (*sender, from), (*receiver, to), families, service));
        }
    }
    answers
}

/// The sides of an end, those together that rules don't tell apart.
fn groups<'t>(classes: &Classes<'t>, end: &End<'t>) -> Vec<Vec<(Side<'t>, String)>> {
    let mut groups: BTreeMap<Option<Class<'t>>, Vec<(Side<'t>, String)>> = BTreeMap::new();
    for (name, side) in &end.sides {
        let class = match side {
            Side::Guest(port) => Some(classes.of(port)),
            _ => None,
        };
        groups.entry(class).or_default().push((*side, name.clone()));
    }
    groups.into_values().collect()
}

/// The answers about two sides: several where rules tell apart what is behind
/// an interface.
fn between<'t>(
    model: &Model<'t>,
    (from, from_names): (Side<'t>, Vec<String>),
    (to, to_names): (Side<'t>, Vec<String>),
    families: &[Family],
    service: Option<Service>,
) -> Vec<Answer> {
    let to = by_its_exit(model, from, to);
    let Some(rules) = telling(model, from, to) else {
        let answers = families.iter().filter_map(|family| answer(model, from, to, *family, None, service));
        return vec![Answer { from: from_names, to: to_names, families: answers.collect() }];
    };
    let remote = if from == Side::Tailnet { from } else { to };
    let found: Vec<_> = families
        .iter()
        .map(|family| {
            let mut found: Vec<(FamilyAnswer, Vec<Range>)> = Vec::new();
            for (part, sample) in regions(&[model], remote, &[rules], *family) {
                let Some(answer) = answer(model, from, to, *family, Some(sample), service) else { continue };
                match found.iter_mut().find(|(other, _)| alike(&other.outcomes, &answer.outcomes)) {
                    Some((shown, parts)) => {
                        match parts.last_mut() {
                            Some(previous) if previous.1.checked_add(1) == Some(part.0) => {
                                previous.1 = part.1
                            }
                            _ => parts.push(part),
                        }
                        if is_usual(sample) {
                            *shown = answer;
                        }
                    }
                    None => found.push((answer, vec![part])),
                }
            }
            found
        })
        .collect();
    if found.iter().all(|found| found.len() <= 1) {
        let families = found.into_iter().flatten().map(|(answer, _)| answer).collect();
        return vec![Answer { from: from_names, to: to_names, families }];
    }
    let part = |names: &[String], side: Side<'_>, family, parts: &[Range]| -> Vec<String> {
        let text = |name: &String| {
            if side == remote { format!("{name} {}", ranges(family, parts)) } else { name.clone() }
        };
        names.iter().map(text).collect()
    };
    let answers = found.into_iter().flatten().map(|(answer, parts)| Answer {
        from: part(&from_names, from, answer.family, &parts),
        to: part(&to_names, to, answer.family, &parts),
        families: vec![answer],
    });
    answers.collect()
}

/// Whether the same was decided by the same keys, whatever the addresses.
pub fn alike(a: &[Outcome], b: &[Outcome]) -> bool {
    let same = |a: &Outcome, b: &Outcome| {
        let (ways, stages) = (a.judgement.way.iter().zip(&b.judgement.way), a.judgement.way.len());
        a.services == b.services
            && a.judgement.verdict == b.judgement.verdict
            && stages == b.judgement.way.len()
            && ways
                .into_iter()
                .all(|(a, b)| (a.place, a.passes, &a.decided_by) == (b.place, b.passes, &b.decided_by))
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// The internet is behind the interfaces that a sender's network names.
fn by_its_exit<'t>(model: &Model<'t>, from: Side<'t>, to: Side<'t>) -> Side<'t> {
    let (Side::Guest(port), Side::Internet(None)) = (from, to) else { return to };
    match model.topology().network(&port.network).map(|network| &network.nat) {
        Some(Nat::Named(names)) => Side::Internet(names.first()),
        _ => to,
    }
}

fn answer<'t>(
    model: &Model<'t>,
    from: Side<'t>,
    to: Side<'t>,
    family: Family,
    far: Option<IpAddr>,
    service: Option<Service>,
) -> Option<FamilyAnswer> {
    let pair = Pair::new(model, from, to, family, far)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    match service {
        Some(service) => outcomes.push(Outcome { services: None, judgement: pair.one(model, service) }),
        None => pair.all(model, |add, judgement| {
            let known = outcomes.iter_mut().find(|outcome| outcome.judgement == judgement);
            match known.and_then(|outcome| outcome.services.as_mut()) {
                Some(services) => add(services),
                None => {
                    let mut services = Services::default();
                    add(&mut services);
                    outcomes.push(Outcome { services: Some(services), judgement });
                }
            }
        }),
    }
    outcomes.sort_by_key(|outcome| outcome.judgement.verdict);
    let (source, destination) = (pair.source, pair.destination);
    Some(FamilyAnswer { family, source, destination, outcomes })
}
