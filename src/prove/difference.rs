//! Two sets of rules against each other, for every packet.

use std::collections::BTreeMap;

use crate::reach::Model;
use crate::reach::subject::Kind;

use super::answer::{Outcome, RulePlace};
use super::links::LinkNumbers;
use super::packet::Packet;
use super::rules::run::Shared;
use super::rules::{Tables, Unknown};
use super::slice::{Follow, Ground, Judged, Sender, Stop};

/// A packet with which two sets of rules don't do the same.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The packet.
    pub packet: Packet,
    /// What the old rules do, and which of them.
    pub old: (Outcome, Option<RulePlace>),
    /// What the new rules do.
    pub new: (Outcome, Option<RulePlace>),
}

/// The first packet for each way in which `old` and `new` differ.
pub(super) fn difference(
    model: &Model<'_>,
    (old, new): (&Tables, &Tables),
    links: &LinkNumbers,
    senders: &[Sender<'_>],
) -> Result<Vec<Difference>, Unknown> {
    let mut sides = [Follow::of_set(model, old, links, 0), Follow::of_set(model, new, links, 1)];
    let mut grounds: BTreeMap<Kind, (Ground, [Shared; 2])> = BTreeMap::new();
    let mut found = Vec::new();
    for sender in senders {
        for &kind in sender.kinds() {
            let (ground, shared) = grounds.entry(kind).or_default();
            let mut both = Vec::new();
            for (side, shared) in sides.iter_mut().zip(shared.iter_mut()) {
                std::mem::swap(&mut ground.shared, shared);
                let judged = side.all(ground, kind, sender);
                let mut with_source = Vec::new();
                for judged in judged? {
                    let leaving = match judged.stop {
                        Stop::Out => Some(side.leaving(ground, &judged)?.1),
                        _ => None,
                    };
                    with_source.push((judged, leaving));
                }
                std::mem::swap(&mut ground.shared, shared);
                both.push(with_source);
            }
            let [old, new] = &sides;
            let mut both = both.into_iter();
            let (before, after) = (both.next().unwrap_or_default(), both.next().unwrap_or_default());
            for ((a, a_leaves), (b, b_leaves)) in before.into_iter().zip(after) {
                let link = sender.link();
                found.extend(differing(ground, (old, new), link, &a, (a.rules, b.rules), false));
                if let (Some(a_leaves), Some(b_leaves)) = (a_leaves, b_leaves) {
                    found.extend(differing(ground, (old, new), link, &a, (a_leaves, b_leaves), true));
                }
            }
        }
    }
    Ok(found)
}

fn differing(
    ground: &Ground,
    (old, new): (&Follow<'_, '_>, &Follow<'_, '_>),
    link: Option<&str>,
    judged: &Judged,
    (a, b): (super::diagram::Diagram, super::diagram::Diagram),
    leaves: bool,
) -> Vec<Difference> {
    let mut found: Vec<Difference> = Vec::new();
    for ((before, after), path) in ground.diagrams.pairs(a, b, u32::MAX) {
        // Of what isn't judged in one place, the stop before tells.
        if before == 0 || after == 0 {
            continue;
        }
        let (was, is) = (old.outcome(before, leaves), new.outcome(after, leaves));
        if was != is {
            let packet = Packet::new(&judged.header, old.links, &path, link, judged.stop == Stop::Out);
            found.push(Difference { packet, old: (was, old.rule(before)), new: (is, new.rule(after)) });
        }
    }
    found
}
