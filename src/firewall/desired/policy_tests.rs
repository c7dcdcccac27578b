//! The boxes say what the model says, and no two of them overlap.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::policy_boxes::{BOXES_MAX, Boxes, TooMany};
use crate::packet::Family;
use crate::reach::{FarEnd, decide};
use crate::topology::test_topology::topology;
use crate::topology::{Action, PolicyProtocol, PortRange, Rule, RuleList};

fn rule(
    priority: u16,
    action: Action,
    protocol: PolicyProtocol,
    ports: Vec<PortRange>,
    peers: Option<Vec<IpNet>>,
) -> Rule {
    let policy = "p".to_string().try_into().unwrap();
    Rule { policy, index: 0, priority, action, protocol, ports, peers, description: None }
}

/// In the order that the topology puts rules in.
fn list(default: Action, mut rules: Vec<Rule>) -> RuleList {
    rules.sort_by_key(|rule| (rule.priority, rule.action == Action::Allow));
    RuleList { default, rules }
}

fn net() -> impl Strategy<Value = IpNet> {
    // Few addresses and all lengths, so that prefixes nest and touch; and the
    // ends of both families.
    let v4 = (prop_oneof![0u32..64, (u32::MAX - 64)..=u32::MAX], 0u8..=32)
        .prop_map(|(address, length)| IpNet::new(IpAddr::V4(address.into()), length).unwrap());
    let v6 = (prop_oneof![0u128..64, (u128::MAX - 64)..=u128::MAX], 0u8..=128)
        .prop_map(|(address, length)| IpNet::new(Ipv6Addr::from(address).into(), length).unwrap());
    prop_oneof![v4, v6].prop_map(|net| net.trunc())
}

fn ports() -> impl Strategy<Value = PortRange> {
    let port = || prop_oneof![1u16..20, 65_520u16..=65_535];
    (port(), port()).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap())
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Allow), Just(Action::Deny)]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    use PolicyProtocol::{Any, Icmp, Icmpv6, Tcp, Udp};
    let protocol = proptest::sample::select(vec![Any, Icmp, Icmpv6, Tcp, Udp]);
    let ports = proptest::collection::vec(ports(), 0..3);
    let peers = proptest::option::of(proptest::collection::vec(net(), 0..4));
    (0u16..4, action(), protocol, ports, peers).prop_map(|(priority, action, protocol, ports, peers)| {
        let ports = if matches!(protocol, Tcp | Udp) { ports } else { Vec::new() };
        rule(priority, action, protocol, ports, peers)
    })
}

fn flow() -> impl Strategy<Value = FarEnd> {
    let address = prop_oneof![
        prop_oneof![0u32..80, (u32::MAX - 80)..=u32::MAX, any::<u32>()].prop_map(|a| IpAddr::V4(a.into())),
        prop_oneof![0u128..80, (u128::MAX - 80)..=u128::MAX, any::<u128>()]
            .prop_map(|a| IpAddr::V6(a.into())),
    ];
    let protocol = prop_oneof![Just(6u8), Just(17), Just(1), Just(58), any::<u8>()];
    let port = prop_oneof![0u16..24, 65_515u16..=65_535, any::<u16>()];
    (address, protocol, port).prop_map(|(address, protocol, port)| FarEnd { address, protocol, port })
}

/// What the boxes say of a flow.
fn by_boxes(list: &RuleList, v4: &Boxes, v6: &Boxes, flow: &FarEnd) -> Action {
    let (boxes, address) = match flow.address {
        IpAddr::V4(address) => (v4, u32::from(address).into()),
        IpAddr::V6(address) => (v6, address.into()),
    };
    let within = |(first, last): (u128, u128)| (first..=last).contains(&address);
    let found = boxes.ports.iter().any(|b| {
        within(b.addresses) && b.protocol == flow.protocol && (b.ports.0..=b.ports.1).contains(&flow.port)
    }) || boxes
        .protocols
        .iter()
        .any(|b| within(b.addresses) && (b.protocols.0..=b.protocols.1).contains(&flow.protocol));
    if found == (list.default == Action::Deny) { Action::Allow } else { Action::Deny }
}

