//! What the firewall knows of a topology: the elements of its sets.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::Ipv6Addr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::reach::closed;
use crate::topology::{
    Direction, FirewallMode, GuestLimits, HostPort, IfName, Imds, Network, Port, SubnetKind, Topology,
};

use super::policy_chain::{PolicyChain, PolicyTooLarge, chain_name};
use super::ports;

/// The desired ruleset: one list of elements for each set, in nft's notation,
/// and the one choice that changes the rules. Every text in it comes from a
/// validated type; none needs escaping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    pub(in crate::firewall) full: bool,
    ports: Elements,
    port_mac: Elements,
    port_mac_ip4: Elements,
    port_mac_ip6: Elements,
    port_target: Elements,
    group_rate: Elements,
    neighbour_rate: Elements,
    fragment_rate4: Elements,
    fragment_rate6: Elements,
    bridges: Elements,
    uplinks: Elements,
    opened: Elements,
    closed: Elements,
    tailnet: Elements,
    pairs: Elements,
    tailscale: Elements,
    imds_host: Elements,
    guest4: Elements,
    guest6: Elements,
    own4: Elements,
    own6: Elements,
    gateway4: Elements,
    gateway6: Elements,
    net4: Elements,
    net6: Elements,
    public4: Elements,
    public6: Elements,
    closed4: Elements,
    closed6: Elements,
    denied4: Elements,
    denied6: Elements,
    lan4: Elements,
    lan6: Elements,
    resolvers4: Elements,
    resolvers6: Elements,
    exits: Elements,
    open_ports: Elements,
    open_ports4: Elements,
    open_ports6: Elements,
    ingress4: Elements,
    ingress6: Elements,
    egress4: Elements,
    egress6: Elements,
    receivers: Elements,
    new_flows: Elements,
    flows: Elements,
    port_share: Elements,
    port_share6: Elements,
    pub(in crate::firewall) policies: Vec<PolicyChain>,
}

/// A set's elements, in nft's notation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::firewall) struct Elements(pub Vec<String>);

impl FromIterator<String> for Elements {
    fn from_iter<I: IntoIterator<Item = String>>(elements: I) -> Self {
        Self(elements.into_iter().collect())
    }
}

/// What the firewall has to know of the host besides the topology.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(default)]
    pub indices: BTreeMap<IfName, u32>,
    /// The prefixes of those links themselves.
    #[serde(default)]
    pub on_link: Vec<IpNet>,
}

impl Ruleset {
    /// The ruleset of a topology on a host with these surroundings.
    ///
    /// # Errors
    /// Where a policy takes more elements than can be loaded.
    pub fn new(topology: &Topology, surroundings: &Surroundings) -> Result<Self, PolicyTooLarge> {
        let mut ruleset = Self {
            full: topology.firewall == FirewallMode::Full,
            uplinks: topology.exits(&surroundings.uplinks).iter().map(quoted).collect(),
            opened: surroundings.opened.iter().map(quoted).collect(),
            closed: surroundings.closed6.then(|| "ipv6".to_string()).into_iter().collect(),
            tailnet: topology.tailscale.iter().map(quoted).collect(),
            exits: topology
                .exits(&surroundings.uplinks)
                .iter()
                .filter_map(|exit| surroundings.indices.get(exit).map(ToString::to_string))
                .collect(),
            ..Self::default()
        };
        ruleset.add_way_out(topology, surroundings);
        ruleset.add_open_ports(topology);
        for network in &topology.networks {
            ruleset.add_network(network, surroundings);
        }
        for (a, b) in &topology.peerings {
            if let (Some(a), Some(b)) = (topology.network(a), topology.network(b)) {
                let (a, b) = (quoted(&a.bridge), quoted(&b.bridge));
                ruleset.pairs.0.push(concat(&[&a, &b]));
                ruleset.pairs.0.push(concat(&[&b, &a]));
            }
        }
        for port in topology.ports() {
            let (interface, bridge, mac) = (quoted(&port.interface), quoted(&port.bridge), port.mac);
            ruleset.port_mac.0.push(concat(&[&interface, &mac]));
            ruleset.port_mac_ip4.0.push(concat(&[&interface, &mac, &port.address]));
            ruleset.guest4.0.push(concat(&[&bridge, &port.address]));
            ruleset.own4.0.push(concat(&[&port.address, &port.address]));
            let v6: Vec<_> = port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]).collect();
            ruleset.own6.0.extend(v6.iter().flat_map(|a| v6.iter().map(move |b| concat(&[a, b]))));
            for address in v6 {
                ruleset.port_mac_ip6.0.push(concat(&[&interface, &mac, &address]));
                ruleset.port_target.0.push(concat(&[&interface, &hexadecimal(address)]));
                ruleset.guest6.0.push(concat(&[&bridge, &address]));
            }
            ruleset.ports.0.push(interface);
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

    /// The elements of one of the sets that tell what a host was; none of
    /// another.
    pub(in crate::firewall) fn set(&self, name: &str) -> &[String] {
        match name {
            "uplinks" => &self.uplinks.0,
            "opened" => &self.opened.0,
            "closed" => &self.closed.0,
            "port_mac_ip4" => &self.port_mac_ip4.0,
            "port_mac_ip6" => &self.port_mac_ip6.0,
            "net4" => &self.net4.0,
            "net6" => &self.net6.0,
            _ => &[],
        }
    }

