//! Guests that no rule tells apart: of the same subnet, with the same policy,
//! and named by the same rules of others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::packet::{Family, Range, number, range};
use crate::topology::{Direction, Name, Port, Topology};

use super::side::address_of;

/// A guest by its name in the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Guest<'t> {
    /// A VM.
    Vm(&'t Name),
    /// A subnet's namespace.
    Namespace(&'t str),
}

impl<'t> Guest<'t> {
    /// As people call it.
    pub fn name(self) -> &'t str {
        match self {
            Self::Vm(name) => name.as_str(),
            Self::Namespace(name) => name,
        }
    }
}

/// Every guest with its port, in order.
pub(super) fn guests(topology: &Topology) -> BTreeMap<Guest<'_>, &Port> {
    let vms = topology.vms.iter().map(|vm| (Guest::Vm(&vm.name), &vm.port));
    let namespaces = topology.namespaces.iter();
    vms.chain(namespaces.map(|namespace| (Guest::Namespace(namespace.name.as_str()), &namespace.port)))
        .collect()
}

/// What the guests of a class have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class<'t> {
    pub network: &'t Name,
    subnet: &'t Name,
    policy: Option<&'t str>,
    /// Which rules name its addresses, and whether it has IPv6.
    named: [Option<usize>; 2],
}

/// The classes of one topology.
#[derive(Debug)]
pub(super) struct Classes<'t> {
    topology: &'t Topology,
    mentions: [Mentions; 2],
}

impl<'t> Classes<'t> {
    pub fn new(topology: &'t Topology) -> Self {
        Self { topology, mentions: Family::ALL.map(|family| Mentions::new(topology, family)) }
    }

    /// The topology that they are of.
    pub fn topology(&self) -> &'t Topology {
        self.topology
    }

    /// Which rules name an address.
    pub fn named(&self, address: std::net::IpAddr) -> usize {
        let [v4, v6] = &self.mentions;
        if address.is_ipv4() { v4.at(number(address)) } else { v6.at(number(address)) }
    }

    /// The class of a guest.
    pub fn of(&self, port: &'t Port) -> Class<'t> {
        Class {
            network: &port.network,
            subnet: &port.subnet,
            policy: self.topology.policy(port).map(|policy| policy.id.as_str()),
            named: Family::ALL.map(|family| address_of(port, family).map(|address| self.named(address))),
        }
    }
}

/// Which rules name which addresses of a family: a number for each set of
/// rules, from each of these addresses on.
#[derive(Debug)]
struct Mentions(Vec<(u128, usize)>);

/// Numbers for sets of rules: of those that name a prefix, and those that name
/// one around it.
#[derive(Default)]
struct Sets {
    own: BTreeMap<Vec<usize>, usize>,
    within: HashMap<(usize, usize), usize>,
}

impl Mentions {
    fn new(topology: &Topology, family: Family) -> Self {
        // By start, the widest first: prefixes are apart, or one is in the other.
        let mut named: BTreeMap<(u128, std::cmp::Reverse<u128>), BTreeSet<usize>> = BTreeMap::new();
        let mut number = 0;
        for policy in &topology.policies {
            for direction in Direction::ALL {
                for rule in policy.rules(direction).map(|list| list.rules.as_slice()).unwrap_or_default() {
                    number += 1;
                    let nets = rule.peers.iter().flatten().filter(|net| Family::of(net.addr()) == family);
                    for (first, last) in nets.map(range) {
                        named.entry((first, std::cmp::Reverse(last))).or_default().insert(number);
                    }
                }
            }
        }
        let mut sets = Sets::default();
        let mut mentions = vec![(0, 0)];
        let mut open: Vec<(Range, usize)> = Vec::new();
        for ((first, std::cmp::Reverse(last)), rules) in named {
            Self::close(&mut mentions, &mut open, first);
            let around = open.last().map_or(0, |(_, mention)| *mention);
            let fresh = sets.own.len() + 1;
            let own = *sets.own.entry(rules.into_iter().collect()).or_insert(fresh);
            let fresh = sets.within.len() + 1;
            let mention = *sets.within.entry((around, own)).or_insert(fresh);
            mentions.push((first, mention));
            open.push(((first, last), mention));
        }
        Self::close(&mut mentions, &mut open, u128::MAX);
        Self(mentions)
    }

    /// Ends the prefixes that end before `next`.
    fn close(mentions: &mut Vec<(u128, usize)>, open: &mut Vec<(Range, usize)>, next: u128) {
        while let Some(((_, last), _)) = open.last().filter(|((_, last), _)| *last < next) {
            let start = last + 1;
            open.pop();
            mentions.push((start, open.last().map_or(0, |(_, mention)| *mention)));
        }
    }

    fn at(&self, address: u128) -> usize {
        let behind = self.0.partition_point(|(start, _)| *start <= address);
        behind.checked_sub(1).and_then(|index| self.0.get(index)).map_or(0, |(_, mention)| *mention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::compile;

    #[test]
    fn guests_that_rules_tell_apart_are_of_several_classes() {
        let topology = compile(
            &toml::from_str(
                r#"
                [networks.a]
                cidr = "10.1.0.0/24"
                policy = "p"
                [vms]
                one = { network = "a", image = "i" }
                three = { network = "a", image = "i" }
                two = { network = "a", image = "i" }
                [policies.p]
                ingress = [{ source = "10.1.0.3" }, { source = ["10.0.0.0/8", "10.1.0.0/25"] }]
                "#,
            )
            .unwrap(),
        )
        .unwrap();
        let classes = Classes::new(&topology);
        let [one, three, two] = [0, 1, 2].map(|index| classes.of(&topology.vms[index].port));
        assert_eq!(one, two);
        assert_ne!(one, three);
        assert_eq!(Mentions(vec![(0, 0), (5, 1), (9, 0)]).at(8), 1);
    }
}
