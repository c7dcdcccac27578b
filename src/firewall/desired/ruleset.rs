//! What the firewall knows of a topology: the elements of its sets.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::Ipv6Addr;

use ipnet::IpNet;

use crate::packet::Family;
use crate::reach::closed;
use crate::topology::{
    Direction, FirewallMode, GuestLimits, HostPort, IfName, Imds, Network, Port, SubnetKind, Topology,
};

use super::judgement::Judgement;
use super::policy_chain::{PolicyChain, PolicyTooLarge, chain_name};
use super::ports;
use super::set::{ElementsBySet, Set};

/// The desired ruleset: the elements of each set, the marks of the flows that it lets
/// pass, and the one choice that changes the rules. Every text in it comes from a
/// validated type; none needs escaping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub(in crate::firewall) full: bool,
    /// By which marks flows are known that these rules judged.
    pub judgement: Judgement,
    pub(super) sets: ElementsBySet<Set>,
    pub(in crate::firewall) policies: Vec<PolicyChain>,
}

/// What the firewall has to know of the host besides the topology.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The interfaces that lead to the internet.
    pub uplinks: Vec<IfName>,
    /// The interfaces that IPv4 packets were not forwarded from before hostctl
    /// turned that on: only guests' packets are.
    pub opened: Vec<IfName>,
    /// Whether the host didn't forward IPv6 before hostctl turned that on:
    /// only guests' packets are.
    pub closed6: bool,
    /// The kernel's numbers for the links that guests' packets go out by: another
    /// link that takes the name of one isn't it.
    pub indices: BTreeMap<IfName, u32>,
    /// The prefixes of those links themselves.
    pub on_link: Vec<IpNet>,
    /// The ports whose guests write virtio headers, or may: only what a guard
    /// judged there passes.
    pub guarded: Vec<IfName>,
}

