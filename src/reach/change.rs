//! The change of a spec as a change of who may reach whom.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::topology::{Direction, IfName, Name, Nat, Port, Topology};

use super::class::{Class, Classes, Guest, guests};
use super::names::Names;
use super::services::{Both, Services};
use super::side::{Family, Pair, Range, Side, regions};
use super::{Model, Vicinity};

/// What a new topology opens and closes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it opens first.
    pub lines: Vec<Line>,
}

/// Something that opens or closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Whether it opens: a widening.
    pub opens: bool,
    /// Who may send, or may no longer: networks, `network/subnet`s, guests,
    /// `host`, `internet`, `tailnet`.
    pub from: Vec<String>,
    /// To whom; `imds` besides.
    pub to: Vec<String>,
    /// What.
    pub services: Both,
}

impl Change {
    /// Whether something may be reached that couldn't before.
    pub fn widens(&self) -> bool {
        self.lines.iter().any(|line| line.opens)
    }

    /// The change from `old` to `new`, each on a host as it most often is.
    pub fn between(old: &Topology, new: &Topology) -> Self {
        let vicinities = [Vicinity::assumed(old), Vicinity::assumed(new)];
        let [of_old, of_new] = &vicinities;
        Comparison::new(Model::new(old, of_old), Model::new(new, of_new)).change()
    }
}

/// Somebody of a pair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// The guests of a class, by its index.
    Class(usize),
    /// Others, as they are called.
    Other(String),
}

