//! Two topologies beside each other: what differs between whom, asked once for
//! all guests that neither tells apart.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::packet::prefix::{inhabited, is_private};
use crate::packet::{Family, Range, number};
use crate::topology::{IfName, Imds, Name, Nat, Port, SubnetKind};

use super::Model;
use super::change::{Found, Party};
use super::class::{Class, Classes, Guest, guests};
use super::names;
use super::policy::Indexed;
use super::services::{Both, Services};
use super::side::{Pair, Side, regions, telling};

/// Guests that neither topology tells apart.
struct Group<'t> {
    guests: Vec<Guest<'t>>,
    /// A guest or two, in each topology.
    ports: [Vec<&'t Port>; 2],
    networks: [Option<&'t Name>; 2],
    /// Whether the two topologies say the same of it.
    same: bool,
}

/// All that decides about flows between a guest and those who are none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Outward<'t> {
    policy: Option<&'t str>,
    /// None for the uplinks.
    exits: Option<&'t [IfName]>,
    public: bool,
    lan: &'t [IpNet],
    imds: bool,
    tailscale: bool,
    /// Which rules name the gateway's addresses, those that it has.
    gateway: [Option<usize>; 2],
    ipv6: bool,
}

/// What differs between guests and somebody: whether the guests send, who it
/// is, and what.
type Outside = (bool, String, [Difference; 2]);

