//! Which live flows the rules no longer allow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::packet::port;
use crate::packet::prefix::{TAILNET, is_metadata};
use crate::packet::protocol::{ICMP, ICMPV6, TCP, UDP};
use crate::reach::{FarEnd, closed, decide};
use crate::topology::{
    Action, Direction, FirewallMode, Imds, Name, Nat, Policy, Port, SubnetKind, Topology, Transport,
};

/// A tracked flow, as it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Who opened it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The protocol's number (IANA).
    pub protocol: u8,
    /// The destination's port; 0 where the protocol has none.
    pub port: u16,
}

/// What may go on of the flows that are there. Pure data, so that it can be
/// decided before anything is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowPolicy {
    networks: Vec<Net>,
    peerings: BTreeSet<(Name, Name)>,
    /// Addresses whose guest is gone or another one.
    changed: BTreeSet<IpAddr>,
    /// Prefixes that were networks.
    former: Vec<IpNet>,
    /// The host's own addresses.
    host: BTreeSet<IpAddr>,
    /// The host's open services, by protocol and port, where the firewall is
    /// the host's too.
    open: Option<BTreeSet<(u8, u16)>>,
    /// Whether there is a tailnet.
    tailnet: bool,
    policies: Vec<Policy>,
    /// Which of the policies an address is subject to.
    policed: BTreeMap<IpAddr, usize>,
    /// What isn't the public internet.
    closed: Vec<IpNet>,
    denied: Vec<IpNet>,
    resolvers: Vec<IpAddr>,
    /// Whose an address is, by number, and how many flows that guest may have.
    allowances: BTreeMap<IpAddr, (usize, u32)>,
}

/// What a firewall loses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// Addresses whose guest is gone or another one.
    pub guests: BTreeSet<IpAddr>,
    /// Prefixes that were networks.
    pub networks: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Net {
    name: Name,
    prefixes: Vec<IpNet>,
    public: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    lan: Vec<IpNet>,
    imds: bool,
    tailscale: bool,
}

/// Whose an address is.
#[derive(Debug, Clone, Copy)]
enum Party<'p> {
    Host,
    Guest(&'p Net),
    Outside,
}

impl FlowPolicy {
    /// The policy of `topology` on a host with these addresses, whose uplinks
    /// have the prefixes `on_link`, and whose firewall loses what is in `gone`.
    pub fn new(topology: &Topology, host: BTreeSet<IpAddr>, on_link: &[IpNet], gone: Gone) -> Self {
        let networks = topology.networks.iter().map(|network| {
            let prefixes = |v4, v6: Option<ipnet::Ipv6Net>| {
                [Some(IpNet::V4(v4)), v6.map(IpNet::V6)].into_iter().flatten().collect::<Vec<_>>()
            };
            let open = network.nat != Nat::Off;
            let public = network.subnets.iter().filter(|subnet| open && subnet.kind == SubnetKind::Public);
            Net {
                name: network.name.clone(),
                prefixes: prefixes(network.cidr, network.cidr6),
                public: public.flat_map(|subnet| prefixes(subnet.cidr, subnet.cidr6)).collect(),
                gateways: std::iter::once(network.gateway.into())
                    .chain(network.gateway6.map(IpAddr::from))
                    .collect(),
                lan: network.lan.clone(),
                imds: network.imds == Imds::Host,
                tailscale: network.tailscale,
            }
        });
        let transport = |transport: Transport| match transport {
            Transport::Tcp => TCP,
            Transport::Udp => UDP,
        };
        let open = topology.allow_input.iter().map(|open| (transport(open.protocol), open.port)).collect();
        Self {
            open: (topology.firewall == FirewallMode::Full).then_some(open),
            tailnet: topology.tailscale.is_some(),
            networks: networks.collect(),
            peerings: topology.peerings.iter().cloned().collect(),
            changed: gone.guests,
            former: gone.networks,
            host,
            policies: topology.policies.clone(),
            policed: policed(topology),
            closed: closed(topology, on_link),
            denied: topology.deny.clone(),
            resolvers: topology.dns.clone(),
            allowances: allowances(topology),
        }
    }

    fn network(&self, address: IpAddr) -> Option<&Net> {
        self.networks.iter().find(|network| network.prefixes.iter().any(|prefix| prefix.contains(&address)))
    }

