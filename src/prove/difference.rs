//! Two sets of rules against each other, for every packet.

use std::collections::BTreeMap;

use crate::reach::Model;
use crate::reach::subject::Kind;

use super::answer::{Outcome, RulePlace};
use super::ground::Ground;
use super::links::LinkNumbers;
use super::packet::Packet;
use super::rules::{Tables, Unknown};
use super::slice::{Follow, Judged, Sender, Stop};

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
pub(super) fn difference<'t>(
    model: &Model<'t>,
    (old, new): (&Tables, &Tables),
    links: &LinkNumbers,
    senders: &[Sender<'t>],
) -> Result<Vec<Difference>, Unknown> {
    let mut sides = [Follow::of_set(model, old, links, 0), Follow::of_set(model, new, links, 1)];
    let mut grounds: BTreeMap<Kind, Ground> = BTreeMap::new();
    let mut found = Vec::new();
    for sender in senders {
        for &kind in sender.kinds() {
            let ground = grounds.entry(kind).or_insert_with(|| Ground::new(kind, &[old, new], links));
            found.extend(ground.settled(|ground| of_sender(&mut sides, ground, kind, sender))?);
        }
    }
    Ok(found)
}

fn of_sender<'t>(
    [old, new]: &mut [Follow<'_, 't>; 2],
    ground: &mut Ground,
    kind: Kind,
    sender: &Sender<'t>,
) -> Result<Vec<Difference>, Unknown> {
    let before = old.all(ground, kind, sender)?;
    let after = new.all(ground, kind, sender)?;
    let (link, mut found) = (sender.link(), Vec::new());
    for (a, b) in before.into_iter().zip(after) {
        found.extend(differing(ground, (old, new), link, &a, (a.rules, b.rules), false));
        if a.stop == Stop::Out {
            let leaves = (old.leaving(ground, &a)?.1, new.leaving(ground, &b)?.1);
            found.extend(differing(ground, (old, new), link, &a, leaves, true));
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
