//! Which live flows the rules no longer allow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::topology::{Action, Direction, Imds, Name, Nat, Policy, SubnetKind, Topology};

use super::policy_model::{FarEnd, decide};

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
    policies: Vec<Policy>,
    /// Which of the policies an address is subject to.
    policed: BTreeMap<IpAddr, usize>,
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
    imds: bool,
    tailscale: bool,
}

const TCP: u8 = 6;

impl FlowPolicy {
    /// The policy of `topology` on a host with these addresses, whose
    /// firewall loses what is in `gone`.
    pub fn new(topology: &Topology, host: BTreeSet<IpAddr>, gone: Gone) -> Self {
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
                imds: network.imds == Imds::Host,
                tailscale: network.tailscale,
            }
        });
        Self {
            networks: networks.collect(),
            peerings: topology.peerings.iter().cloned().collect(),
            changed: gone.guests,
            former: gone.networks,
            host,
            policies: topology.policies.clone(),
            policed: policed(topology),
        }
    }

    fn network(&self, address: IpAddr) -> Option<&Net> {
        self.networks.iter().find(|network| network.prefixes.iter().any(|prefix| prefix.contains(&address)))
    }

    /// Whether a flow has to end.
    pub fn forbids(&self, flow: &Flow) -> bool {
        let ends = [flow.source, flow.destination];
        if ends.iter().any(|end| self.changed.contains(end)) {
            return true;
        }
        let (from, to) = (self.network(flow.source), self.network(flow.destination));
        let former = |end: &IpAddr| self.former.iter().any(|prefix| prefix.contains(end));
        let beyond_reach = match (from, to) {
            (None, None) => ends.iter().any(former),
            (Some(a), Some(b)) => a.name != b.name && !self.peered(&a.name, &b.name),
            (Some(a), None) => former(&flow.destination) || !Self::goes_out(a, flow),
            (None, Some(b)) => former(&flow.source) || !(self.host.contains(&flow.source) || b.tailscale),
        };
        beyond_reach
            || self.denies(Direction::Egress, flow.source, flow.destination, flow)
            || self.denies(Direction::Ingress, flow.destination, flow.source, flow)
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

    fn goes_out(network: &Net, flow: &Flow) -> bool {
        if is_metadata(flow.destination) {
            return network.imds && flow.protocol == TCP && flow.port == 80;
        }
        network.public.iter().any(|prefix| prefix.contains(&flow.source))
    }
}

/// The policy of each guest's addresses, by its place.
fn policed(topology: &Topology) -> BTreeMap<IpAddr, usize> {
    let place = |id: &str| topology.policies.iter().position(|policy| policy.id == id);
    let ports = topology.ports().filter_map(|port| Some((port, place(&topology.policy(port)?.id)?)));
    ports
        .flat_map(|(port, place)| {
            let v6 = port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]).map(IpAddr::from);
            std::iter::once(IpAddr::from(port.address)).chain(v6).map(move |address| (address, place))
        })
        .collect()
}

/// The ruleset's `metadata4` and `metadata6`.
const METADATA: [&str; 13] = [
    "169.254.0.0/16",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "fd00:42::42/128",
    "fd00:c1::a9fe:a9fe/128",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
    "fe80::/10",
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b::6464:64c8/128",
    "64:ff9b::a83f:8110/128",
    "64:ff9b::a9fe:0/112",
];

/// Whether an address is in the ruleset's `metadata4` or `metadata6`.
fn is_metadata(address: IpAddr) -> bool {
    METADATA.iter().filter_map(|text| text.parse::<IpNet>().ok()).any(|prefix| prefix.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::compile;

    fn policy(text: &str) -> FlowPolicy {
        let topology = compile(&toml::from_str(text).unwrap()).unwrap();
        let host = ["10.1.0.1", "198.51.100.2"].map(|address| address.parse().unwrap()).into();
        FlowPolicy::new(&topology, host, Gone::default())
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
    fn metadata_is_what_the_ruleset_says() {
        let template = include_str!("../../templates/ruleset.nft.hbs");
        let elements = |set: &str| {
            let set = template.split(&format!("set {set} {{")).nth(1).unwrap();
            let list = set.split("elements = {").nth(1).unwrap().split('}').next().unwrap();
            list.split(',').map(|element| element.trim().to_string()).collect::<Vec<_>>()
        };
        let nets = |texts: Vec<String>| -> BTreeSet<IpNet> {
            let net =
                |text: String| text.parse().unwrap_or_else(|_| IpNet::from(text.parse::<IpAddr>().unwrap()));
            texts.into_iter().map(net).collect()
        };
        let ruleset = [elements("metadata4"), elements("metadata6")].concat();
        assert_eq!(nets(METADATA.map(String::from).into()), nets(ruleset));
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