    fn party(&self, address: IpAddr) -> Party<'_> {
        let gateway = || self.networks.iter().any(|network| network.gateways.contains(&address));
        if self.host.contains(&address) || gateway() {
            return Party::Host;
        }
        self.network(address).map_or(Party::Outside, Party::Guest)
    }

    /// All that a guest gets of the host.
    fn pings_gateway(network: &Net, flow: &Flow) -> bool {
        matches!(flow.protocol, ICMP | ICMPV6) && network.gateways.contains(&flow.destination)
    }

    /// Whether somebody who is no guest may speak to the host. By its
    /// addresses the tailnet is known here: a flow has no interface.
    fn enters_host(&self, flow: &Flow) -> bool {
        let Some(open) = &self.open else { return true };
        // The host's own DHCP, as the ruleset has it.
        let dhcp = flow.protocol == UDP && matches!(flow.port, port::DHCP_CLIENT | port::DHCPV6_CLIENT);
        let tailnet = || self.tailnet && TAILNET.iter().any(|net| net.contains(&flow.source));
        open.contains(&(flow.protocol, flow.port)) || dhcp || tailnet()
    }

    /// Whether a flow has to end.
    pub fn forbids(&self, flow: &Flow) -> bool {
        let ends = [flow.source, flow.destination];
        if ends.iter().any(|end| self.changed.contains(end)) {
            return true;
        }
        // What was a network, and is nobody's now.
        let former = |end: &IpAddr| {
            self.network(*end).is_none() && self.former.iter().any(|prefix| prefix.contains(end))
        };
        if ends.iter().any(former) {
            return true;
        }
        let beyond_reach = match (self.party(flow.source), self.party(flow.destination)) {
            (Party::Host, _) => false,
            (Party::Guest(a), Party::Host) => !Self::pings_gateway(a, flow),
            (Party::Guest(a), Party::Guest(b)) => a.name != b.name && !self.peered(&a.name, &b.name),
            (Party::Guest(a), Party::Outside) => !self.goes_out(a, flow),
            (Party::Outside, Party::Guest(b)) => !b.tailscale,
            (Party::Outside, Party::Host) => !self.enters_host(flow),
            // With the firewall the host's too, it forwards for guests alone.
            (Party::Outside, Party::Outside) => self.open.is_some() && !to_many(flow.destination),
        };
        beyond_reach
            || self.denies(Direction::Egress, flow.source, flow.destination, flow)
            || self.denies(Direction::Ingress, flow.destination, flow.source, flow)
    }

    /// Which guest opened a flow, by number, and how many it may have. Flows
    /// that are older than the rules aren't in their account.
    pub fn allowance(&self, flow: &Flow) -> Option<(usize, u32)> {
        self.allowances.get(&flow.source).copied()
    }

    /// Whether the policy of the guest at `own` denies a flow.
    fn denies(&self, direction: Direction, own: IpAddr, far: IpAddr, flow: &Flow) -> bool {
        let policy = self.policed.get(&own).and_then(|index| self.policies.get(*index));
        let far = FarEnd { address: far, protocol: flow.protocol, port: flow.port };
        policy
            .and_then(|policy| policy.rules(direction))
            .is_some_and(|list| decide(list, &far).0 == Action::Deny)
    }

    fn peered(&self, a: &Name, b: &Name) -> bool {
        let pair = if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) };
        self.peerings.contains(&pair)
    }

    fn goes_out(&self, network: &Net, flow: &Flow) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&flow.destination));
        if within(&self.denied) {
            return false;
        }
        let resolver = matches!(flow.protocol, TCP | UDP)
            && flow.port == port::DNS
            && self.resolvers.contains(&flow.destination);
        if is_metadata(flow.destination) && !resolver {
            return network.imds && flow.protocol == TCP && flow.port == port::HTTP;
        }
        if within(&self.closed) && !resolver && !within(&network.lan) {
            return false;
        }
        network.public.iter().any(|prefix| prefix.contains(&flow.source))
    }
}

fn allowances(topology: &Topology) -> BTreeMap<IpAddr, (usize, u32)> {
    let of_port = |(number, port): (usize, &Port)| {
        let allowance = (number, topology.limits(port).flows);
        addresses(port).map(|address| (address, allowance)).collect::<Vec<_>>()
    };
    topology.ports().enumerate().flat_map(of_port).collect()
}

fn addresses(port: &Port) -> impl Iterator<Item = IpAddr> {
    let v6 = port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]).map(IpAddr::from);
    std::iter::once(IpAddr::from(port.address)).chain(v6)
}

/// The policy of each guest's addresses, by its place.
fn policed(topology: &Topology) -> BTreeMap<IpAddr, usize> {
    let place = |id: &str| topology.policies.iter().position(|policy| policy.id == id);
    let ports = topology.ports().filter_map(|port| Some((port, place(&topology.policy(port)?.id)?)));
    ports.flat_map(|(port, place)| addresses(port).map(move |address| (address, place))).collect()
}

