//! Which live flows the rules no longer allow.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::reach::{Model, Reopening, TrackedFlow, Vicinity};
use crate::topology::{Port, Topology};

/// What may go on of the flows that are there. Pure data, so that it can be
/// decided before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowPolicy {
    topology: Topology,
    vicinity: Vicinity,
    gone: Gone,
}

/// What a firewall loses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// Addresses whose guest is gone or another one.
    pub guests: BTreeSet<IpAddr>,
    /// Prefixes that were networks.
    pub networks: Vec<IpNet>,
}

impl FlowPolicy {
    /// The policy of `topology` on a host with these addresses, whose uplinks
    /// have the prefixes `on_link`, and whose firewall loses what is in `gone`.
    pub fn new(topology: &Topology, host: BTreeSet<IpAddr>, on_link: &[IpNet], gone: Gone) -> Self {
        let vicinity = Vicinity::by_addresses(topology, &host, on_link);
        Self { topology: topology.clone(), vicinity, gone }
    }

    /// Has many flows judged.
    pub fn judge<T>(&self, work: impl FnOnce(&mut FlowJudge<'_, '_>) -> T) -> T {
        let model = Model::new(&self.topology, &self.vicinity);
        let of_port = |(number, port): (usize, &Port)| {
            let allowance = (number, self.topology.limits(port).flows);
            addresses(port).map(|address| (address, allowance)).collect::<Vec<_>>()
        };
        work(&mut FlowJudge {
            policy: self,
            reach: Reopening::new(&model),
            allowances: self.topology.ports().enumerate().flat_map(of_port).collect(),
            had: HashMap::new(),
        })
    }

    /// Whether a flow has to end.
    pub fn forbids(&self, flow: &TrackedFlow) -> bool {
        self.judge(|judge| judge.forbids(flow))
    }
}

/// Says of one flow after the other whether it has to end.
#[derive(Debug)]
pub struct FlowJudge<'m, 't> {
    policy: &'t FlowPolicy,
    reach: Reopening<'m, 't>,
    /// Whose an address is, by number, and how many flows that guest may have.
    allowances: HashMap<IpAddr, (usize, u32)>,
    /// How many each of them had so far.
    had: HashMap<usize, u32>,
}

impl FlowJudge<'_, '_> {
    /// Whether a flow isn't allowed, whoever else has one.
    pub fn forbids(&self, flow: &TrackedFlow) -> bool {
        let Gone { guests, networks } = &self.policy.gone;
        let ends = [flow.source, flow.destination];
        // Of a guest that is gone, or whose address is another's: it would reach
        // somebody who never had it.
        if ends.iter().any(|end| guests.contains(end)) {
            return true;
        }
        // What was a network, and is nobody's now.
        let former = |end: &IpAddr| {
            networks.iter().any(|prefix| prefix.contains(end)) && !self.policy.is_a_networks(*end)
        };
        ends.iter().any(former) || self.reach.drops(flow)
    }

    /// Whether a guest has more flows than it may, with this one. Flows that are
    /// older than the rules aren't in their account.
    pub fn is_surplus(&mut self, flow: &TrackedFlow) -> bool {
        let Some((guest, most)) = self.allowances.get(&flow.source) else { return false };
        let flows = self.had.entry(*guest).or_default();
        *flows = flows.saturating_add(1);
        *flows > *most
    }
}

impl FlowPolicy {
    fn is_a_networks(&self, address: IpAddr) -> bool {
        let mut nets = self
            .topology
            .networks
            .iter()
            .flat_map(|network| [Some(IpNet::V4(network.cidr)), network.cidr6.map(IpNet::V6)])
            .flatten();
        nets.any(|net| net.contains(&address))
    }
}

