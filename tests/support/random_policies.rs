//! Random policies over few addresses and ports, so that rules meet.

use std::fmt::Write;
use std::net::IpAddr;

use hostctl::reach::{FarEnd, decide};
use hostctl::topology::{Action, Direction, Topology};
use proptest::prelude::*;

use crate::support::spec_parts::{idle_vms, network};

/// Networks a and b, and guests for the policies p0, p1 and p2.
pub const POLICED_GUESTS: &str = concat!(
    network!("a" 1),
    network!("b" 2),
    "policy = 'p2'\n",
    idle_vms!("a1" in "a"),
    "policy = 'p0'\n",
    idle_vms!("a2" in "a"),
    "policy = ['p0', 'p1']\n",
    idle_vms!("b1" in "b"),
);

/// What the policies of a guest with the address `own` say of a flow to or
/// from another, in their own words.
pub fn policies_allow(topology: &Topology, own: IpAddr, direction: Direction, far: &FarEnd) -> bool {
    let own = topology.ports().find(|port| {
        own == IpAddr::from(port.address)
            || port.v6.as_ref().is_some_and(|v6| own == IpAddr::from(v6.address))
    });
    let rules = own.and_then(|port| topology.policy(port)).and_then(|policy| policy.rules(direction));
    rules.is_none_or(|rules| decide(rules, far).0 == Action::Allow)
}

/// The policies p0, p1 and p2 as TOML, each with up to `rules` rules a
/// direction.
pub fn policies(rules: usize) -> impl Strategy<Value = String> {
    let peer = proptest::sample::select(vec![
        "10.1.0.2",
        "10.1.0.0/30",
        "10.2.0.0/24",
        "network:a",
        "network:b",
        "policy:p0",
        "policy:p1",
        "fd00:0:0:1::/64",
        "fd00:0:0:2::2",
        "0.0.0.0/0",
        "::/0",
        "203.0.113.0/24",
        "10.0.0.0/8",
    ]);
    let service = proptest::sample::select(vec![
        "",
        "protocol = \"tcp\"",
        "protocol = \"udp\"",
        "protocol = \"icmp\"",
        "protocol = \"icmpv6\"",
        "protocol = \"tcp\", port = 80",
        "protocol = \"tcp\", port = \"20-79\"",
        "protocol = \"udp\", port = [7, \"100-200\"]",
        "protocol = \"tcp\", port = [22, 80]",
    ]);
    let peers = proptest::collection::vec(peer, 0..3);
    let rule = (peers, service, any::<bool>(), 98u16..102);
    let rules = proptest::option::of(proptest::collection::vec(rule, 0..=rules));
    let default = proptest::sample::select(vec!["", "default = \"allow\"\n", "default = \"deny\"\n"]);
    let policy = (rules.clone(), rules, default);
    proptest::collection::vec(policy, 3).prop_map(|policies| {
        let mut text = String::new();
        for (n, (ingress, egress, default)) in policies.into_iter().enumerate() {
            write!(text, "[policies.p{n}]\n{default}").unwrap();
            for (key, far, rules) in [("ingress", "source", ingress), ("egress", "destination", egress)] {
                let Some(rules) = rules else { continue };
                writeln!(text, "{key} = [").unwrap();
                for (peers, service, deny, priority) in rules {
                    let comma = if service.is_empty() { "" } else { ", " };
                    let action = if deny { "deny" } else { "allow" };
                    let v4 = |peer: &&str| peer.starts_with("10.") || peer.contains("0.");
                    let v6 = |peer: &&str| peer.contains("::");
                    let matches_none =
                        (service.contains("icmpv6") && !peers.is_empty() && peers.iter().all(v4))
                            || (service.contains("icmp\"") && !peers.is_empty() && peers.iter().all(v6));
                    let far = if peers.is_empty() || matches_none {
                        String::new()
                    } else {
                        format!(", {far} = {peers:?}")
                    };
                    writeln!(
                        text,
                        "  {{ {service}{comma}action = \"{action}\", priority = {priority}{far} }},"
                    )
                    .unwrap();
                }
                text.push_str("]\n");
            }
        }
        text
    })
}