/// Two models beside each other.
pub(super) struct Comparison<'t> {
    models: [Model<'t>; 2],
    classes: [Classes<'t>; 2],
    /// Differences that are known, by what decides about them.
    outside: BTreeMap<[Option<Outward<'t>>; 2], Vec<Outside>>,
    groups: Vec<Group<'t>>,
    /// Whether the two topologies say the same of the host itself.
    same: bool,
    found: Found,
}

/// What opens, and what closes.
type Difference = [Services; 2];

impl<'t> Comparison<'t> {
    pub fn new(old: Model<'t>, new: Model<'t>) -> Self {
        let (before, after) = (old.topology(), new.topology());
        let same = before.uplink == after.uplink
            && before.firewall == after.firewall
            && before.allow_input == after.allow_input
            && before.tailscale == after.tailscale
            && before.deny == after.deny
            && before.dns == after.dns;
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
        Self {
            models: [old, new],
            classes,
            outside: BTreeMap::new(),
            groups: groups.into_values().collect(),
            same,
            found: BTreeMap::new(),
        }
    }

    /// The guests of each class, and what differs between classes and others.
    pub fn found(mut self) -> (Vec<Vec<Guest<'t>>>, Found) {
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
        (self.groups.into_iter().map(|group| group.guests).collect(), self.found)
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
        let [old, new] = &self.classes;
        let [before, after] = ports;
        let key = [before.and_then(|port| outward(old, port)), after.and_then(|port| outward(new, port))];
        let known = match self.outside.get(&key) {
            Some(known) => known.clone(),
            None => {
                let found = self.outside(ports);
                self.outside.entry(key).or_insert(found).clone()
            }
        };
        for (sends, other, differences) in known {
            let (guests, other) = (Party::Class(index), Party::Other(other));
            if sends {
                self.note(&guests, &other, differences);
            } else {
                self.note(&other, &guests, differences);
            }
        }
    }

    /// What differs between a guest and those who are none.
    fn outside(&self, ports: [Option<&'t Port>; 2]) -> Vec<Outside> {
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
        let mut found = Vec::new();
        let receivers = [Side::Host, Side::Imds, Side::Tailnet];
        for to in receivers.into_iter().chain(exits.into_iter().map(Side::Internet)) {
            let ends = ports.map(|port| port.map(|port| (Side::Guest(port), to)));
            self.parts(ends, to, |name, differences| found.push((true, name, differences)));
        }
        for net in self.beside_the_internet(ports) {
            let first = number(net.network());
            let sample = if net.prefix_len() == net.max_prefix_len() { first } else { first + 1 };
            let to = Side::Address(Family::of(net.addr()).address(sample));
            let ends = ports.map(|port| port.map(|port| (Side::Guest(port), to)));
            self.parts(ends, to, |_, differences| found.push((true, net.to_string(), differences)));
        }
        for from in [Side::Host, Side::Tailnet, Side::Internet(None)] {
            let ends = ports.map(|port| port.map(|port| (from, Side::Guest(port))));
            self.parts(ends, from, |name, differences| found.push((false, name, differences)));
        }
        found
    }

    /// Prefixes that aren't the internet, or that are denied, as far as either
    /// topology says something of its own about them.
    fn beside_the_internet(&self, ports: [Option<&'t Port>; 2]) -> BTreeSet<IpNet> {
        let mut nets = BTreeSet::new();
        for (model, port) in self.models.iter().zip(ports) {
            let topology = model.topology();
            nets.extend(topology.deny.iter().copied());
            nets.extend(topology.dns.iter().filter(|address| is_private(**address)).map(|a| IpNet::from(*a)));
            let network = port.and_then(|port| topology.network(&port.network));
            for net in network.into_iter().flat_map(|network| &network.lan) {
                match net.prefix_len() {
                    0 => nets.extend(inhabited().iter().filter(|inhabited| net.contains(*inhabited))),
                    _ => nets.extend([*net]),
                }
            }
        }
        nets
    }

    /// What the mode says of others.
    fn without_guests(&mut self) {
        let named = self.models.each_ref().map(|model| model.topology().tailscale.is_some());
        let tailnet = if named.contains(&true) { called(Side::Tailnet) } else { "other links".into() };
        let internet = called(Side::Internet(None));
        let mut pairs = vec![
            (Side::Internet(None), internet.clone(), Side::Host, called(Side::Host)),
            (Side::Tailnet, tailnet.clone(), Side::Internet(None), internet.clone()),
        ];
        if named.contains(&true) {
            pairs.push((Side::Tailnet, tailnet.clone(), Side::Host, called(Side::Host)));
        }
        // Where it isn't named, nothing is known to lead there.
        if named == [true, true] {
            pairs.push((Side::Internet(None), internet, Side::Tailnet, tailnet));
        }
        for (from, sender, to, receiver) in pairs {
            let differences = Family::ALL.map(|family| self.difference([Some((from, to)); 2], family, None));
            self.note(&Party::Other(sender), &Party::Other(receiver), differences);
        }
    }

    /// The differences between a guest and somebody else, by the name of each
    /// part of whom that rules tell apart.
    fn parts(
        &self,
        ends: [Option<(Side<'t>, Side<'t>)>; 2],
        other: Side<'t>,
        mut found: impl FnMut(String, [Difference; 2]),
    ) {
        let told = self.models.iter().zip(ends).filter_map(|(model, ends)| {
            let (from, to) = ends?;
            telling(model, from, to)
        });
        let rules: Vec<_> = told.collect();
        let name = called(other);
        if rules.is_empty() {
            return found(name, Family::ALL.map(|family| self.difference(ends, family, None)));
        }
        let models: Vec<&Model<'t>> = self.models.iter().collect();
        let indexed: Vec<Indexed<'_>> = rules.iter().map(|list| Indexed::new(list)).collect();
        let parts = Family::ALL.map(|family| {
            let mut parts: BTreeMap<Difference, Vec<Range>> = BTreeMap::new();
            // Addresses that the same rules name are the same.
            let mut known: BTreeMap<Vec<bool>, Difference> = BTreeMap::new();
            for (part, sample) in regions(&models, other, &rules, family) {
                let naming = indexed.iter().flat_map(|list| list.naming(sample)).collect();
                let difference = known
                    .entry(naming)
                    .or_insert_with(|| self.difference(ends, family, Some(sample)))
                    .clone();
                let ranges = parts.entry(difference).or_default();
                match ranges.last_mut() {
                    Some(previous) if previous.1.checked_add(1) == Some(part.0) => previous.1 = part.1,
                    _ => ranges.push(part),
                }
            }
            parts
        });
        let [v4, v6] = &parts;
        if v4.len() <= 1 && v6.len() <= 1 {
            let whole = |parts: &BTreeMap<Difference, _>| parts.keys().next().cloned().unwrap_or_default();
            return found(name, [whole(v4), whole(v6)]);
        }
        for (family, parts) in Family::ALL.into_iter().zip(parts) {
            let whole = parts.len() == 1;
            for (difference, ranges) in parts {
                let part =
                    if whole { name.clone() } else { format!("{name} {}", names::ranges(family, &ranges)) };
                match family {
                    Family::V4 => found(part, [difference, Difference::default()]),
                    Family::V6 => found(part, [Difference::default(), difference]),
                }
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
}

fn outward<'t>(classes: &Classes<'t>, port: &'t Port) -> Option<Outward<'t>> {
    let topology = classes.topology();
    let network = topology.network(&port.network)?;
    let gateway = [Some(network.gateway.into()), network.gateway6.map(Into::into)];
    let subnet = network.subnets.iter().find(|subnet| subnet.name == port.subnet);
    Some(Outward {
        policy: topology.policy(port).map(|policy| policy.id.as_str()),
        exits: match &network.nat {
            Nat::Uplinks => None,
            Nat::Off => Some(&[]),
            Nat::Named(names) => Some(names),
        },
        public: subnet.is_some_and(|subnet| subnet.kind == SubnetKind::Public),
        imds: network.imds == Imds::Host,
        lan: &network.lan,
        tailscale: network.tailscale,
        gateway: gateway.map(|address| address.map(|address| classes.named(address))),
        ipv6: port.v6.is_some(),
    })
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
