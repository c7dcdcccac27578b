//! Policies with real packets: what the spec says is what passes, for TCP,
//! UDP and ICMP, both families, within a network, across a peering, to the
//! internet, from the host and to the gateway.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::support::lab::{Guest, Lab, compile};
use crate::support::random_policies::policies;
use hostctl::reach::{FarEnd, decide};
use hostctl::testbed::{
    Connection, Expectation, ExpectedVerdict, Netns, Options, Probe, Row, address, all_ok, probe_all, render,
};
use hostctl::topology::{Action, Direction, Topology};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const SPEC: &str = r#"
[networks.a]
cidr = "10.1.0.0/24"
cidr6 = "fd00:0:0:1::/64"
[networks.a.subnets.back]
cidr = "10.1.0.128/25"
cidr6 = "fd00:0:0:1:8000::/65"
type = "public"
[networks.a.subnets.front]
cidr = "10.1.0.0/25"
cidr6 = "fd00:0:0:1::/65"
type = "public"
policy = "web"
[networks.b]
cidr = "10.2.0.0/24"
cidr6 = "fd00:0:0:2::/64"
[[peerings]]
between = ["a", "b"]
[vms.web]
network = "a"
subnet = "front"
image = "probe"
autostart = false
[vms.admin]
network = "a"
subnet = "front"
image = "probe"
autostart = false
policy = ["web", "ping"]
[vms.db]
network = "a"
subnet = "back"
image = "probe"
autostart = false
policy = "db"
[vms.plain]
network = "a"
subnet = "back"
image = "probe"
autostart = false
[vms.b1]
network = "b"
image = "probe"
autostart = false

[policies.web]
version = "1.0"
ingress = [
    { port = 80, protocol = "tcp", description = "HTTP from anywhere" },
    { port = 22, protocol = "tcp", source = "network:a", description = "SSH from the network" },
    { port = 22, protocol = "tcp", source = ["10.1.0.1", "fd00:0:0:1::1"], action = "deny", priority = 50 },
]
egress = [{ destination = ["network:a", "203.0.113.0/24"] }]

[policies.ping]
ingress = [{ protocol = "icmp" }, { protocol = "icmpv6" }, { port = [7, "9000-9100"], protocol = "udp", source = "network:b" }]

[policies.db]
ingress = [{ source = "policy:web", protocol = "tcp", port = "80-90" }]
egress = []
"#;

struct Table {
    probes: Vec<(Netns, Probe)>,
    expectations: Vec<Expectation>,
}

impl Table {
    fn add(&mut self, from: (&str, &Netns), to: &str, probe: Probe, allowed: bool) {
        let expected = if allowed { ExpectedVerdict::Allowed } else { ExpectedVerdict::Dropped };
        let what = format!("{probe:?}");
        self.expectations.push(Expectation { from: from.0.into(), to: to.into(), what, expected });
        self.probes.push((from.1.clone(), probe));
    }

    /// Every way to open a flow to an address; `allowed` knows by protocol
    /// and port.
    fn every(&mut self, from: (&str, &Netns), to: &str, address: IpAddr, allowed: impl Fn(u8, u16) -> bool) {
        for port in [80, 22] {
            self.add(from, to, Probe::Tcp(SocketAddr::new(address, port)), allowed(6, port));
        }
        self.add(from, to, Probe::Udp(SocketAddr::new(address, 7)), allowed(17, 7));
        let icmp = if address.is_ipv4() { 1 } else { 58 };
        self.add(from, to, Probe::Icmp(address), allowed(icmp, 0));
    }

    fn check(self, context: &str) {
        let rows: Vec<Row> = self
            .expectations
            .into_iter()
            .zip(probe_all(&self.probes))
            .map(|(expectation, measured)| Row { expectation, measured })
            .collect();
        let wrong: Vec<Row> = rows.iter().filter(|row| !row.is_ok()).cloned().collect();
        assert!(all_ok(&rows), "{} of {} differ\n{}\n{context}", wrong.len(), rows.len(), render(&wrong));
    }
}

fn lab() -> Lab {
    Lab::new(Options { bridge_nf_call_iptables: Some(true), ..Options::default() })
}

const TCP: u8 = 6;
const UDP: u8 = 17;

#[test]
fn subnet_and_guest_policies_hold_for_every_protocol_and_family() {
    let lab = lab();
    lab.apply(SPEC);
    let names = ["admin", "b1", "db", "plain", "web"];
    let guests: Vec<(&str, Guest)> = names.iter().map(|name| (*name, lab.guest(SPEC, name))).collect();
    let mut table = Table { probes: Vec::new(), expectations: Vec::new() };
    // By hand, from the spec above.
    let sends = |from: &str, to: &str, v4: bool| match from {
        "web" | "admin" => matches!(to, "web" | "admin" | "db" | "plain") || (to == "internet" && v4),
        "db" => false,
        _ => true,
    };
    let receives = |to: &str, from: &str, protocol: u8, port: u16| {
        let in_a = matches!(from, "web" | "admin" | "db" | "plain");
        let web = protocol == TCP && (port == 80 || (port == 22 && in_a));
        match to {
            "web" => web,
            "admin" => web || !matches!(protocol, TCP | UDP) || (protocol == UDP && from == "b1"),
            "db" => matches!(from, "web" | "admin") && protocol == TCP && port == 80,
            _ => true,
        }
    };
    for (from, guest) in &guests {
        for (to, target) in guests.iter().filter(|(to, _)| to != from) {
            for address in [target.v4, target.v6.unwrap()] {
                table.every((from, guest.netns()), to, address, |protocol, port| {
                    sends(from, to, true) && receives(to, from, protocol, port)
                });
            }
        }
        for address in [IpAddr::V4(address::FAR), IpAddr::V6(address::FAR6)] {
            let allowed = sends(from, "internet", address.is_ipv4());
            table.add((from, guest.netns()), "internet", Probe::Tcp(SocketAddr::new(address, 80)), allowed);
            table.add((from, guest.netns()), "internet", Probe::Icmp(address), allowed);
        }
        for address in [guest.v4, guest.v6.unwrap()] {
            table.every(("host", &lab.world.hypervisor), from, address, |protocol, port| {
                receives(from, "host", protocol, port)
            });
        }
        let gateway =
            if *from == "b1" { ["10.2.0.1", "fd00:0:0:2::1"] } else { ["10.1.0.1", "fd00:0:0:1::1"] };
        for address in gateway {
            let allowed = *from != "db";
            table.add((from, guest.netns()), "gateway", Probe::Icmp(address.parse().unwrap()), allowed);
        }
    }
    table.check("");
    assert!(lab.plan(SPEC).unwrap().is_empty(), "{:?}", lab.commands(SPEC));
}

