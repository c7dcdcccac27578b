//! Two sets of rules against each other, for every packet.

use std::collections::{BTreeMap, HashMap};
use std::thread;

use serde_json::Value;

use crate::reach::subject::{Field, Kind};
use crate::reach::{Model, Vicinity};
use crate::topology::Topology;

use super::answer::{Claimed, Outcome, RulePlace};
use super::claim::Asked;
use super::diagram::{Diagram, Path};
use super::ground::Ground;
use super::links::LinkNumbers;
use super::packet::Packet;
use super::rules::{Tables, Unknown};
use super::slice::{Follow, Judged, Sender, Stop};

/// One of two sets of rules.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a, 't> {
    /// The model of the spec that it is from, where there is one.
    pub model: Option<&'a Model<'t>>,
    /// What nft lists.
    pub listing: &'a Value,
}

/// A packet with which two sets of rules don't do the same.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The packet.
    pub packet: Packet,
    /// What the old rules do.
    pub old: Does,
    /// What the new rules do.
    pub new: Does,
    /// Links that such packets come in by too.
    pub also_from: Vec<String>,
}

/// What a set of rules does with a packet.
#[derive(Debug, Clone)]
pub struct Does {
    /// What.
    pub outcome: Outcome,
    /// Which of them; none where it is a chain's policy, or no chain is asked.
    pub rule: Option<RulePlace>,
    /// What the model says, where the rules are a spec's.
    pub model: Option<Claimed>,
}

/// A way in which they differ: of which kind, by which rules, from what to what.
type Way = (Kind, [Option<RulePlace>; 2], [Outcome; 2]);

/// Where two sets of rules aren't the same to the letter.
#[derive(Debug, Clone, Copy)]
pub struct Where {
    /// At ports of bridges.
    pub at_ports: bool,
    /// At the host's own hooks.
    pub on_the_way: bool,
}

/// Whatever enters by a link, which may be a port of a bridge, or is the host's.
const AT_PORTS: [Kind; 4] = [Kind::Ipv4, Kind::Ipv6, Kind::Arp, Kind::Other];
const ON_THE_WAY: [Kind; 2] = [Kind::Ipv4, Kind::Ipv6];

/// The first packet for each way in which two sets of rules differ.
pub(super) fn difference(
    (old, before): (Option<&Model<'_>>, &Tables),
    (new, after): (Option<&Model<'_>>, &Tables),
    links: &LinkNumbers,
    differs: Where,
) -> Result<Vec<Difference>, Unknown> {
    let limits: BTreeMap<_, _> = before.limits().collect();
    if let Some((_, (name, _))) =
        after.limits().find(|(bit, set)| limits.get(bit).is_some_and(|old| old != set))
    {
        return Err(Unknown(format!("how the limits of {name} compare with those of the other side")));
    }
    // Nobody's: what the rules say alone.
    let (topology, vicinity) = (Topology::empty(), Vicinity::default());
    let nobody = &Model::new(&topology, &vicinity);
    let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
    let senders: Vec<Option<&str>> = links.names().chain([""]).map(Some).chain([None]).collect();
    let senders = &senders;
    let results: Vec<Result<Vec<Difference>, Unknown>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|first| {
                scope.spawn(move || {
                    let sides = Follow::both(nobody, [before, after], links);
                    let mut both =
                        Both { sides, models: [old, new], grounds: BTreeMap::new(), found: Found::default() };
                    let mut share = senders.iter().skip(first).step_by(workers);
                    share.try_for_each(|sender| both.compare_all(*sender, differs))?;
                    Ok(both.found.list)
                })
            })
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut found = Found::default();
    for result in results {
        result?.into_iter().for_each(|one| found.add(one));
    }
    // What opens flows first: that is what people ask about.
    let opens = |one: &Difference| (one.packet.value(Field::State), one.packet.value(Field::Confirmed));
    found.list.sort_by_key(opens);
    Ok(found.list)
}

/// One packet for each way.
#[derive(Default)]
struct Found {
    list: Vec<Difference>,
    ways: HashMap<Way, usize>,
}

impl Found {
    /// Adds a packet, or where else such packets come in.
    fn add(&mut self, more: Difference) {
        let rules = [more.old.rule.clone(), more.new.rule.clone()];
        let way = (more.packet.kind, rules, [more.old.outcome, more.new.outcome]);
        match self.ways.get(&way).and_then(|place| self.list.get_mut(*place)) {
            Some(known) => {
                let from = more.packet.link.unwrap_or_else(|| "the host".into());
                for link in [from].into_iter().chain(more.also_from) {
                    if known.packet.link.as_ref() != Some(&link) && !known.also_from.contains(&link) {
                        known.also_from.push(link);
                    }
                }
            }
            None => {
                self.ways.insert(way, self.list.len());
                self.list.push(more);
            }
        }
    }
}

struct Both<'w, 'm, 't> {
    sides: [Follow<'w, 't>; 2],
    models: [Option<&'m Model<'m>>; 2],
    grounds: BTreeMap<Kind, Ground>,
    found: Found,
}

