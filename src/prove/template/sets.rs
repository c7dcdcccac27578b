//! The other half: whether the sets of one host hold what the table of meaning
//! says, and the host keeps the laws. With it, what is proved of the template
//! is proved of that host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::packet::Range;
use crate::reach::Model;
use crate::reach::subject::{Field, Kind};
use crate::topology::{Action, Direction, IfName};

use super::super::diagram::{Diagram, Diagrams};
use super::super::ground::Ground;
use super::super::header::{Header, truth};
use super::super::links::NOBODYS;
use super::super::packet::Packet;
use super::super::rules::{self, Set, Tables, Unknown, Verdict};
use super::super::slice::NO_LINK;
use super::super::space::Space;
use super::fact::{Fact, Facts, Term};
use super::laws::LAWS;
use super::on_host::OnHost;
use super::table;

/// The answer.
#[derive(Debug)]
pub enum Sets {
    /// Each look-up means what it should; so many were looked at.
    Equal(usize),
    /// Some don't.
    Different(Vec<Misfit>),
    /// Nothing can be said.
    Unknown(Unknown),
}

/// A packet for which a set says another thing than the model, or a law isn't
/// kept.
#[derive(Debug)]
pub struct Misfit {
    /// The set, with what is asked of it, or the law.
    pub what: String,
    /// The packet.
    pub packet: Packet,
    /// Whether the set has an element for it; the model says the opposite.
    pub has: bool,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = if self.has { "has an element that it shouldn't for" } else { "has no element for" };
        write!(f, "{} {has}: {}", self.what, self.packet)
    }
}

/// Holds the sets that a listing shows against a model, for every packet.
pub fn sets(model: &Model<'_>, listing: &Value, indices: &BTreeMap<IfName, u32>) -> Sets {
    let looked = || {
        let (links, tables) = super::super::read(&[model], &[listing], indices)?;
        let tables = tables.first().ok_or_else(|| Unknown("a listing".into()))?;
        let on = OnHost::new(model, &links);
        let mut worker = Worker { on: &on, tables, looked: 0, found: Vec::new() };
        [Kind::Ipv4, Kind::Ipv6, Kind::Arp].into_iter().try_for_each(|kind| worker.compare(kind))?;
        Ok((worker.looked, worker.found))
    };
    match looked() {
        Err(unknown) => Sets::Unknown(unknown),
        Ok((looked, found)) if found.is_empty() => Sets::Equal(looked),
        Ok((_, found)) => Sets::Different(found),
    }
}

struct Worker<'w, 't> {
    on: &'w OnHost<'w, 't>,
    tables: &'w Tables,
    looked: usize,
    found: Vec<Misfit>,
}