fn apart(boxes: &Boxes) -> bool {
    fn overlap<T: PartialOrd + Copy>(a: (T, T), b: (T, T)) -> bool {
        a.0 <= b.1 && b.0 <= a.1
    }
    let ports = boxes.ports.iter().enumerate().all(|(n, a)| {
        boxes.ports.iter().skip(n + 1).all(|b| {
            a.protocol != b.protocol || !overlap(a.addresses, b.addresses) || !overlap(a.ports, b.ports)
        })
    });
    ports
        && boxes.protocols.iter().enumerate().all(|(n, a)| {
            boxes
                .protocols
                .iter()
                .skip(n + 1)
                .all(|b| !overlap(a.addresses, b.addresses) || !overlap(a.protocols, b.protocols))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn boxes_say_what_the_model_says(
        default in action(),
        rules in proptest::collection::vec(any_rule(), 0..25),
        flows in proptest::collection::vec(flow(), 100),
    ) {
        let list = list(default, rules);
        let [v4, v6] = [Family::V4, Family::V6].map(|family| Boxes::new(&list, family).unwrap());
        prop_assert!(apart(&v4) && apart(&v6));
        for flow in flows {
            prop_assert_eq!(by_boxes(&list, &v4, &v6, &flow), decide(&list, &flow).0, "{:?}", flow);
        }
    }
}

#[test]
fn ranges_are_written_as_short_as_they_can() {
    let v4 = |text: &str| u128::from(u32::from(text.parse::<std::net::Ipv4Addr>().unwrap()));
    for (first, last, text) in [
        ("0.0.0.0", "255.255.255.255", "0.0.0.0/0"),
        ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("10.0.0.0", "10.0.0.255", "10.0.0.0/24"),
        ("10.0.0.1", "10.0.1.0", "10.0.0.1-10.0.1.0"),
        ("10.0.0.0", "10.0.0.2", "10.0.0.0-10.0.0.2"),
    ] {
        assert_eq!(Family::V4.text((v4(first), v4(last))), text);
    }
    assert_eq!(Family::V6.text((0, u128::MAX)), "::/0");
    assert_eq!(Family::V6.text((0, 1)), "::/127");
}

#[test]
fn a_policy_that_explodes_is_refused() {
    let rules = (0..900u16).map(|n| {
        let ports = (0..20).map(|p| PortRange::new(n + 1 + p * 1000, n + 1 + p * 1000).unwrap()).collect();
        let peer = IpNet::new(std::net::Ipv4Addr::from(u32::from(n) * 4).into(), 32).unwrap();
        rule(n, Action::Allow, PolicyProtocol::Tcp, ports, Some(vec![peer]))
    });
    let list = list(Action::Deny, rules.collect());
    assert_eq!(Boxes::new(&list, Family::V4), Err(TooMany));
    assert_eq!(Boxes::new(&list, Family::V6), Ok(Boxes::default()));
    const { assert!(BOXES_MAX < 900 * 20) };
}

/// A thousand rules that are in force everywhere, and one that comes and goes
/// at each of a thousand prefixes.
#[test]
fn much_work_is_done_in_no_time() {
    let mut rules: Vec<Rule> = (0..999u16)
        .map(|n| {
            let ports = vec![PortRange::new(1 + n * 60, 20 + n * 60).unwrap()];
            rule(n, Action::Allow, PolicyProtocol::Tcp, ports, None)
        })
        .collect();
    let peers = (0..1000u32).map(|n| IpNet::new(std::net::Ipv4Addr::from(n * 4).into(), 32).unwrap());
    rules.push(rule(2000, Action::Deny, PolicyProtocol::Any, vec![], Some(peers.collect())));
    // What it takes itself, on a machine that has other work as well.
    let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let before = used();
    let boxes = Boxes::new(&list(Action::Deny, rules), Family::V4).unwrap();
    assert_eq!(boxes.ports.len(), 999);
    let used = used().checked_sub(before).unwrap();
    assert!(used < Duration::from_secs(30), "{used:?}");
}

/// The policies of three VPC tools' documents, word for word.
#[test]
fn policies_of_vpc_tools_mean_what_those_say() {
    let topology = topology(
        r#"
[networks.production]
cidr = "10.0.0.0/16"
[networks.production.subnets.web-tier]
cidr = "10.0.1.0/24"
type = "public"
policy = "web"
[vms.web]
network = "production"
image = "probe"
[policies.web]
version = "1.0"
subnet = "10.0.1.0/24"
namespace = "production-web-tier"
ingress = [
    { port = 80, protocol = "tcp", source = "0.0.0.0/0", action = "allow", description = "HTTP from anywhere" },
    { port = 443, protocol = "tcp", source = "0.0.0.0/0", action = "allow", description = "HTTPS from anywhere" },
    { port = 22, protocol = "tcp", source = "10.0.0.0/16", action = "allow", description = "SSH from VPC only" },
]
egress = [{ destination = "0.0.0.0/0", action = "allow", description = "Allow all outbound" }]
"#,
    );
    let policy = topology.policy(&topology.vms[0].port).unwrap();
    let (ingress, egress) = (policy.ingress.as_ref().unwrap(), policy.egress.as_ref().unwrap());
    let tcp = |address: &str, port| FarEnd { address: address.parse().unwrap(), protocol: 6, port };
    for (address, port, action) in [
        ("203.0.113.9", 80, Action::Allow),
        ("203.0.113.9", 443, Action::Allow),
        ("203.0.113.9", 22, Action::Deny),
        ("10.0.2.9", 22, Action::Allow),
        ("10.0.2.9", 23, Action::Deny),
        ("2001:db8::9", 80, Action::Deny),
    ] {
        assert_eq!(decide(ingress, &tcp(address, port)).0, action, "{address} {port}");
    }
    assert_eq!(decide(egress, &tcp("203.0.113.9", 25)).0, Action::Allow);
    assert_eq!(decide(egress, &tcp("2001:db8::9", 25)).0, Action::Deny);
}
