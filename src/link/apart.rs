//! What keeps networks apart while the firewall is gone, because another
//! program flushed everybody's tables: routes in a table of their own that lead
//! nowhere, for packets that the firewall didn't mark as judged. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv6Addr;

use ipnet::IpNet;

use crate::ownership::{JUDGED, ROUTING_RULES, ROUTING_TABLE};
use crate::packet::Family;
use crate::packet::prefix::metadata;
use crate::topology::{IfName, Network, Topology};

/// Priorities of the rules.
pub(super) const PASS: u32 = *ROUTING_RULES.start();
pub(super) const ALLOWED: u32 = PASS + 1;
pub(super) const OTHERS: u32 = PASS + 2;
pub(super) const END: u32 = *ROUTING_RULES.end();

/// A rule or a route; the order is that in which they are made, so that
/// nothing that is allowed is stopped on the way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A rule of one family.
    Rule {
        /// Which.
        family: Family,
        /// What it says.
        rule: Rule,
    },
    /// A prefix that packets of guests aren't routed to.
    Prohibit(IpNet),
    /// The rule that looks the routes up, of one family: the last.
    Lookup {
        /// Which.
        family: Family,
    },
}

/// A rule that lets packets pass by the look-up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Where they go on.
    End,
    /// What comes in by an interface: the host's own (`lo`), or from one that
    /// leads out, where replies come from.
    From(String),
    /// What the firewall judged.
    Judged,
    /// From a network to where it may send.
    Allowed {
        /// Its bridge.
        bridge: String,
        /// A prefix.
        to: IpNet,
    },
}

/// What comes and what goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApartChange {
    /// In this order, after `gone`'s look-ups, before the rest of them.
    pub new: Vec<Part>,
    /// In this order.
    pub gone: Vec<Part>,
}

/// What a topology asks for on a host with these uplinks.
pub(super) fn wanted(topology: &Topology, uplinks: &[IfName]) -> BTreeSet<Part> {
    let mut parts = of_networks(topology);
    if topology.networks.is_empty() {
        return parts;
    }
    // Link-local addresses are the link's, and never routed anyway.
    let routed = |net: &&IpNet| !matches!(net, IpNet::V6(net) if net.contains(&Ipv6Addr::LOCALHOST) || net.addr().is_unicast_link_local());
    parts.extend(metadata().iter().filter(routed).copied().map(Part::Prohibit));
    let has = |family: &Family| *family == Family::V4 || topology.has_ipv6();
    for family in Family::ALL.into_iter().filter(has) {
        let exits = topology.exits(uplinks).into_iter().chain(topology.tailscale.clone());
        let from = exits.map(|name| name.to_string()).chain(["lo".into()]).map(Rule::From);
        let rules = from.chain([Rule::End, Rule::Judged]);
        parts.extend(rules.map(|rule| Part::Rule { family, rule }));
        parts.insert(Part::Lookup { family });
    }
    // Nobody would look them up.
    parts.retain(|part| !matches!(part, Part::Prohibit(to) if !has(&Family::of(to.addr()))));
    parts
}

/// As much of it as is about single networks and peerings.
pub(super) fn of_networks(topology: &Topology) -> BTreeSet<Part> {
    let prefixes = |network: &Network| {
        [Some(IpNet::V4(network.cidr)), network.cidr6.map(IpNet::V6)].into_iter().flatten()
    };
    let mut parts: BTreeSet<Part> = topology.networks.iter().flat_map(prefixes).map(Part::Prohibit).collect();
    let mut allow = |from: &Network, to: &Network| {
        parts.extend(prefixes(to).map(|to| {
            let rule = Rule::Allowed { bridge: from.bridge.to_string(), to };
            Part::Rule { family: Family::of(to.addr()), rule }
        }));
    };
    topology.networks.iter().for_each(|network| allow(network, network));
    for (a, b) in &topology.peerings {
        if let (Some(a), Some(b)) = (topology.network(a), topology.network(b)) {
            allow(a, b);
            allow(b, a);
        }
    }
    parts
}

