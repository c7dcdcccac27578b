//! What the template does with the packets of every host, held against what the
//! model says of them.

use std::collections::BTreeSet;
use std::thread;

use serde_json::Value;

use crate::reach::Model;
use crate::reach::subject::{Delivery, Field, Kind};

use super::super::answer::{Extent, Outcome};
use super::super::compare::{claim, terminal};
use super::super::diagram::{Diagram, Path};
use super::super::ground::Ground;
use super::super::header::truth;
use super::super::legal;
use super::super::links::{LinkNumbers, NOBODYS};
use super::super::packet::Packet;
use super::super::rules::run::{LEAVES, OUTCOME};
use super::super::rules::{Tables, Unknown};
use super::super::slice::{self, BRIDGE, Follow, INET, Judged, NO_LINK, Stop};
use super::answer::{Answer, Counterexample, cube, telling};
use super::fact::{Fact, Facts};
use super::schematic::{Case, From, Schematic};
use super::sets::{Sets, sets};
use super::subject::{EveryHost, Means, Of, judge};
use super::table::Table;

/// Holds the rules of a listing against the model, for every host with the
/// same parts of the template; `host` is the one that they were made for.
pub fn template(host: &Schematic, listing: &Value) -> Answer {
    match Question::new(host, listing).and_then(|question| question.all()) {
        Err(unknown) => Answer::Unknown(unknown),
        Ok((_, found)) if !found.is_empty() => Answer::Different(found),
        // What the template itself puts into sets is part of it.
        Ok((extent, _)) => match sets(&Model::new(&host.topology, &host.vicinity), listing, &host.indices) {
            Sets::Equal(_) => Answer::Equal(extent),
            Sets::Different(found) => Answer::Misfits(found),
            Sets::Unknown(unknown) => Answer::Unknown(unknown),
        },
    }
}