fn addresses(port: &Port) -> impl Iterator<Item = IpAddr> {
    let v6 = port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]).map(IpAddr::from);
    std::iter::once(IpAddr::from(port.address)).chain(v6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::protocol::{ICMP, ICMPV6, TCP, UDP};
    use crate::topology::test_topology::topology;

    fn policy(text: &str) -> FlowPolicy {
        let topology = topology(text);
        let host = ["10.1.0.1", "198.51.100.2"].map(|address| address.parse().unwrap()).into();
        FlowPolicy::new(&topology, host, &[], Gone::default())
    }

    fn flow(source: &str, destination: &str, protocol: u8, port: u16) -> TrackedFlow {
        TrackedFlow {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            port,
        }
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
        [vms.a3]
        network = "a"
        address = "10.1.0.3"
        image = "probe"
        [vms.a4]
        network = "a"
        address = "10.1.0.4"
        image = "probe"
        [vms.b2]
        network = "b"
        image = "probe"
        [vms.c2]
        network = "c"
        subnet = "in"
        image = "probe"
    "#;

    /// The guest that has 10.1.0.2.
    const WEB: &str = "[vms.web]\nnetwork = \"a\"\naddress = \"10.1.0.2\"\nimage = \"probe\"\n";

    #[test]
    fn a_policy_ends_what_it_denies() {
        let policy = policy(&format!(
            r#"{HOST}{WEB}
            policy = "web"
            [policies.web]
            ingress = [{{ port = 80, protocol = "tcp" }}]
            egress = [{{ destination = "203.0.113.0/24" }}]
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
        let host = format!("{HOST}{WEB}");
        let guests = policy(&host);
        let full = policy(&host.replacen(
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
        let policy = policy(&format!("{HOST}{WEB}"));
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
        let policy = policy(&format!("{HOST}{WEB}"));
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

    /// What only the definition of who may reach whom tells apart.
    #[test]
    fn a_flow_ends_where_its_first_packet_would_be_dropped() {
        let spec = HOST.replacen(
            "[host.tailscale]",
            "[host]\nfirewall = \"full\"\nallow_input = [{ port = 22, protocol = \"tcp\", \
             from = [\"203.0.113.0/24\", \"fe80::/10\"] }]\n[host.tailscale]",
            1,
        );
        let spec = spec.replacen("[networks.b]", "lan = true\n[networks.b]", 1) + WEB;
        let topology = topology(&spec);
        let b2 = topology.vm("b2").and_then(|vm| vm.port.v6.as_ref()).unwrap();
        let (local, global) = (b2.link_local.to_string(), b2.address.to_string());
        let full = policy(&spec);
        for (source, destination, protocol, port, ends) in [
            // The host's ports that are open to some.
            ("203.0.113.1", "198.51.100.2", TCP, 22, false),
            ("203.0.114.1", "198.51.100.2", TCP, 22, true),
            ("fe80::9", "fe80::7", TCP, 22, false),
            ("fe80::9", "fe80::7", TCP, 23, true),
            // A LAN is behind the uplinks, and the tailnet isn't.
            ("10.1.0.2", "192.168.7.7", TCP, 80, false),
            ("10.1.0.2", "100.64.0.7", TCP, 80, true),
            // Of a cloud's addresses, the service alone.
            ("10.1.0.2", "169.254.1.1", TCP, 80, true),
            ("10.1.0.2", "169.254.169.254", TCP, 80, false),
            // No guest is a DHCP server.
            ("10.1.0.2", "10.1.0.3", UDP, 68, true),
            ("10.1.0.2", "10.1.0.3", UDP, 67, false),
            // Nobody has these: a network's own, and what is all of its guests'.
            ("10.1.0.77", "203.0.113.1", TCP, 80, true),
            ("10.1.0.2", "10.1.0.77", TCP, 80, true),
            ("10.1.0.2", "10.1.0.255", UDP, 9, true),
            // Link-local: with the host alone, and nothing is opened to it.
            (&local, "fd00:0:0:2::1", ICMPV6, 0, false),
            (&local, "fe80::7", TCP, 22, true),
            (&local, "2001:db8::1", TCP, 80, true),
            ("fe80::7", &local, TCP, 22, false),
            ("2001:db8::1", &local, TCP, 22, true),
            // A subnet router's addresses come by the tailnet too.
            ("192.168.9.9", "10.2.0.2", TCP, 80, false),
            ("2001:db8::1", &global, TCP, 80, false),
            ("192.168.9.9", "10.1.0.2", TCP, 80, true),
        ] {
            let flow = flow(source, destination, protocol, port);
            assert_eq!(full.forbids(&flow), ends, "{flow:?}");
        }
        // Others' are none of hostctl's business, whatever wasn't forwarded before.
        let guests = policy(HOST);
        for (source, destination) in [("172.17.0.5", "203.0.113.1"), ("203.0.113.1", "198.51.100.2")] {
            assert!(!guests.forbids(&flow(source, destination, TCP, 80)), "{source} {destination}");
        }
    }

    #[test]
    fn of_a_guest_that_is_gone_nothing_stays() {
        let gone = Gone {
            guests: ["10.1.0.2".parse().unwrap()].into(),
            networks: vec!["10.9.0.0/24".parse().unwrap(), "10.1.0.0/16".parse().unwrap()],
        };
        let topology = topology(&format!("{HOST}{WEB}"));
        let policy = FlowPolicy::new(&topology, ["10.1.0.1".parse().unwrap()].into(), &[], gone);
        for (source, destination, ends) in [
            ("10.1.0.2", "10.1.0.3", true),
            ("10.1.0.1", "10.1.0.2", true),
            ("10.9.0.2", "203.0.113.1", true),
            ("10.1.9.2", "203.0.113.1", true),
            ("10.1.0.3", "10.1.0.4", false),
        ] {
            assert_eq!(policy.forbids(&flow(source, destination, TCP, 80)), ends, "{source} {destination}");
        }
    }
}