/// Whether an address is a group's, or everybody's.
fn to_many(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::compile;

    fn policy(text: &str) -> FlowPolicy {
        let topology = compile(&toml::from_str(text).unwrap()).unwrap();
        let host = ["10.1.0.1", "198.51.100.2"].map(|address| address.parse().unwrap()).into();
        FlowPolicy::new(&topology, host, &[], Gone::default())
    }

    fn flow(source: &str, destination: &str, protocol: u8, port: u16) -> Flow {
        Flow { source: source.parse().unwrap(), destination: destination.parse().unwrap(), protocol, port }
    }

    const HOST: &str = r#"
        [host.tailscale]
        interface = "tailscale0"
        [networks.a]
        cidr = "10.1.0.0/24"
        imds = "host"
        [networks.b]
        cidr = "10.2.0.0/24"
        cidr6 = "fd00:0:0:2::/64"
        tailscale = true
        [networks.c]
        cidr = "10.3.0.0/24"
        [networks.c.subnets.in]
        cidr = "10.3.0.0/25"
        type = "private"
        [[peerings]]
        between = ["b", "c"]
    "#;

    #[test]
    fn a_policy_ends_what_it_denies() {
        let policy = policy(&format!(
            "{HOST}{}",
            r#"
            [policies.web]
            ingress = [{ port = 80, protocol = "tcp" }]
            egress = [{ destination = "203.0.113.0/24" }]
            [vms.web]
            network = "a"
            image = "probe"
            policy = "web"
            "#
        ));
        let web = "10.1.0.2";
        for (source, destination, port, ends) in [
            ("10.1.0.3", web, 80, false),
            ("10.1.0.3", web, 22, true),
            ("10.1.0.1", web, 22, true),
            (web, "203.0.113.9", 443, false),
            (web, "198.51.100.9", 443, true),
            (web, "10.1.0.3", 443, true),
            ("10.1.0.4", "10.1.0.3", 443, false),
        ] {
            assert_eq!(
                policy.forbids(&flow(source, destination, TCP, port)),
                ends,
                "{source} {destination} {port}"
            );
        }
    }

    #[test]
    fn with_the_hosts_firewall_its_flows_are_judged_too() {
        let guests = policy(HOST);
        let full = policy(&HOST.replacen(
            "[host.tailscale]",
            "[host]\nfirewall = \"full\"\nallow_input = [{ port = 443, protocol = \"tcp\" }]\n[host.tailscale]",
            1,
        ));
        let host = "198.51.100.2";
        for (source, destination, protocol, port, ends) in [
            ("203.0.113.1", host, TCP, 443, false),
            ("203.0.113.1", host, TCP, 22, true),
            ("203.0.113.1", host, UDP, 443, true),
            ("203.0.113.1", host, ICMP, 0, true),
            ("198.51.100.1", host, UDP, 68, false),
            ("100.64.0.7", host, TCP, 22, false),
            (host, "203.0.113.1", TCP, 22, false),
            (host, host, TCP, 22, false),
            (host, "10.1.0.2", TCP, 22, false),
            ("203.0.113.1", "192.0.2.1", TCP, 22, true),
            ("203.0.113.1", "255.255.255.255", UDP, 9, false),
            ("203.0.113.1", "224.0.0.251", UDP, 5353, false),
        ] {
            let flow = flow(source, destination, protocol, port);
            assert_eq!(full.forbids(&flow), ends, "{flow:?}");
            assert!(!guests.forbids(&flow), "{flow:?}");
        }
    }

    #[test]
    fn of_the_host_a_guest_keeps_the_ping_of_its_gateway() {
        let policy = policy(HOST);
        for (source, destination, protocol, port, ends) in [
            ("10.1.0.2", "10.1.0.1", ICMP, 0, false),
            ("10.1.0.2", "10.1.0.1", TCP, 22, true),
            ("10.1.0.2", "198.51.100.2", TCP, 22, true),
            ("10.3.0.2", "10.3.0.1", ICMP, 0, false),
            ("10.3.0.2", "10.2.0.1", ICMP, 0, true),
            ("fd00:0:0:2::2", "fd00:0:0:2::1", ICMPV6, 0, false),
        ] {
            let flow = flow(source, destination, protocol, port);
            assert_eq!(policy.forbids(&flow), ends, "{flow:?}");
        }
    }

    #[test]
    fn each_direction_is_judged_as_the_rules_do() {
        let policy = policy(HOST);
        let allowed = [
            ("10.1.0.2", "203.0.113.1", TCP, 443),
            ("10.1.0.2", "169.254.169.254", TCP, 80),
            ("10.1.0.2", "10.1.0.3", TCP, 22),
            ("10.2.0.2", "10.3.0.2", 17, 53),
            ("fd00:0:0:2::2", "2001:db8::1", TCP, 443),
            ("100.64.0.7", "10.2.0.2", TCP, 22),
            ("10.1.0.1", "10.1.0.2", TCP, 22),
            ("198.51.100.2", "10.1.0.2", TCP, 22),
            ("192.0.2.1", "198.51.100.2", TCP, 22),
        ];
        let forbidden = [
            ("10.1.0.2", "10.2.0.2", TCP, 80),
            ("10.1.0.2", "169.254.169.254", 17, 80),
            ("10.2.0.2", "169.254.169.254", TCP, 80),
            ("fd00:0:0:2::2", "fd00:ec2::254", TCP, 80),
            ("10.3.0.2", "203.0.113.1", TCP, 443),
            ("100.64.0.7", "10.1.0.2", TCP, 22),
        ];
        for (source, destination, protocol, port) in allowed {
            assert!(!policy.forbids(&flow(source, destination, protocol, port)), "{source} {destination}");
        }
        for (source, destination, protocol, port) in forbidden {
            assert!(policy.forbids(&flow(source, destination, protocol, port)), "{source} {destination}");
        }
    }
}