impl Worker<'_, '_> {
    fn compare(&mut self, kind: Kind) -> Result<(), Unknown> {
        let links = self.on.links;
        let mut ground = Ground::new(kind, &[self.tables], links);
        // What doesn't ask where a packet comes in is looked at once.
        for link in [None, Some("")].into_iter().chain(links.names().map(Some)) {
            let before = (self.looked, self.found.len());
            ground.settled(|ground| {
                self.looked = before.0;
                self.found.truncate(before.1);
                self.compare_from(ground, kind, link);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn compare_from(&mut self, ground: &mut Ground, kind: Kind, link: Option<&str>) {
        let mut header = ground.header();
        let number = |link: &str| self.on.links.known(link).map_or(NOBODYS, |range| range.0);
        header.fix(Field::In, link.map_or(NO_LINK, number));
        let facts = self.on.facts(ground, &header, link);
        for table in &self.tables.tables {
            for set in &table.sets {
                let rows = table::asked(&set.name, kind).filter(|row| !row.is_of_policy());
                for row in rows.filter(|row| link.is_none() != row.fields.contains(&Field::In)) {
                    let diagrams = &mut ground.diagrams;
                    let there = present(diagrams, &header, row.fields);
                    let holds = elements(diagrams, &header, set, row.fields);
                    let means = Term::all(row.means, diagrams, &header, &facts);
                    let (holds, means) = (diagrams.and(there, holds), diagrams.and(there, means));
                    let what = format!("{} {}, set {}", table.family, table.name, set.name);
                    self.hold(&ground.diagrams, &header, link, what, (holds, means));
                }
            }
        }
        if kind == Kind::Arp {
            return;
        }
        self.laws(ground, &header, link, &facts);
        match link {
            Some(_) => self.judges(ground, &header, link, &facts, Direction::Egress),
            None => {
                self.judges(ground, &header, link, &facts, Direction::Ingress);
                self.shares(ground, &header, &facts);
                self.policies(ground, &header);
            }
        }
    }

    /// Whether the host keeps the laws, of packets that ports let past.
    fn laws(&mut self, ground: &mut Ground, header: &Header, link: Option<&str>, facts: &Facts) {
        let diagrams = &mut ground.diagrams;
        let network = link.and_then(|link| self.on.model.network_of_bridge(link));
        let mut past = diagrams.not(facts.is(Fact::FromGuest));
        for (mac, addresses) in
            network.map(|network| self.on.model.senders(network, header.family())).iter().flatten()
        {
            let own = header.range(diagrams, Field::SourceMac, (*mac, *mac));
            let ranges: Vec<Range> = addresses.iter().map(|address| (*address, *address)).collect();
            let its = header.among(diagrams, Field::Source, &ranges);
            let both = diagrams.and(own, its);
            past = diagrams.or(past, both);
        }
        for law in LAWS.iter().filter(|law| law.is_of_way_in() == link.is_some()) {
            let kept = law.diagram(diagrams, header, facts);
            let kept = diagrams.and(past, kept);
            self.hold(diagrams, header, link, format!("the law that {}", law.words), (kept, past));
        }
    }

    /// Whether the chains of a direction are led to for those whose policies they
    /// are.
    fn judges(
        &mut self,
        ground: &mut Ground,
        header: &Header,
        link: Option<&str>,
        facts: &Facts,
        direction: Direction,
    ) {
        let (maps, fields, has) = match direction {
            Direction::Ingress => {
                (["ingress4", "ingress6"], [Field::Out, Field::Destination], Fact::HasIngress)
            }
            Direction::Egress => (["egress4", "egress6"], [Field::In, Field::Source], Fact::HasEgress),
        };
        let name = header.family().pick(maps);
        for table in &self.tables.tables {
            let Some(map) = table.sets.iter().find(|set| set.name == name) else { continue };
            let diagrams = &mut ground.diagrams;
            let found = elements(diagrams, header, map, &fields);
            let any = diagrams.rename(found, &|value| truth(value != 0));
            self.hold(diagrams, header, link, format!("map {name}"), (any, facts.is(has)));
            let mut expected = Diagram::NEVER;
            let led: BTreeSet<Diagram> =
                diagrams.terminals(found).into_iter().map(Diagram::terminal).collect();
            for (value, verdict) in map.verdicts().filter(|(value, _)| led.contains(value)) {
                let chain = match verdict {
                    Verdict::Jump(chain) => table.chains.get(chain).map(|chain| chain.name.as_str()),
                    _ => None,
                };
                let sets = self.on.model.sets();
                let mut policies = sets.lists.keys();
                let policy = policies.find(|policy| Some(chain_of(policy, direction).as_str()) == chain);
                let judged = match policy {
                    Some(policy) => self.on.judged(diagrams, header, policy, direction),
                    None => Diagram::NEVER,
                };
                expected = diagrams.choose(judged, value, expected);
            }
            self.hold(diagrams, header, link, format!("a chain that {name} leads to"), (found, expected));
        }
    }

    /// Whether each policy's sets say of everything what the policy does.
    fn policies(&mut self, ground: &mut Ground, header: &Header) {
        let sets = self.on.model.sets();
        for table in self.tables.tables.iter().filter(|table| table.family != "bridge") {
            for (&policy, direction) in
                sets.lists.keys().flat_map(|policy| Direction::ALL.map(|direction| (policy, direction)))
            {
                let Some(list) = sets.list(policy, direction) else { continue };
                let far = match direction {
                    Direction::Ingress => Field::Source,
                    Direction::Egress => Field::Destination,
                };
                let mut decides = |space: &mut Space<'_>| list.decide(space, far).0 == Action::Deny;
                let denied = self.on.asked(ground, header, &mut decides);
                let diagrams = &mut ground.diagrams;
                let chain = chain_of(policy, direction);
                let named = named(diagrams, header, table, &chain);
                let other = if list.is_open() { denied } else { diagrams.not(denied) };
                let readable = readable(diagrams, header);
                let other = diagrams.and(other, readable);
                self.hold(diagrams, header, None, format!("what {chain} names"), (named, other));
            }
        }
    }

    /// Who has a part of the ports is a guest.
    fn shares(&mut self, ground: &mut Ground, header: &Header, facts: &Facts) {
        for set in self.tables.tables.iter().flat_map(|table| &table.sets) {
            if header.family().pick(["port_share", "port_share6"]) != set.name {
                continue;
            }
            let diagrams = &mut ground.diagrams;
            let found = elements(diagrams, header, set, &[Field::Source]);
            let found = diagrams.rename(found, &|value| truth(value != 0));
            let guests = diagrams.and(found, facts.is(Fact::FromNetworks));
            self.hold(diagrams, header, None, format!("map {}", set.name), (found, guests));
        }
    }

    fn hold(
        &mut self,
        diagrams: &Diagrams,
        header: &Header,
        link: Option<&str>,
        what: String,
        (holds, means): (Diagram, Diagram),
    ) {
        self.looked += 1;
        if holds == means {
            return;
        }
        for ((has, should), path) in diagrams.pairs(holds, means, u32::MAX) {
            if has != should {
                let packet = Packet::new(header, self.on.links, &path, link, true);
                self.found.push(Misfit { what: what.clone(), packet, has: has != 0 });
            }
        }
    }
}

/// Where a set has an element, whatever it limits, and a map's value there.
fn elements(diagrams: &mut Diagrams, header: &Header, set: &Set, fields: &[Field]) -> Diagram {
    let first = fields.first().and_then(|first| header.constant(*first));
    let boxes = first.map(|value| set.with_first(value));
    header.boxes(diagrams, fields, boxes.as_ref().unwrap_or(&set.boxes))
}

/// The chain of one direction of a policy.
fn chain_of(policy: &str, direction: Direction) -> String {
    let suffix = match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    };
    format!("policy_{policy}_{suffix}")
}

/// Where one of a policy's sets has an element for what its chain's rules ask.
fn named(diagrams: &mut Diagrams, header: &Header, table: &rules::Table, chain: &str) -> Diagram {
    let own = |set: &&Set| {
        set.name.strip_prefix(chain).is_some_and(|rest| !rest.trim_start_matches('_').contains('_'))
    };
    let mut named = Diagram::NEVER;
    for set in table.sets.iter().filter(own) {
        for row in table::asked(&set.name, header.kind) {
            let found = elements(diagrams, header, set, row.fields);
            let there = present(diagrams, header, row.fields);
            let there = diagrams.and(there, found);
            named = diagrams.or(named, there);
        }
    }
    named
}

/// Where a packet has all of these fields.
fn present(diagrams: &mut Diagrams, header: &Header, fields: &[Field]) -> Diagram {
    fields.iter().fold(Diagram::ALWAYS, |all, field| {
        let one = header.present(diagrams, *field);
        diagrams.and(all, one)
    })
}

/// Where a policy can read what a packet is, and to which port.
fn readable(diagrams: &mut Diagrams, header: &Header) -> Diagram {
    let protocol = header.present(diagrams, Field::Protocol);
    let ports = header.present(diagrams, Field::DestinationPort);
    let with = super::fact::with_ports(diagrams, header);
    let wanting = diagrams.minus(with, ports);
    diagrams.minus(protocol, wanting)
}
