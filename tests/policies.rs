//! Policies with real packets: what the spec says is what passes, for TCP,
//! UDP and ICMP, both families, within a network, across a peering, to the
//! internet, from the host and to the gateway.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::support::lab::{Guest, Lab, compile};
use crate::support::probe_table::ProbeTable;
use crate::support::random_policies::{POLICED_GUESTS, policies, policies_allow};
use crate::support::spec_parts::{idle_vms, network, network4, peering};
use hostctl::reach::FarEnd;
use hostctl::testbed::{Connection, Probe, address};
use hostctl::topology::Direction;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const SPEC: &str = concat!(
    network!("a" 1),
    r#"[networks.a.subnets.back]
cidr = "10.1.0.128/25"
cidr6 = "fd00:0:0:1:8000::/65"
type = "public"
[networks.a.subnets.front]
cidr = "10.1.0.0/25"
cidr6 = "fd00:0:0:1::/65"
type = "public"
policy = "web"
"#,
    network!("b" 2),
    peering!("a" and "b"),
    r#"[vms.web]
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
"#,
    idle_vms!("b1" in "b"),
    r#"
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
"#,
);

const TCP: u8 = 6;
const UDP: u8 = 17;

#[test]
fn subnet_and_guest_policies_hold_for_every_protocol_and_family() {
    let lab = Lab::with_bridge_netfilter(true);
    lab.apply(SPEC);
    let names = ["admin", "b1", "db", "plain", "web"];
    let guests: Vec<(&str, Guest)> = names.iter().map(|name| (*name, lab.guest(SPEC, name))).collect();
    let mut table = ProbeTable::default();
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
    let lab = Lab::with_bridge_netfilter(true);
    let spec = |rules: &str| {
        format!(
            concat!(
                network4!("a" 1),
                network4!("b" 2),
                peering!("a" and "b"),
                idle_vms!("a1" in "a"),
                "policy = 'p'\n",
                idle_vms!("b1" in "b"),
                "[policies.p]\ningress = [{rules}]\n",
            ),
            rules = rules
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

#[test]
fn what_is_measured_is_what_the_model_says() {
    let lab = Lab::with_bridge_netfilter(true);
    let base = [POLICED_GUESTS, peering!("a" and "b")].concat();
    let open = format!("{base}[policies.p0]\n[policies.p1]\n[policies.p2]\n");
    lab.apply(&open);
    let guests = ["a1", "a2", "b1"].map(|name| (name, lab.guest(&open, name)));
    let mut runner = TestRunner::default();
    for _ in 0..12 {
        let spec = format!("{base}{}", policies(5).new_tree(&mut runner).unwrap().current());
        let (_, topology) = compile(&spec);
        lab.apply(&spec);
        let mut table = ProbeTable::default();
        for (name, guest) in &guests {
            let own = [guest.v4, guest.v6.unwrap()];
            for (to, target) in guests.iter().filter(|(to, _)| to != name) {
                for (source, address) in own.into_iter().zip([target.v4, target.v6.unwrap()]) {
                    table.every((name, guest.netns()), to, address, |protocol, port| {
                        policies_allow(
                            &topology,
                            source,
                            Direction::Egress,
                            &FarEnd { address, protocol, port },
                        ) && policies_allow(
                            &topology,
                            address,
                            Direction::Ingress,
                            &FarEnd { address: source, protocol, port },
                        )
                    });
                }
            }
            for (source, address) in
                own.into_iter().zip([IpAddr::V4(address::FAR), IpAddr::V6(address::FAR6)])
            {
                table.every((name, guest.netns()), "internet", address, |protocol, port| {
                    policies_allow(&topology, source, Direction::Egress, &FarEnd { address, protocol, port })
                });
            }
            let network = topology.network(&topology.vm(name).unwrap().port.network).unwrap();
            let gateways = [IpAddr::V4(network.gateway), IpAddr::V6(network.gateway6.unwrap())];
            for (address, gateway) in own.into_iter().zip(gateways) {
                table.every(("host", &lab.world.hypervisor), name, address, |protocol, port| {
                    policies_allow(
                        &topology,
                        address,
                        Direction::Ingress,
                        &FarEnd { address: gateway, protocol, port },
                    )
                });
            }
        }
        table.check(&spec);
    }
}
