//! The reachability model and the change of it, over random policies.

use std::net::IpAddr;

use crate::support::random_policies::policies;
use hostctl::reach::{Change, Entry, Flow, Model, Verdict, Vicinity};
use hostctl::topology::{Action, PolicyProtocol, PortRange, Rule, Topology, compile};
use proptest::prelude::*;

/// Networks a and b are peered, c is alone; each guest has a policy, or none.
fn spec(policies: &str, attached: &[Option<u8>]) -> String {
    let mut text = String::from(
        r#"
        [host.tailscale]
        interface = "tailscale0"
        [networks.a]
        cidr = "10.1.0.0/24"
        cidr6 = "fd00:0:0:1::/64"
        tailscale = true
        [networks.b]
        cidr = "10.2.0.0/24"
        cidr6 = "fd00:0:0:2::/64"
        imds = "host"
        [networks.b.subnets.inside]
        cidr = "10.2.0.0/25"
        cidr6 = "fd00:0:0:2::/65"
        type = "private"
        [networks.c]
        cidr = "10.3.0.0/24"
        cidr6 = "fd00:0:0:3::/64"
        [[peerings]]
        between = ["b", "a"]
        "#,
    );
    for ((guest, network), policy) in GUESTS.iter().zip(attached.iter().chain(std::iter::repeat(&None))) {
        text.push_str(&format!("[vms.{guest}]\nnetwork = \"{network}\"\nimage = \"i\"\n"));
        text.push_str(&policy.map(|p| format!("policy = \"p{}\"\n", p % 3)).unwrap_or_default());
    }
    text + policies
}