impl Ruleset {
    /// The ruleset of a topology on a host with these surroundings.
    ///
    /// # Errors
    /// Where a policy takes more elements than can be loaded.
    pub fn new(topology: &Topology, surroundings: &Surroundings) -> Result<Self, PolicyTooLarge> {
        let mut ruleset = Self {
            full: topology.firewall == FirewallMode::Full,
            judgement: Judgement::first(topology.mark_mask),
            ..Self::default()
        };
        let exits = topology.exits(&surroundings.uplinks);
        let indices = exits.iter().filter_map(|exit| surroundings.indices.get(exit));
        ruleset.sets.extend(Set::Exits, indices.map(ToString::to_string));
        ruleset.sets.extend(Set::Uplinks, exits.iter().map(quoted));
        ruleset.sets.extend(Set::Opened, surroundings.opened.iter().map(quoted));
        ruleset.sets.extend(Set::Closed, surroundings.closed6.then(|| "ipv6".to_string()));
        ruleset.sets.extend(Set::Tailnet, topology.tailscale.iter().map(quoted));
        ruleset.sets.extend(Set::Guarded, surroundings.guarded.iter().map(quoted));
        ruleset.add_way_out(topology, surroundings);
        ruleset.add_open_ports(topology);
        for network in &topology.networks {
            ruleset.add_network(network, surroundings);
        }
        for (a, b) in &topology.peerings {
            if let (Some(a), Some(b)) = (topology.network(a), topology.network(b)) {
                // A look-up has a direction, a peering has none.
                let (a, b) = (quoted(&a.bridge), quoted(&b.bridge));
                ruleset.sets.add(Set::Pairs, concat(&[&a, &b]));
                ruleset.sets.add(Set::Pairs, concat(&[&b, &a]));
            }
        }
        for port in topology.ports() {
            let (interface, bridge, mac) = (quoted(&port.interface), quoted(&port.bridge), port.mac);
            ruleset.sets.add(Set::PortMac, concat(&[&interface, &mac]));
            ruleset.sets.add(Set::PortMacIp4, concat(&[&interface, &mac, &port.address]));
            ruleset.sets.add(Set::Guest4, concat(&[&bridge, &port.address]));
            // A reply comes from the very guest that the flow was for: nft compares no
            // two fields with each other, but finds a pair of them in a set.
            ruleset.sets.add(Set::Own4, concat(&[&port.address, &port.address]));
            let v6: Vec<_> = port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]).collect();
            ruleset.sets.extend(Set::Own6, v6.iter().flat_map(|a| v6.iter().map(move |b| concat(&[a, b]))));
            for address in v6 {
                ruleset.sets.add(Set::PortMacIp6, concat(&[&interface, &mac, &address]));
                ruleset.sets.add(Set::PortTarget, concat(&[&interface, &hexadecimal(address)]));
                ruleset.sets.add(Set::Guest6, concat(&[&bridge, &address]));
            }
            ruleset.sets.add(Set::Ports, interface);
            ruleset.add_limits(port, topology.limits(port));
            ruleset.add_attachment(topology, port);
        }
        for policy in &topology.policies {
            for direction in Direction::ALL {
                if let Some(list) = policy.rules(direction) {
                    ruleset.policies.push(PolicyChain::new(policy, direction, list)?);
                }
            }
        }
        Ok(ruleset)
    }

    /// A set's elements; none where it isn't the topology that fills it.
    pub(in crate::firewall) fn elements(&self, set: Set) -> &[String] {
        self.sets.of(&set)
    }

    /// Adds an element to the set of its family.
    fn push(&mut self, net: IpNet, element: String, sets: [Set; 2]) {
        self.sets.add(Family::of(net.addr()).pick(sets), element);
    }

    /// What the guest at a port may take of what all share. A burst is what may
    /// come at once.
    fn add_limits(&mut self, port: &Port, limits: GuestLimits) {
        let GuestLimits { new_flows, flows, fragments, broadcasts } = limits;
        let interface = quoted(&port.interface);
        let over = |rate: u32, burst: u32| {
            format!("{interface} limit rate over {rate}/second burst {burst} packets")
        };
        self.sets.add(Set::GroupRate, over(broadcasts, broadcasts.saturating_mul(2)));
        self.sets.add(Set::NeighbourRate, over(broadcasts, broadcasts.saturating_mul(2)));
        self.sets.add(Set::FragmentRate4, over(fragments, fragments.saturating_mul(2)));
        // IPv6's incomplete packets are kept for a minute, IPv4's for half of one.
        self.sets.add(Set::FragmentRate6, over((fragments / 2).max(1), fragments.saturating_mul(2)));
        let guest = concat(&[&quoted(&port.bridge), &port.mac]);
        let burst = new_flows.saturating_mul(16);
        self.sets.add(Set::NewFlows, format!("{guest} limit rate {new_flows}/second burst {burst} packets"));
        self.sets.add(Set::Flows, format!("{guest} ct count {flows}"));
        if ports::is_confined(flows) {
            let chain = ports::share_chain(port.interface.as_str());
            self.sets.add(Set::PortShare, format!("{} : jump {chain}", port.address));
            self.sets
                .extend(Set::PortShare6, port.v6.iter().map(|v6| format!("{} : jump {chain}", v6.address)));
        }
    }

    /// Leads a guest's packets to the chains of its policy.
    fn add_attachment(&mut self, topology: &Topology, port: &Port) {
        let Some(policy) = topology.policy(port) else { return };
        let bridge = quoted(&port.bridge);
        for direction in Direction::ALL {
            if policy.rules(direction).is_none() {
                continue;
            }
            let [v4, v6] = match direction {
                Direction::Ingress => [Set::Ingress4, Set::Ingress6],
                Direction::Egress => [Set::Egress4, Set::Egress6],
            };
            let jump = |address: &dyn Display| {
                format!("{bridge} . {address} : jump {}", chain_name(policy, direction))
            };
            self.sets.add(v4, jump(&port.address));
            self.sets.extend(v6, port.v6.iter().flat_map(|v6| [jump(&v6.address), jump(&v6.link_local)]));
            if direction == Direction::Ingress && !self.sets.of(&Set::Receivers).contains(&bridge) {
                self.sets.add(Set::Receivers, bridge.clone());
            }
        }
    }

    /// What isn't the public internet.
    fn add_way_out(&mut self, topology: &Topology, surroundings: &Surroundings) {
        for net in closed(topology, &surroundings.on_link) {
            self.push(net, net.to_string(), [Set::Closed4, Set::Closed6]);
        }
        for &net in &topology.deny {
            self.push(net, net.to_string(), [Set::Denied4, Set::Denied6]);
        }
        for &address in &topology.dns {
            self.push(address.into(), address.to_string(), [Set::Resolvers4, Set::Resolvers6]);
        }
    }

    /// The host's services; the sets are there only where the whole host is closed.
    fn add_open_ports(&mut self, topology: &Topology) {
        if topology.firewall != FirewallMode::Full {
            return;
        }
        // Prefixes of one port that overlap are one.
        let mut open: BTreeMap<(&str, u16), Option<Vec<IpNet>>> = BTreeMap::new();
        for HostPort { protocol, port, from } in &topology.allow_input {
            let senders = open.entry((protocol.as_str(), *port)).or_insert_with(|| Some(Vec::new()));
            match senders {
                Some(senders) if !from.is_empty() => senders.extend(from.iter().map(|prefix| prefix.net())),
                _ => *senders = None,
            }
        }
        for ((protocol, port), senders) in open {
            match senders {
                None => self.sets.add(Set::OpenPorts, concat(&[&protocol, &port])),
                Some(senders) => {
                    for net in IpNet::aggregate(&senders) {
                        let element = concat(&[&protocol, &port, &net]);
                        self.push(net, element, [Set::OpenPorts4, Set::OpenPorts6]);
                    }
                }
            }
        }
    }

    fn add_network(&mut self, network: &Network, surroundings: &Surroundings) {
        let bridge = quoted(&network.bridge);
        for &net in &network.lan {
            self.push(net, concat(&[&bridge, &net]), [Set::Lan4, Set::Lan6]);
        }
        // Guests of one network meet on the host too, which routes between them.
        self.sets.add(Set::Pairs, concat(&[&bridge, &bridge]));
        if network.tailscale {
            self.sets.add(Set::Tailscale, bridge.clone());
        }
        if network.imds == Imds::Host {
            self.sets.add(Set::ImdsHost, bridge.clone());
        }
        self.sets.add(Set::Net4, network.cidr.to_string());
        self.sets.add(Set::Gateway4, concat(&[&bridge, &network.gateway]));
        if let (Some(cidr), Some(gateway)) = (network.cidr6, network.gateway6) {
            self.sets.add(Set::Net6, cidr.to_string());
            self.sets.add(Set::Gateway6, concat(&[&bridge, &gateway]));
        }
        for subnet in network.subnets.iter().filter(|subnet| subnet.kind == SubnetKind::Public) {
            // A link that isn't there leads nowhere.
            let exits = network.exits(&surroundings.uplinks).iter();
            for exit in exits.filter_map(|exit| surroundings.indices.get(exit)) {
                self.sets.add(Set::Public4, concat(&[&bridge, exit, &subnet.cidr]));
                self.sets.extend(Set::Public6, subnet.cidr6.map(|cidr| concat(&[&bridge, exit, &cidr])));
            }
        }
        self.sets.add(Set::Bridges, bridge);
    }
}

fn quoted(name: &IfName) -> String {
    format!("\"{name}\"")
}

fn concat(parts: &[&dyn Display]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

/// An address as the integer that a raw payload expression compares with.
fn hexadecimal(address: Ipv6Addr) -> String {
    format!("0x{:032x}", u128::from(address))
}