impl<'t> Both<'_, '_, 't> {
    /// All that comes in by a link, or is the host's.
    fn compare_all(&mut self, link: Option<&str>, differs: Where) -> Result<(), Unknown> {
        if let Some(link) = link.filter(|_| differs.at_ports) {
            for kind in AT_PORTS {
                self.compare(kind, Some(link), |side, ground| side.at_port(ground, link))?;
            }
        }
        if differs.on_the_way {
            let sender = link.map_or(Sender::Host, |link| Sender::Link(link.into()));
            for kind in ON_THE_WAY {
                self.compare(kind, link, |side, ground| side.all(ground, kind, &sender))?;
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        kind: Kind,
        link: Option<&str>,
        mut all: impl FnMut(&mut Follow<'_, 't>, &mut Ground) -> Result<Vec<Judged>, Unknown>,
    ) -> Result<(), Unknown> {
        let [old, new] = &self.sides;
        let (tables, links) = ([old.tables, new.tables], old.links);
        let ground = self.grounds.remove(&kind);
        let mut ground = ground.unwrap_or_else(|| Ground::new(kind, &tables, links));
        let done = ground.settled(|ground| self.compare_in(ground, link, &mut all));
        self.grounds.insert(kind, ground);
        done?.into_iter().for_each(|one| self.found.add(one));
        Ok(())
    }

    fn compare_in(
        &mut self,
        ground: &mut Ground,
        link: Option<&str>,
        all: &mut impl FnMut(&mut Follow<'_, 't>, &mut Ground) -> Result<Vec<Judged>, Unknown>,
    ) -> Result<Vec<Difference>, Unknown> {
        let [old, new] = &mut self.sides;
        let (before, after) = (all(old, ground)?, all(new, ground)?);
        let mut found = Vec::new();
        for (a, b) in before.iter().zip(&after) {
            let [old, new] = &mut self.sides;
            let leaves = match a.stop {
                Stop::Out => Some((old.leaving(ground, a)?.1, new.leaving(ground, b)?.1)),
                _ => None,
            };
            found.extend(self.differing(ground, link, a, (a.rules, b.rules), false)?);
            if let Some(leaves) = leaves {
                found.extend(self.differing(ground, link, a, leaves, true)?);
            }
        }
        Ok(found)
    }

    fn differing(
        &self,
        ground: &mut Ground,
        link: Option<&str>,
        judged: &Judged,
        (a, b): (Diagram, Diagram),
        leaves: bool,
    ) -> Result<Vec<Difference>, Unknown> {
        let [old, new] = &self.sides;
        let [old_model, new_model] = self.models;
        let links = old.links;
        let mut found = Vec::new();
        for ((before, after), path) in ground.diagrams.pairs(a, b, u32::MAX) {
            // Of what isn't judged in one place, the stop before tells.
            if before == 0 || after == 0 {
                continue;
            }
            let (was, is) = (old.outcome(before, leaves), new.outcome(after, leaves));
            if was == is {
                continue;
            }
            let packet =
                Packet::new(&judged.header, links, &path, link, judged.stop == Stop::Out).at(judged.stop);
            let mut does = |outcome, rule, model: Option<&Model<'_>>| -> Result<Does, Unknown> {
                let said = model.map(|model| said(ground, model, links, judged, (link, &path)));
                Ok(Does { outcome, rule, model: said.transpose()? })
            };
            let old = does(was, old.rule(before), old_model)?;
            let new = does(is, new.rule(after), new_model)?;
            found.push(Difference { packet, old, new, also_from: Vec::new() });
        }
        Ok(found)
    }
}

/// What a side's own spec says of the packet.
fn said(
    ground: &mut Ground,
    model: &Model<'_>,
    links: &LinkNumbers,
    judged: &Judged,
    (link, path): (Option<&str>, &Path),
) -> Result<Claimed, Unknown> {
    let guests = model.sets().networks.values();
    let family = judged.header.family();
    let senders = guests.flat_map(|network| model.senders(network, family)).map(|(_, addresses)| addresses);
    let judged = Judged { senders: senders.collect(), ..judged.clone() };
    let port = model.port_of(link);
    // What is known of one spec's policies is nothing to the other's.
    let known = std::mem::take(&mut ground.known);
    let said = Asked { model, links, judged: &judged, link, port }.claim(ground, path);
    ground.known = known;
    Ok(said?.1)
}