const GUESTS: [(&str, &str); 6] =
    [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c")];
const PORTS: [u16; 9] = [7, 19, 22, 79, 80, 81, 150, 443, 8080];
const FAR: [&str; 4] = ["203.0.113.1", "192.0.2.1", "2001:db8::1", "169.254.169.254"];

fn topology(text: &str) -> Topology {
    compile(&toml::from_str(text).unwrap()).unwrap()
}

/// Every guest to every guest, to its gateway, and to places far away; the
/// host and the tailnet to every guest.
fn flows(topology: &Topology) -> Vec<Flow> {
    let address = |vm: &hostctl::topology::Vm, v6: bool| -> IpAddr {
        if v6 { vm.port.v6.as_ref().unwrap().address.into() } else { vm.port.address.into() }
    };
    let mut flows = Vec::new();
    for v6 in [false, true] {
        let mut ends: Vec<(Entry, IpAddr, IpAddr)> = Vec::new();
        for vm in &topology.vms {
            let entry = || Entry::Guest(vm.port.interface.clone());
            let own = address(vm, v6);
            let others = topology.vms.iter().filter(|other| other.name != vm.name);
            let far = FAR.iter().map(|far| far.parse::<IpAddr>().unwrap()).filter(|far| far.is_ipv6() == v6);
            let gateway: IpAddr =
                if v6 { vm.port.v6.as_ref().unwrap().gateway.into() } else { vm.port.gateway.into() };
            let to = others.map(|other| address(other, v6)).chain(far).chain([gateway]);
            ends.extend(to.map(|to| (entry(), own, to)));
            ends.push((Entry::Host, gateway, own));
            let laptop: IpAddr = if v6 { "fd7a:115c:a1e0::9" } else { "100.64.0.9" }.parse().unwrap();
            ends.push((Entry::Interface(topology.tailscale.clone().unwrap()), laptop, own));
        }
        for (entry, source, destination) in ends {
            let flow = |protocol, port| Flow { entry: entry.clone(), source, destination, protocol, port };
            flows.extend(PORTS.iter().flat_map(|port| [flow(6, *port), flow(17, *port)]));
            flows.push(flow(if v6 { 58 } else { 1 }, 0));
            flows.push(flow(47, 0));
        }
    }
    flows
}

fn verdicts(topology: &Topology, flows: &[Flow]) -> Vec<Verdict> {
    let vicinity = Vicinity::assumed(topology);
    let model = Model::new(topology, &vicinity);
    flows.iter().map(|flow| model.judge(flow).verdict).collect()
}

fn attached() -> impl Strategy<Value = Vec<Option<u8>>> {
    proptest::collection::vec(proptest::option::of(0u8..3), GUESTS.len())
}

fn deny() -> impl Strategy<Value = (PolicyProtocol, Option<(u16, u16)>, Option<&'static str>, u16)> {
    (
        proptest::sample::select(vec![PolicyProtocol::Any, PolicyProtocol::Tcp, PolicyProtocol::Icmp]),
        proptest::option::of((1u16..100, 100u16..500)),
        proptest::option::of(proptest::sample::select(vec![
            "10.1.0.2/32",
            "10.0.0.0/8",
            "::/0",
            "203.0.113.0/25",
        ])),
        0u16..200,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_policy_opens_a_way_between_networks_that_are_not_peered(text in policies(6), attached in attached()) {
        let topology = topology(&spec(&text, &attached));
        let flows = flows(&topology);
        let network = |address: IpAddr| match address {
            IpAddr::V4(address) => (address.octets()[0] == 10).then_some(address.octets()[1]),
            IpAddr::V6(address) => (address.segments()[0] == 0xfd00).then_some(address.segments()[3] as u8),
        };
        for (flow, verdict) in flows.iter().zip(verdicts(&topology, &flows)) {
            let ends = (network(flow.source), network(flow.destination));
            if let (Some(3), Some(1 | 2)) | (Some(1 | 2), Some(3)) = ends {
                prop_assert_eq!(verdict, Verdict::Dropped, "{:?}", flow);
            }
        }
    }

    #[test]
    fn a_policy_only_narrows(text in policies(6), attached in attached()) {
        let (open, policed) = (topology(&spec(&text, &[])), topology(&spec(&text, &attached)));
        let flows = flows(&open);
        for ((flow, before), after) in flows.iter().zip(verdicts(&open, &flows)).zip(verdicts(&policed, &flows)) {
            prop_assert!(before != Verdict::Dropped || after == Verdict::Dropped, "{:?}", flow);
        }
        prop_assert!(!Change::between(&open, &policed).widens());
        let back = Change::between(&policed, &open);
        prop_assert!(back.lines.iter().all(|line| line.opens), "{:?}", back);
    }

    #[test]
    fn a_denial_more_never_opens(
        text in policies(6),
        attached in attached(),
        (protocol, ports, peer, priority) in deny(),
        which: prop::sample::Index,
    ) {
        let before = topology(&spec(&text, &attached));
        let mut after = before.clone();
        let mut lists: Vec<_> =
            after.policies.iter_mut().flat_map(|policy| policy.ingress.iter_mut().chain(&mut policy.egress)).collect();
        prop_assume!(!lists.is_empty());
        let index = which.index(lists.len());
        let ports = ports.filter(|_| protocol == PolicyProtocol::Tcp);
        let rule = Rule {
            policy: "extra".to_string().try_into().unwrap(),
            index: 0,
            priority,
            action: Action::Deny,
            protocol,
            ports: ports.and_then(|(first, last)| PortRange::new(first, last)).into_iter().collect(),
            peers: peer.map(|net| vec![net.parse().unwrap()]),
            description: None,
        };
        lists[index].rules.push(rule);
        prop_assert!(!Change::between(&before, &after).widens());
    }

    /// What is found by comparing classes is what each flow by itself says.
    #[test]
    fn a_change_is_seen_where_there_is_one(
        (was, is) in (policies(4), policies(4)),
        (attached_was, attached_is) in (attached(), attached()),
        same_policies: bool,
        same_attachment: bool,
    ) {
        let is = if same_policies { was.clone() } else { is };
        let attached_is = if same_attachment { attached_was.clone() } else { attached_is };
        let (old, new) = (topology(&spec(&was, &attached_was)), topology(&spec(&is, &attached_is)));
        let change = Change::between(&old, &new);
        let flows = flows(&old);
        let (before, after) = (verdicts(&old, &flows), verdicts(&new, &flows));
        for opens in [true, false] {
            let (closed, open) = if opens { (&before, &after) } else { (&after, &before) };
            let differs = closed.iter().zip(open).position(|(closed, open)| {
                *closed == Verdict::Dropped && *open != Verdict::Dropped
            });
            if let Some(index) = differs {
                prop_assert!(change.lines.iter().any(|line| line.opens == opens), "{:?}: {:?}", flows[index], change);
            }
        }
        let back = Change::between(&new, &old);
        prop_assert_eq!(back.lines.len(), change.lines.len());
        if same_policies && same_attachment {
            prop_assert_eq!(change.lines, vec![]);
        }
    }
}

#[test]
fn without_policies_networks_are_symmetric_and_families_twins() {
    let topology = topology(&spec("", &[]));
    let flows = flows(&topology);
    let vicinity = Vicinity::assumed(&topology);
    let model = Model::new(&topology, &vicinity);
    let guest = |address: IpAddr| {
        topology.vms.iter().find(|vm| {
            IpAddr::from(vm.port.address) == address
                || vm.port.v6.as_ref().is_some_and(|v6| IpAddr::from(v6.address) == address)
        })
    };
    let mut pairs = 0;
    for flow in flows.iter().filter(|flow| flow.source.is_ipv4()) {
        let (Some(from), Some(to)) = (guest(flow.source), guest(flow.destination)) else { continue };
        let verdict = model.judge(flow).verdict;
        let back = Flow {
            entry: Entry::Guest(to.port.interface.clone()),
            source: flow.destination,
            destination: flow.source,
            ..flow.clone()
        };
        assert_eq!(model.judge(&back).verdict, verdict, "{flow:?}");
        let v6 = |vm: &hostctl::topology::Vm| IpAddr::from(vm.port.v6.as_ref().unwrap().address);
        let protocol = if flow.protocol == 1 { 58 } else { flow.protocol };
        let twin = Flow { source: v6(from), destination: v6(to), protocol, ..flow.clone() };
        assert_eq!(model.judge(&twin).verdict, verdict, "{flow:?}");
        pairs += 1;
    }
    assert_eq!(pairs, 30 * (2 * PORTS.len() + 2));
}