#[test]
fn a_policy_that_is_tightened_cuts_the_flow_and_only_that() {
    let lab = lab();
    let spec = |rules: &str| {
        format!(
            r#"
[networks.a]
cidr = "10.1.0.0/24"
[networks.b]
cidr = "10.2.0.0/24"
[[peerings]]
between = ["a", "b"]
[vms.a1]
network = "a"
image = "probe"
autostart = false
policy = "p"
[vms.b1]
network = "b"
image = "probe"
autostart = false
[policies.p]
ingress = [{rules}]
"#
        )
    };
    let (open, tight) =
        (spec(r#"{ port = [80, 22], protocol = "tcp" }"#), spec(r#"{ port = 80, protocol = "tcp" }"#));
    lab.apply(&open);
    let (a1, b1) = (lab.guest(&open, "a1"), lab.guest(&open, "b1"));
    let second = Duration::from_secs(1);
    let mut flows =
        [80, 22].map(|port| Connection::open(b1.netns(), SocketAddr::new(a1.v4, port), second).unwrap());
    // A change of the rules alone is a change of elements.
    let commands = lab.commands(&tight);
    assert!(commands.iter().any(|command| command.starts_with("nft delete element")), "{commands:?}");
    assert!(!commands.iter().any(|command| command.contains("nft -f")), "{commands:?}");
    lab.apply(&tight);
    let [http, ssh] = &mut flows;
    assert!(http.still_alive(second) && !ssh.still_alive(second));
    lab.apply(&open);
    assert!(http.still_alive(second));
}

/// What the model says about a flow from or to the guests with these
/// addresses.
fn model(
    topology: &Topology,
    own: IpAddr,
    direction: Direction,
    far: IpAddr,
    protocol: u8,
    port: u16,
) -> bool {
    let port_of = topology.ports().find(|port| {
        own == IpAddr::from(port.address)
            || port.v6.as_ref().is_some_and(|v6| own == IpAddr::from(v6.address))
    });
    let list = port_of.and_then(|port| topology.policy(port)).and_then(|policy| policy.rules(direction));
    let far = FarEnd { address: far, protocol, port };
    list.is_none_or(|list| decide(list, &far).0 == Action::Allow)
}

#[test]
fn what_is_measured_is_what_the_model_says() {
    const GUESTS: &str = r#"
[networks.a]
cidr = "10.1.0.0/24"
cidr6 = "fd00:0:0:1::/64"
[networks.b]
cidr = "10.2.0.0/24"
cidr6 = "fd00:0:0:2::/64"
policy = "p2"
[[peerings]]
between = ["a", "b"]
[vms.a1]
network = "a"
image = "probe"
autostart = false
policy = "p0"
[vms.a2]
network = "a"
image = "probe"
autostart = false
policy = ["p0", "p1"]
[vms.b1]
network = "b"
image = "probe"
autostart = false
"#;
    let lab = lab();
    let open = format!("{GUESTS}[policies.p0]\n[policies.p1]\n[policies.p2]\n");
    lab.apply(&open);
    let guests = ["a1", "a2", "b1"].map(|name| (name, lab.guest(&open, name)));
    let mut runner = TestRunner::default();
    for _ in 0..12 {
        let spec = format!("{GUESTS}{}", policies(5).new_tree(&mut runner).unwrap().current());
        let (_, topology) = compile(&spec);
        lab.apply(&spec);
        let mut table = Table { probes: Vec::new(), expectations: Vec::new() };
        for (name, guest) in &guests {
            let own = [guest.v4, guest.v6.unwrap()];
            for (to, target) in guests.iter().filter(|(to, _)| to != name) {
                for (source, address) in own.into_iter().zip([target.v4, target.v6.unwrap()]) {
                    table.every((name, guest.netns()), to, address, |protocol, port| {
                        model(&topology, source, Direction::Egress, address, protocol, port)
                            && model(&topology, address, Direction::Ingress, source, protocol, port)
                    });
                }
            }
            for (source, address) in
                own.into_iter().zip([IpAddr::V4(address::FAR), IpAddr::V6(address::FAR6)])
            {
                table.every((name, guest.netns()), "internet", address, |protocol, port| {
                    model(&topology, source, Direction::Egress, address, protocol, port)
                });
            }
            let network = topology.network(&topology.vm(name).unwrap().port.network).unwrap();
            let gateways = [IpAddr::V4(network.gateway), IpAddr::V6(network.gateway6.unwrap())];
            for (address, gateway) in own.into_iter().zip(gateways) {
                table.every(("host", &lab.world.hypervisor), name, address, |protocol, port| {
                    model(&topology, address, Direction::Ingress, gateway, protocol, port)
                });
            }
        }
        table.check(&spec);
    }
}