/// As [`template`], of a listing that differs from one that is proved: a packet
/// of the first sender whose packets fare otherwise. A table that is the same
/// isn't looked at again.
///
/// # Errors
/// Names what isn't known of the rules.
pub fn first_difference(
    host: &Schematic,
    proved: &Value,
    listing: &Value,
) -> Result<Option<Counterexample>, Unknown> {
    let question = Question::new(host, listing)?;
    let differs = |family: &str| of_family(proved, family) != of_family(listing, family);
    let tables = [differs(BRIDGE.0), differs(INET.0)];
    for kind in KINDS {
        let (mut ground, mut worker) = (question.ground(kind), question.worker());
        for case in &question.cases {
            let seen = ground.settled(|ground| worker.compare(ground, kind, case, tables))?;
            if let Some(found) = seen.found.into_iter().next() {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// What a listing has of a family.
fn of_family<'v>(listing: &'v Value, family: &str) -> Vec<&'v Value> {
    let objects = listing.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let of = |object: &&Value| {
        object
            .as_object()
            .is_some_and(|object| object.values().any(|body| body.get("family") == Some(&family.into())))
    };
    objects.filter(of).collect()
}

const KINDS: [Kind; 4] = [Kind::Ipv4, Kind::Ipv6, Kind::Arp, Kind::Other];

/// What is compared.
struct Question<'h> {
    model: Model<'h>,
    cases: Vec<Case<'h>>,
    links: LinkNumbers,
    tables: Tables,
}

impl<'h> Question<'h> {
    fn new(host: &'h Schematic, listing: &Value) -> Result<Self, Unknown> {
        let model = Model::new(&host.topology, &host.vicinity);
        let (links, tables) = super::super::read(&[&model], &[listing], &host.indices)?;
        let tables = tables.into_iter().next().ok_or_else(|| Unknown("a listing".into()))?;
        Ok(Self { model, cases: host.cases(), links, tables })
    }

    fn worker(&self) -> Worker<'_, 'h> {
        let mut follow = Follow::new(&self.model, &self.tables, &self.links);
        follow.meaning = Some(&Table);
        Worker { follow }
    }

    fn ground(&self, kind: Kind) -> Ground {
        Ground::new(kind, &[&self.tables], &self.links)
    }

    /// All that is sent of one kind.
    fn kind(&self, kind: Kind) -> Result<(Extent, Vec<Counterexample>), Unknown> {
        let (mut ground, mut worker) = (self.ground(kind), self.worker());
        let (mut extent, mut reached, mut found) = (Extent::default(), BTreeSet::new(), Vec::new());
        for case in &self.cases {
            let seen = ground.settled(|ground| worker.compare(ground, kind, case, [true; 2]))?;
            extent.slices += usize::from(seen.cases > 0);
            extent.cases += seen.cases;
            reached.extend(seen.reached);
            found.extend(seen.found);
        }
        extent.rules = reached.iter().filter_map(|terminal| worker.follow.rule(*terminal)).collect();
        Ok((extent, found))
    }

    fn all(&self) -> Result<(Extent, Vec<Counterexample>), Unknown> {
        let results: Vec<_> = thread::scope(|scope| {
            let threads = KINDS.map(|kind| scope.spawn(move || self.kind(kind)));
            let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
            ended.map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let (mut extent, mut found) = (Extent::default(), Vec::new());
        for result in results {
            let (some, different) = result?;
            extent.slices += some.slices;
            extent.cases += some.cases;
            extent.rules.extend(some.rules);
            found.extend(different);
        }
        extent.dead = slice::deciding(&self.tables);
        extent.dead.retain(|rule| !extent.rules.contains(rule));
        Ok((extent, found))
    }
}

struct Worker<'w, 't> {
    follow: Follow<'w, 't>,
}

/// What came of one case.
#[derive(Default)]
struct Seen {
    cases: usize,
    reached: Vec<u32>,
    found: Vec<Counterexample>,
}

impl<'w, 't> Worker<'w, 't> {
    /// Compares what is sent in one case, at the hooks of the bridge's table and
    /// of the other.
    fn compare(
        &mut self,
        ground: &mut Ground,
        kind: Kind,
        case: &Case<'_>,
        [frames, packets]: [bool; 2],
    ) -> Result<Seen, Unknown> {
        let is_ip = matches!(kind, Kind::Ipv4 | Kind::Ipv6);
        let mut all = match case.from {
            From::Port(port) if frames => self.follow.at_port(ground, port.interface.as_str())?,
            _ => Vec::new(),
        };
        if is_ip && packets {
            self.routed(ground, case, &mut all)?;
        }
        let mut seen = Seen::default();
        for mut judged in all {
            // Rules are followed faster where anything goes.
            let Judged { header, space, rules, .. } = &mut judged;
            *space = case.possible(&mut ground.diagrams, header, *space);
            *rules = ground.diagrams.choose(*space, *rules, Diagram::NEVER);
            let says = self.says(ground, case, &judged, judged.space)?;
            let passes = ground.diagrams.change(PASSES, says, &|number| match claim(number) {
                Some(Outcome::Masqueraded) => terminal(Outcome::Passed),
                _ => Diagram::terminal(number),
            });
            self.hold(ground, case, &judged, (judged.rules, passes, false), &mut seen)?;
            if judged.stop == Stop::Out {
                let (space, rules) = self.follow.leaving(ground, &judged)?;
                let says = ground.diagrams.choose(space, says, Diagram::NEVER);
                self.hold(ground, case, &judged, (rules, says, true), &mut seen)?;
            }
        }
        Ok(seen)
    }

    /// Packets that come in by a link, or are the host's own.
    fn routed(&mut self, ground: &mut Ground, case: &Case<'_>, all: &mut Vec<Judged>) -> Result<(), Unknown> {
        let mut header = ground.header();
        let link = case.link();
        let number = |link: &str| self.follow.links.known(link).map_or(NOBODYS, |range| range.0);
        header.fix(Field::In, link.map_or(NO_LINK, number));
        let space = case.fixed(&mut ground.diagrams, &header);
        if link.is_some() {
            return self.follow.routed_from(ground, &header, (space, &[]), all);
        }
        let legal = legal::packets(&mut ground.diagrams, &header);
        let space = ground.diagrams.and(space, legal);
        let space = self.follow.forwarded(&mut ground.diagrams, &header, space);
        // What nobody has reaches nobody: the rules let the host look for it.
        let (means, facts) =
            (Means::new(&case.model, None, None), Facts::open(&mut ground.diagrams, &header));
        let of = Of { header: &header, delivery: Delivery::Out, means: &means, facts: &facts };
        let mut kept = Diagram::NEVER;
        let mut nobodys = |subject: &mut EveryHost<'_>| case.model.is_for_nobody(subject);
        for (these, nobodys) in judge(&mut ground.diagrams, of, None, space, &mut nobodys)? {
            if !nobodys {
                kept = ground.diagrams.or(kept, these);
            }
        }
        let rules = self.follow.hook(ground, &header, INET, "output", kept)?;
        all.push(Judged { stop: Stop::Out, header, space: kept, rules, senders: Vec::new() });
        Ok(())
    }

    /// What the model says of all that may come to a stop.
    fn says(
        &self,
        ground: &mut Ground,
        case: &Case<'_>,
        judged: &Judged,
        space: Diagram,
    ) -> Result<Diagram, Unknown> {
        let mut says = Diagram::NEVER;
        for (these, claimed) in case.asked(&mut ground.diagrams, judged, space, false)? {
            says = ground.diagrams.choose(these, terminal(claimed.outcome()), says);
        }
        Ok(says)
    }

    /// Holds rules and model against each other: within the limits they are
    /// equal, beyond them nothing passes that the model doesn't let pass.
    fn hold(
        &self,
        ground: &mut Ground,
        case: &Case<'_>,
        judged: &Judged,
        (rules, says, leaves): (Diagram, Diagram, bool),
        seen: &mut Seen,
    ) -> Result<(), Unknown> {
        seen.cases += 1;
        seen.reached.extend(ground.diagrams.new_terminals(if leaves { LEAVES } else { OUTCOME }, rules));
        let follow = &self.follow;
        let outcomes =
            ground.diagrams.change(if leaves { LEAVES } else { OUTCOME }, rules, &|number| match number {
                0 => Diagram::NEVER,
                number => terminal(follow.outcome(number, leaves)),
            });
        if outcomes == says {
            return Ok(());
        }
        let diagrams = &mut ground.diagrams;
        let used = judged.header.range(diagrams, Field::Limits, (1, u128::from(u8::MAX)));
        let mut found = Vec::new();
        for ((rule, claimed), _) in diagrams.pairs(rules, says, u32::MAX) {
            let Some(expected) = claim(claimed).filter(|_| rule != 0) else {
                if rule == claimed {
                    continue;
                }
                return Err(Unknown(format!("what is judged of what {:?} sends", case.link())));
            };
            let outcome = follow.outcome(rule, leaves);
            if outcome == expected {
                continue;
            }
            // Where both are so, within the limits or beyond them.
            let these = diagrams.rename(rules, &|other| truth(other == rule));
            let those = diagrams.rename(says, &|other| truth(other == claimed));
            let mut wrong = diagrams.and(these, those);
            if outcome == Outcome::Dropped || expected != Outcome::Dropped {
                wrong = diagrams.minus(wrong, used);
            }
            if let Some(path) = diagrams.pairs(wrong, wrong, u32::MAX).remove(&(1, 1)) {
                let others = diagrams.minus(judged.space, wrong);
                let others = diagrams.minus(others, used);
                found.push((rule, expected, telling(diagrams, &path, others), path));
            }
        }
        for (rule, expected, facts, path) in found {
            let one = self.counterexample(ground, case, judged, (rule, expected, leaves), &path)?;
            seen.found.push(Counterexample { facts, ..one });
        }
        Ok(())
    }

    fn counterexample(
        &self,
        ground: &mut Ground,
        case: &Case<'_>,
        judged: &Judged,
        (rule, expected, leaves): (u32, Outcome, bool),
        path: &Path,
    ) -> Result<Counterexample, Unknown> {
        let packet = Packet::new(&judged.header, self.follow.links, path, case.link(), false);
        let only = cube(&mut ground.diagrams, path);
        let said = case.asked(&mut ground.diagrams, judged, only, true)?.pop();
        let model = said.map(|(_, model)| model).filter(|model| {
            let alone = model.outcome();
            let alone = if leaves || alone == Outcome::Dropped { alone } else { Outcome::Passed };
            alone == expected
        });
        let model =
            model.ok_or_else(|| Unknown(format!("why the model says another thing of {packet} alone")))?;
        Ok(Counterexample {
            facts: Fact::on(path),
            packet,
            rules: self.follow.outcome(rule, leaves),
            rule: self.follow.rule(rule),
            model,
        })
    }
}

/// A kind of [`Diagrams::change`]: masquerading is another matter.
const PASSES: u32 = 16;