/// From what there is to what is wanted; none where that is the same.
pub(super) fn change(wanted: &BTreeSet<Part>, found: &BTreeSet<Part>) -> Option<ApartChange> {
    let mut gone: Vec<Part> = found.difference(wanted).cloned().collect();
    gone.reverse();
    let change = ApartChange { new: wanted.difference(found).cloned().collect(), gone };
    (change != ApartChange::default()).then_some(change)
}

impl ApartChange {
    /// The commands that do it by hand.
    pub fn commands(&self) -> Vec<String> {
        self.steps().map(|(add, part)| part.command(add)).collect()
    }

    /// Each part, and whether it comes, in their order.
    pub(super) fn steps(&self) -> impl Iterator<Item = (bool, &Part)> {
        let first = |part: &&Part| matches!(part, Part::Lookup { .. });
        let looked_up = self.gone.iter().filter(first);
        let rest = self.gone.iter().filter(move |part| !first(part));
        let new = self.new.iter().map(|part| (true, part));
        looked_up.map(|part| (false, part)).chain(new).chain(rest.map(|part| (false, part)))
    }
}

impl Part {
    fn command(&self, add: bool) -> String {
        let verb = if add { "add" } else { "del" };
        let ip = |family: Family| family.pick(["ip", "ip -6"]);
        match self {
            Self::Rule { family, rule } => format!("{} rule {verb} {rule}", ip(*family)),
            Self::Prohibit(to) => {
                let ip = ip(Family::of(to.addr()));
                format!("{ip} route {verb} prohibit {to} table {ROUTING_TABLE}")
            }
            Self::Lookup { family } => {
                format!("{} rule {verb} pref {OTHERS} lookup {ROUTING_TABLE}", ip(*family))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => write!(f, "pref {END} nop"),
            Self::From(interface) => write!(f, "pref {PASS} iif {interface} goto {END}"),
            Self::Judged => write!(f, "pref {PASS} fwmark {JUDGED:#x}/{JUDGED:#x} goto {END}"),
            Self::Allowed { bridge, to } => write!(f, "pref {ALLOWED} iif {bridge} to {to} goto {END}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::test_topology::topology;

    fn wanted_by(spec: &str) -> BTreeSet<Part> {
        let topology = topology(spec);
        wanted(&topology, &["eth0".to_string().try_into().unwrap()])
    }

    #[test]
    fn rules_come_before_the_look_up_and_go_after_it() {
        let networks = "[networks.a]\ncidr = \"10.1.0.0/24\"\n[networks.b]\ncidr = \"10.2.0.0/24\"\n";
        let apart = wanted_by(networks);
        let first = change(&apart, &BTreeSet::new()).unwrap();
        insta::assert_snapshot!(first.commands().join("\n"));
        let peered = wanted_by(&format!("{networks}[[peerings]]\nbetween = [\"a\", \"b\"]"));
        let opened = change(&peered, &apart).unwrap().commands();
        assert_eq!(
            opened,
            [
                "ip rule add pref 2672 iif br-a to 10.2.0.0/24 goto 2679",
                "ip rule add pref 2672 iif br-b to 10.1.0.0/24 goto 2679"
            ]
        );
        let closed = change(&apart, &peered).unwrap().commands();
        assert_eq!(closed.len(), 2);
        let gone = change(&BTreeSet::new(), &apart).unwrap().commands();
        assert_eq!(gone.first().unwrap(), "ip rule del pref 2673 lookup 26735");
        assert_eq!(gone.last().unwrap(), "ip rule del pref 2679 nop");
        assert_eq!(change(&apart, &apart), None);
        assert!(wanted_by("").is_empty());
    }

    #[test]
    fn the_ruleset_sets_the_same_mark() {
        let template = include_str!("../../templates/ruleset.nft.hbs");
        assert!(template.contains(&format!("meta mark set meta mark | 0x{JUDGED:08x}")));
    }
}