    /// The sets that every host has, each with the families whose table has
    /// one, and its elements.
    pub(in crate::firewall) fn sets(&self) -> Vec<(&'static [&'static str], String, Vec<String>)> {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else { return Vec::new() };
        let set = |(name, value): (String, Value)| {
            let elements = serde_json::from_value(value).ok()?;
            let families: &[&str] = match name.as_str() {
                "ports" => &["bridge", "inet"],
                "port_mac" | "port_mac_ip4" | "port_mac_ip6" | "port_target" | "group_rate"
                | "neighbour_rate" | "fragment_rate4" | "fragment_rate6" => &["bridge"],
                _ => &["inet"],
            };
            (name != "policies").then_some((families, name, elements))
        };
        fields.into_iter().filter_map(set).collect()
    }

    /// What the guest at a port may take of what all share. A burst is what may
    /// come at once.
    fn add_limits(&mut self, port: &Port, limits: GuestLimits) {
        let GuestLimits { new_flows, flows, fragments, broadcasts } = limits;
        let interface = quoted(&port.interface);
        let over = |rate: u32, burst: u32| {
            format!("{interface} limit rate over {rate}/second burst {burst} packets")
        };
        self.group_rate.0.push(over(broadcasts, broadcasts.saturating_mul(2)));
        self.neighbour_rate.0.push(over(broadcasts, broadcasts.saturating_mul(2)));
        self.fragment_rate4.0.push(over(fragments, fragments.saturating_mul(2)));
        // IPv6's incomplete packets are kept for a minute, IPv4's for half of one.
        self.fragment_rate6.0.push(over((fragments / 2).max(1), fragments.saturating_mul(2)));
        let guest = concat(&[&quoted(&port.bridge), &port.mac]);
        let burst = new_flows.saturating_mul(16);
        self.new_flows.0.push(format!("{guest} limit rate {new_flows}/second burst {burst} packets"));
        self.flows.0.push(format!("{guest} ct count {flows}"));
        if ports::is_confined(flows) {
            let chain = ports::share_chain(port.interface.as_str());
            self.port_share.0.push(format!("{} : jump {chain}", port.address));
            self.port_share6.0.extend(port.v6.iter().map(|v6| format!("{} : jump {chain}", v6.address)));
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
            let (v4, v6) = match direction {
                Direction::Ingress => (&mut self.ingress4, &mut self.ingress6),
                Direction::Egress => (&mut self.egress4, &mut self.egress6),
            };
            let jump = |address: &dyn Display| {
                format!("{bridge} . {address} : jump {}", chain_name(policy, direction))
            };
            v4.0.push(jump(&port.address));
            v6.0.extend(port.v6.iter().flat_map(|v6| [jump(&v6.address), jump(&v6.link_local)]));
            if direction == Direction::Ingress && !self.receivers.0.contains(&bridge) {
                self.receivers.0.push(bridge.clone());
            }
        }
    }

    /// What isn't the public internet.
    fn add_way_out(&mut self, topology: &Topology, surroundings: &Surroundings) {
        for net in closed(topology, &surroundings.on_link) {
            push(net, net.to_string(), &mut self.closed4, &mut self.closed6);
        }
        for &net in &topology.deny {
            push(net, net.to_string(), &mut self.denied4, &mut self.denied6);
        }
        for &address in &topology.dns {
            push(address.into(), address.to_string(), &mut self.resolvers4, &mut self.resolvers6);
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
                None => self.open_ports.0.push(concat(&[&protocol, &port])),
                Some(senders) => {
                    for net in IpNet::aggregate(&senders) {
                        let element = concat(&[&protocol, &port, &net]);
                        push(net, element, &mut self.open_ports4, &mut self.open_ports6);
                    }
                }
            }
        }
    }

    fn add_network(&mut self, network: &Network, surroundings: &Surroundings) {
        let bridge = quoted(&network.bridge);
        for &net in &network.lan {
            push(net, concat(&[&bridge, &net]), &mut self.lan4, &mut self.lan6);
        }
        self.pairs.0.push(concat(&[&bridge, &bridge]));
        if network.tailscale {
            self.tailscale.0.push(bridge.clone());
        }
        if network.imds == Imds::Host {
            self.imds_host.0.push(bridge.clone());
        }
        self.net4.0.push(network.cidr.to_string());
        self.gateway4.0.push(concat(&[&bridge, &network.gateway]));
        if let (Some(cidr), Some(gateway)) = (network.cidr6, network.gateway6) {
            self.net6.0.push(cidr.to_string());
            self.gateway6.0.push(concat(&[&bridge, &gateway]));
        }
        for subnet in network.subnets.iter().filter(|subnet| subnet.kind == SubnetKind::Public) {
            // A link that isn't there leads nowhere.
            let exits = network.exits(&surroundings.uplinks).iter();
            for exit in exits.filter_map(|exit| surroundings.indices.get(exit)) {
                self.public4.0.push(concat(&[&bridge, exit, &subnet.cidr]));
                self.public6.0.extend(subnet.cidr6.map(|cidr| concat(&[&bridge, exit, &cidr])));
            }
        }
        self.bridges.0.push(bridge);
    }
}

/// Adds an element to the set of its family.
fn push(net: IpNet, element: String, v4: &mut Elements, v6: &mut Elements) {
    match net {
        IpNet::V4(_) => v4.0.push(element),
        IpNet::V6(_) => v6.0.push(element),
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