/// Guests that neither topology tells apart.
struct Group<'t> {
    guests: Vec<Guest<'t>>,
    /// A guest or two, in each topology.
    ports: [Vec<&'t Port>; 2],
    networks: [Option<&'t Name>; 2],
    /// Whether the two topologies say the same of it.
    same: bool,
}

struct Comparison<'t> {
    models: [Model<'t>; 2],
    groups: Vec<Group<'t>>,
    /// Whether the two topologies say the same of the host itself.
    same: bool,
    found: BTreeMap<(bool, Both), BTreeMap<Party, BTreeSet<Party>>>,
}

/// What opens, and what closes.
type Difference = [Services; 2];

impl<'t> Comparison<'t> {
    fn new(old: Model<'t>, new: Model<'t>) -> Self {
        let (before, after) = (old.topology(), new.topology());
        let same = before.uplink == after.uplink
            && before.firewall == after.firewall
            && before.allow_input == after.allow_input
            && before.tailscale == after.tailscale;
        let guests = [guests(before), guests(after)];
        let classes = [Classes::new(before), Classes::new(after)];
        let names: BTreeSet<&Guest<'t>> = guests.iter().flat_map(BTreeMap::keys).collect();
        let mut groups: BTreeMap<([Option<Class<'t>>; 2], bool), Group<'t>> = BTreeMap::new();
        for name in names {
            let ports: Vec<Option<&'t Port>> =
                guests.iter().map(|guests| guests.get(name).copied()).collect();
            let [was, is] = [0, 1].map(|side| ports.get(side).copied().flatten());
            let class = |port: Option<&'t Port>, classes: &Classes<'t>| port.map(|port| classes.of(port));
            let [of_old, of_new] = &classes;
            let unchanged = was == is
                && was.zip(is).is_some_and(|(was, is)| {
                    before.network(&was.network) == after.network(&is.network)
                        && before.policy(was) == after.policy(is)
                });
            let key = ([class(was, of_old), class(is, of_new)], unchanged);
            let group = groups.entry(key).or_insert_with(|| Group {
                guests: Vec::new(),
                ports: [Vec::new(), Vec::new()],
                networks: [was, is].map(|port| port.map(|port| &port.network)),
                same: unchanged,
            });
            group.guests.push(*name);
            for (list, port) in group.ports.iter_mut().zip([was, is]) {
                list.extend(port.filter(|_| group.guests.len() <= 2));
            }
        }
        Self { models: [old, new], groups: groups.into_values().collect(), same, found: BTreeMap::new() }
    }

    fn change(mut self) -> Change {
        for index in 0..self.groups.len() {
            self.with_others(index);
        }
        let by_network = [0, 1].map(|side| {
            let mut members: BTreeMap<&'t Name, Vec<usize>> = BTreeMap::new();
            for (index, group) in self.groups.iter().enumerate() {
                if let Some(Some(network)) = group.networks.get(side) {
                    members.entry(network).or_default().push(index);
                }
            }
            members
        });
        let peers = [0, 1].map(|side| self.peers(side));
        for a in 0..self.groups.len() {
            let mut others = BTreeSet::new();
            for side in [0, 1] {
                let network =
                    self.groups.get(a).and_then(|group| group.networks.get(side).copied().flatten());
                let (Some(network), Some(members), Some(peers)) =
                    (network, by_network.get(side), peers.get(side))
                else {
                    continue;
                };
                let reached = peers.get(network).into_iter().flatten().copied().chain([network]);
                others.extend(reached.filter_map(|network| members.get(network)).flatten().copied());
            }
            for b in others {
                self.guests(a, b);
            }
        }
        if !self.same {
            self.without_guests();
        }
        self.lines()
    }

    /// Who a network is peered with.
    fn peers(&self, side: usize) -> BTreeMap<&'t Name, Vec<&'t Name>> {
        let mut peers: BTreeMap<&'t Name, Vec<&'t Name>> = BTreeMap::new();
        let pairs =
            self.models.get(side).map(|model| model.topology().peerings.as_slice()).unwrap_or_default();
        for (a, b) in pairs {
            peers.entry(a).or_default().push(b);
            peers.entry(b).or_default().push(a);
        }
        peers
    }

    /// From guests to guests.
    fn guests(&mut self, a: usize, b: usize) {
        let (Some(from), Some(to)) = (self.groups.get(a), self.groups.get(b)) else { return };
        let peered = |side: usize| {
            let (from, to) = (from.networks.get(side)?.as_ref()?, to.networks.get(side)?.as_ref()?);
            Some(self.models.get(side)?.connected(from, to))
        };
        if from.same && to.same && peered(0) == peered(1) {
            return;
        }
        let ends = [0, 1].map(|side| {
            let from = from.ports.get(side).and_then(|ports| ports.first());
            let to = to.ports.get(side).and_then(|ports| ports.get(usize::from(a == b)));
            from.zip(to).map(|(from, to)| (Side::Guest(from), Side::Guest(to)))
        });
        if a == b && from.guests.len() < 2 {
            return;
        }
        let differences = Family::ALL.map(|family| self.difference(ends, family, None));
        self.note(&Party::Class(a), &Party::Class(b), differences);
    }

    /// Between guests and those who are none.
    fn with_others(&mut self, index: usize) {
        let Some(group) = self.groups.get(index) else { return };
        if group.same && self.same {
            return;
        }
        let ports = [0, 1].map(|side| group.ports.get(side).and_then(|ports| ports.first().copied()));
        let mut exits: BTreeSet<Option<&'t IfName>> = BTreeSet::new();
        for (model, port) in self.models.iter().zip(ports) {
            let network = port.and_then(|port| model.topology().network(&port.network));
            match network.map(|network| &network.nat) {
                Some(Nat::Named(names)) => exits.extend(names.iter().map(Some)),
                Some(Nat::Uplinks | Nat::Off) => {
                    exits.insert(None);
                }
                None => {}
            }
        }
        let others = [Side::Host, Side::Imds, Side::Tailnet, Side::Internet(None)];
        for to in others.into_iter().take(3).chain(exits.into_iter().map(Side::Internet)) {
            let ends = ports.map(|port| port.map(|port| (Side::Guest(port), to)));
            self.parts(&Party::Class(index), &Party::Other(called(to)), ends, to);
        }
        for from in others.into_iter().filter(|side| *side != Side::Imds) {
            let ends = ports.map(|port| port.map(|port| (from, Side::Guest(port))));
            self.parts(&Party::Other(called(from)), &Party::Class(index), ends, from);
        }
    }

    /// What the mode says of others.
    fn without_guests(&mut self) {
        for (from, to) in [
            (Side::Internet(None), Side::Host),
            (Side::Tailnet, Side::Host),
            (Side::Tailnet, Side::Internet(None)),
            (Side::Internet(None), Side::Tailnet),
        ] {
            if to == Side::Tailnet && self.models.iter().any(|model| model.topology().tailscale.is_none()) {
                continue;
            }
            let differences = Family::ALL.map(|family| self.difference([Some((from, to)); 2], family, None));
            self.note(&Party::Other(called(from)), &Party::Other(called(to)), differences);
        }
    }

    /// As far as rules tell apart what is behind an interface.
    fn parts(&mut self, from: &Party, to: &Party, ends: [Option<(Side<'t>, Side<'t>)>; 2], remote: Side<'t>) {
        if !remote.is_remote() {
            let differences = Family::ALL.map(|family| self.difference(ends, family, None));
            return self.note(from, to, differences);
        }
        let rules = self.models.iter().zip(ends).filter_map(|(model, ends)| {
            let (from, to) = ends?;
            from.rules(model, Direction::Egress).or(to.rules(model, Direction::Ingress))
        });
        let rules: Vec<_> = rules.collect();
        let models: Vec<&Model<'t>> = self.models.iter().collect();
        let found = Family::ALL.map(|family| {
            let mut found: BTreeMap<Difference, Vec<Range>> = BTreeMap::new();
            for (part, sample) in regions(&models, remote, &rules, family) {
                let difference = self.difference(ends, family, Some(sample));
                let ranges = found.entry(difference).or_default();
                match ranges.last_mut() {
                    Some(previous) if previous.1.checked_add(1) == Some(part.0) => previous.1 = part.1,
                    _ => ranges.push(part),
                }
            }
            found
        });
        if let [v4, v6] = &found
            && v4.len() <= 1
            && v6.len() <= 1
        {
            let whole = |found: &BTreeMap<Difference, _>| found.keys().next().cloned().unwrap_or_default();
            return self.note(from, to, [whole(v4), whole(v6)]);
        }
        for (family, found) in Family::ALL.into_iter().zip(found) {
            let all = found.len() == 1;
            for (difference, ranges) in found {
                let part = |party: &Party| match party {
                    Party::Other(name) if !all => {
                        Party::Other(format!("{name} {}", super::names::ranges(family, &ranges)))
                    }
                    party => party.clone(),
                };
                let differences = match family {
                    Family::V4 => [difference, Difference::default()],
                    Family::V6 => [Difference::default(), difference],
                };
                self.note(&part(from), &part(to), differences);
            }
        }
    }

    fn difference(
        &self,
        ends: [Option<(Side<'t>, Side<'t>)>; 2],
        family: Family,
        far: Option<std::net::IpAddr>,
    ) -> Difference {
        let mut open = self.models.iter().zip(ends).map(|(model, ends)| {
            let pair = ends.and_then(|(from, to)| Pair::new(model, from, to, family, far));
            pair.map(|pair| pair.open(model)).unwrap_or_default()
        });
        let (before, after) = (open.next().unwrap_or_default(), open.next().unwrap_or_default());
        [after.minus(&before), before.minus(&after)]
    }

    fn note(&mut self, from: &Party, to: &Party, [v4, v6]: [Difference; 2]) {
        let ([opens4, closes4], [opens6, closes6]) = (v4, v6);
        for (opens, both) in
            [(true, Both { v4: opens4, v6: opens6 }), (false, Both { v4: closes4, v6: closes6 })]
        {
            if !both.is_empty() {
                let pairs = self.found.entry((opens, both)).or_default();
                pairs.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }

    /// Senders that may reach the same ones become one line.
    fn lines(self) -> Change {
        let names = self.models.each_ref().map(|model| Names::new(model.topology()));
        let alone = |index: usize| self.groups.get(index).is_some_and(|group| group.guests.len() == 1);
        let mut lines = Vec::new();
        for ((opens, services), pairs) in self.found {
            let mut alike: BTreeMap<BTreeSet<Party>, Vec<Party>> = BTreeMap::new();
            for (from, to) in pairs {
                let (mut guests, others): (BTreeSet<_>, BTreeSet<_>) =
                    to.into_iter().partition(|party| matches!(party, Party::Class(_)));
                // A guest that is alone in its class is as good as among
                // those that it reaches.
                if let Party::Class(index) = &from
                    && alone(*index)
                    && !guests.is_empty()
                {
                    guests.insert(from.clone());
                }
                for to in [guests, others].into_iter().filter(|to| !to.is_empty()) {
                    alike.entry(to).or_default().push(from.clone());
                }
            }
            let [before, after] = &names;
            let names = if opens { after } else { before };
            let texts = |parties: &mut dyn Iterator<Item = &Party>| {
                let mut guests = BTreeSet::new();
                let mut others = Vec::new();
                for party in parties {
                    match party {
                        Party::Class(index) => {
                            guests
                                .extend(self.groups.get(*index).into_iter().flat_map(|group| &group.guests));
                        }
                        Party::Other(name) => others.push(name.clone()),
                    }
                }
                names.brief(&guests).into_iter().chain(others).collect::<Vec<_>>()
            };
            for (mut to, from) in alike {
                if let [only @ Party::Class(index)] = from.as_slice()
                    && alone(*index)
                {
                    to.remove(only);
                }
                let line = Line {
                    opens,
                    from: texts(&mut from.iter()),
                    to: texts(&mut to.iter()),
                    services: services.clone(),
                };
                lines.push(line);
            }
        }
        lines.sort_by(|a, b| (!a.opens, &a.from, &a.to).cmp(&(!b.opens, &b.from, &b.to)));
        Change { lines }
    }
}

fn called(side: Side<'_>) -> String {
    match side {
        Side::Host => "host".into(),
        Side::Internet(None) => "internet".into(),
        Side::Internet(Some(by)) => format!("internet by {by}"),
        Side::Tailnet => "tailnet".into(),
        Side::Imds => "imds".into(),
        Side::Guest(port) => port.interface.to_string(),
        Side::Address(address) => address.to_string(),
    }
}
