//! When rules get other marks: always where a flow that was allowed isn't any more,
//! and not where a spec only allows more.

use std::cell::Cell;
use std::net::IpAddr;

use hostctl::firewall::{Ruleset, Surroundings, narrows};
use hostctl::packet::protocol::{ICMP, TCP, UDP};
use hostctl::reach::{Entry, Flow, Model, Verdict, Vicinity};
use hostctl::topology::{Action, Imds, Nat, Port, RuleList, SubnetKind, Topology, compile};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::random_hosts::{Size, hosts, runner, seed};

fn topology(spec: &str) -> Topology {
    compile(&toml::from_str(spec).unwrap()).unwrap_or_else(|issues| panic!("{issues:?}\n{spec}"))
}

fn ruleset(topology: &Topology) -> Ruleset {
    let vicinity = Vicinity::assumed(topology);
    let exits = topology.exits(&vicinity.uplinks).into_iter();
    let surroundings = Surroundings {
        indices: exits.zip(1000..).collect(),
        uplinks: vicinity.uplinks,
        on_link: vicinity.on_link,
        ..Surroundings::default()
    };
    Ruleset::new(topology, &surroundings).unwrap()
}

fn is_narrower(old: &Topology, new: &Topology) -> bool {
    narrows(&ruleset(old), &ruleset(new), &[])
}

const HOST: &str = r#"
[host]
dns = ["1.1.1.1"]
[networks.a]
cidr = "10.1.0.0/24"
cidr6 = "fd00:0:0:1::/64"
[networks.a.subnets.out]
cidr = "10.1.0.0/25"
cidr6 = "fd00:0:0:1::/65"
type = "public"
[networks.a.subnets.in]
cidr = "10.1.0.128/25"
type = "private"
[networks.b]
cidr = "10.2.0.0/24"
[networks.c]
cidr = "10.3.0.0/24"
policy = "listed"
[[peerings]]
between = ["a", "b"]
[vms.a1]
network = "a"
subnet = "out"
image = "i"
[vms.a2]
network = "a"
subnet = "in"
image = "i"
[vms.b1]
network = "b"
image = "i"
policy = "open"
[vms.c1]
network = "c"
image = "i"
[policies.listed]
ingress = [{ protocol = "tcp", port = 80 }]
egress = [{ protocol = "tcp", port = 443, destination = "203.0.113.0/24" }]
[policies.open]
ingress = [{ protocol = "tcp", port = 22, action = "deny" }]
default = "allow"
"#;

/// Each with what it replaces; nothing where it is added at the end.
const WIDER: [(&str, &str, &str); 12] = [
    (
        "a network",
        "",
        "[networks.d]\ncidr = \"10.4.0.0/24\"\ncidr6 = \"fd00:0:0:4::/64\"\n[vms.d1]\nnetwork = \"d\"\nimage = \"i\"\npolicy = \"listed\"",
    ),
    ("a guest", "", "[vms.a3]\nnetwork = \"a\"\nsubnet = \"out\"\nimage = \"i\""),
    ("a guest with a policy", "", "[vms.b2]\nnetwork = \"b\"\nimage = \"i\"\npolicy = \"listed\""),
    ("a peering", "", "[[peerings]]\nbetween = [\"b\", \"c\"]"),
    ("an allowed port", "port = 80 }]", "port = 80 }, { protocol = \"tcp\", port = 81 }]"),
    ("an allowed range around it", "port = 80 }]", "port = \"70-90\" }]"),
    ("an allowed prefix around it", "203.0.113.0/24", "203.0.112.0/20"),
    (
        "an allowed prefix that joins it",
        "443, destination = \"203.0.113.0/24\"",
        "443, destination = [\"203.0.113.0/24\", \"203.0.112.0/24\"]",
    ),
    (
        "everything",
        "egress = [{ protocol = \"tcp\", port = 443, destination = \"203.0.113.0/24\" }]",
        "egress = [{}]",
    ),
    ("a denial less", "port = 22, action", "port = 23, action"),
    ("a LAN", "cidr = \"10.2.0.0/24\"", "cidr = \"10.2.0.0/24\"\nlan = [\"192.168.1.0/24\"]"),
    ("a way out", "type = \"private\"", "type = \"public\""),
];

#[test]
fn what_only_allows_more_keeps_the_marks() {
    let old = topology(HOST);
    assert!(!is_narrower(&old, &old));
    for (what, from, to) in WIDER {
        let text = if from.is_empty() { format!("{HOST}{to}") } else { HOST.replacen(from, to, 1) };
        assert_ne!(text, HOST, "{what}");
        let new = topology(&text);
        // A denial of another port is both.
        let both = what == "a denial less";
        assert_eq!(is_narrower(&old, &new), both, "{what}");
        assert!(is_narrower(&new, &old), "{what} less");
    }
}

#[test]
fn what_takes_something_away_gives_other_marks() {
    let old = topology(&format!("{HOST}[vms.c2]\nnetwork = \"c\"\nimage = \"i\"\n"));
    for (what, from, to) in [
        (
            "a policy for a guest that had none",
            "[vms.a2]\nnetwork = \"a\"",
            "[vms.a2]\npolicy = \"open\"\nnetwork = \"a\"",
        ),
        ("another policy", "policy = \"open\"", "policy = \"listed\""),
        (
            "something that the host denies",
            "dns = [\"1.1.1.1\"]",
            "dns = [\"1.1.1.1\"]\ndeny = [\"203.0.113.9\"]",
        ),
        ("an uplink more", "dns = [\"1.1.1.1\"]", "dns = [\"1.1.1.1\"]\nuplink = [\"eth8\", \"eth9\"]"),
        ("another mode", "dns = [\"1.1.1.1\"]", "dns = [\"1.1.1.1\"]\nfirewall = \"full\"\nallow_input = []"),
        ("no way out", "cidr = \"10.2.0.0/24\"", "cidr = \"10.2.0.0/24\"\nnat = false"),
        (
            "another address",
            "[vms.b1]\nnetwork = \"b\"",
            "[vms.b1]\naddress = \"10.2.0.77\"\nnetwork = \"b\"",
        ),
        (
            "another MAC",
            "[vms.b1]\nnetwork = \"b\"",
            "[vms.b1]\nmac = \"02:00:00:00:00:77\"\nnetwork = \"b\"",
        ),
    ] {
        let text = HOST.replacen(from, to, 1);
        assert_ne!(text, HOST, "{what}");
        assert!(
            is_narrower(&old, &topology(&format!("{text}[vms.c2]\nnetwork = \"c\"\nimage = \"i\"\n"))),
            "{what}"
        );
    }
}

/// A network that takes addresses which guests have reached elsewhere.
#[test]
fn a_network_of_addresses_that_were_elsewhere_gives_other_marks() {
    let lan = HOST.replacen("cidr = \"10.2.0.0/24\"", "cidr = \"10.2.0.0/24\"\nlan = [\"10.9.0.0/16\"]", 1);
    let with = |host: &str, cidr: &str| topology(&format!("{host}[networks.d]\ncidr = \"{cidr}\"\n"));
    for (host, cidr, narrower) in [
        (HOST, "10.9.1.0/24", false),
        (lan.as_str(), "10.9.1.0/24", true),
        (&lan, "10.8.1.0/24", false),
        (HOST, "203.0.113.0/24", true),
        (HOST, "1.1.1.0/24", true),
    ] {
        assert_eq!(is_narrower(&topology(host), &with(host, cidr)), narrower, "{cidr}");
    }
    // Of a part of a host the rest is told.
    let (old, new) = (ruleset(&topology(HOST)), ruleset(&with(HOST, "10.9.1.0/24")));
    assert!(narrows(&old, &new, &["10.9.0.0/16".parse().unwrap()]));
    assert!(!narrows(&old, &new, &["10.10.0.0/16".parse().unwrap()]));
}

/// A change of a host, by what it is of and which one.
fn change(host: &mut Topology, kind: usize, which: Index) {
    fn one<T>(all: &mut [T], which: Index) -> Option<&mut T> {
        if all.is_empty() { None } else { Some(&mut all[which.index(all.len())]) }
    }
    fn lists(host: &mut Topology, which: Index) -> Option<&mut RuleList> {
        let policy = one(&mut host.policies, which)?;
        if policy.ingress.is_some() { policy.ingress.as_mut() } else { policy.egress.as_mut() }
    }
    match kind {
        0 if !host.vms.is_empty() => drop(host.vms.remove(which.index(host.vms.len()))),
        1 if !host.peerings.is_empty() => drop(host.peerings.remove(which.index(host.peerings.len()))),
        2 => {
            if let Some(list) = lists(host, which).filter(|list| !list.rules.is_empty()) {
                list.rules.remove(which.index(list.rules.len()));
            }
        }
        3 => {
            if let Some(list) = lists(host, which) {
                list.default = if list.default == Action::Allow { Action::Deny } else { Action::Allow };
            }
        }
        4 => {
            if let Some(rule) = lists(host, which).and_then(|list| one(&mut list.rules, which)) {
                rule.action = if rule.action == Action::Allow { Action::Deny } else { Action::Allow };
            }
        }
        5 => {
            let network = one(&mut host.networks, which);
            if let Some(subnet) = network.and_then(|network| one(&mut network.subnets, which)) {
                subnet.kind =
                    if subnet.kind == SubnetKind::Public { SubnetKind::Private } else { SubnetKind::Public };
            }
        }
        6 => {
            if let Some(network) = one(&mut host.networks, which) {
                network.lan = vec!["192.168.1.0/24".parse().unwrap()];
            }
        }
        7 => host.deny.push("203.0.113.0/25".parse().unwrap()),
        8 => {
            if let Some(network) = one(&mut host.networks, which) {
                network.imds = if network.imds == Imds::Host { Imds::Deny } else { Imds::Host };
            }
        }
        9 => {
            let key = host.policed.keys().nth(which.index(host.policed.len().max(1))).cloned();
            key.map(|key| host.policed.remove(&key));
        }
        10 => {
            if let Some(network) = one(&mut host.networks, which) {
                network.nat = Nat::Off;
            }
        }
        11 if host.networks.len() > 1 => {
            let gone = host.networks.remove(which.index(host.networks.len())).name;
            host.vms.retain(|vm| vm.port.network != gone);
            host.namespaces.retain(|namespace| namespace.port.network != gone);
            host.peerings.retain(|(a, b)| *a != gone && *b != gone);
        }
        _ => {
            if let Some(rule) = lists(host, which).and_then(|list| one(&mut list.rules, which)) {
                rule.ports = rule.ports.first().copied().into_iter().collect();
            }
        }
    }
}

/// What guests may begin that gets a mark: flows to guests, and out.
fn flows(host: &Topology) -> Vec<Flow> {
    let far = ["203.0.113.7", "192.0.2.1", "192.168.1.9", "169.254.169.254", "2001:db8::1"];
    let far: Vec<IpAddr> = far.iter().map(|address| address.parse().unwrap()).collect();
    let addresses = |port: &Port| -> Vec<IpAddr> {
        [IpAddr::from(port.address)].into_iter().chain(port.v6.iter().map(|v6| v6.address.into())).collect()
    };
    let guests: Vec<IpAddr> = host.ports().flat_map(addresses).collect();
    let services = [(TCP, 22), (TCP, 80), (TCP, 443), (UDP, 53), (ICMP, 0)];
    let mut flows = Vec::new();
    for port in host.ports() {
        for source in addresses(port) {
            for &destination in guests.iter().chain(&far).filter(|to| to.is_ipv4() == source.is_ipv4()) {
                flows.extend(services.map(|(protocol, number)| Flow {
                    entry: Entry::Guest(port.interface.clone()),
                    source,
                    destination,
                    protocol,
                    port: number,
                }));
            }
        }
    }
    flows
}

/// A flow that `old` allows and `new` doesn't.
fn refused(old: &Topology, new: &Topology) -> Option<Flow> {
    let vicinities = [Vicinity::assumed(old), Vicinity::assumed(new)];
    let [before, after] = [Model::new(old, &vicinities[0]), Model::new(new, &vicinities[1])];
    let is_allowed = |model: &Model<'_>, flow: &Flow| model.judge(flow).verdict == Verdict::Allowed;
    flows(old).into_iter().find(|flow| {
        let there = |flow: &Flow| new.ports().any(|port| flow.entry == Entry::Guest(port.interface.clone()));
        is_allowed(&before, flow) && !(there(flow) && is_allowed(&after, flow))
    })
}

#[test]
fn rules_that_keep_the_marks_refuse_nothing_that_was_allowed() {
    let size = Size { networks: 3, vms: 2, rules: 4 };
    let changes = proptest::collection::vec((0..13_usize, any::<Index>()), 1..3);
    let (kept, given) = (Cell::new(0), Cell::new(0));
    let result = runner(seed(), 300, 200).run(&(hosts(size), changes), |(host, changes)| {
        let old = topology(&host.spec());
        let mut new = old.clone();
        for (kind, which) in changes {
            change(&mut new, kind, which);
        }
        for (old, new) in [(&old, &new), (&new, &old)] {
            if is_narrower(old, new) {
                given.set(given.get() + 1);
            } else {
                kept.set(kept.get() + usize::from(old != new));
                let refused = refused(old, new);
                prop_assert!(refused.is_none(), "{refused:?}\n{}", host.spec());
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    // It says something, and not always the same.
    assert!(kept.get() > 50 && given.get() > 100, "{} {}", kept.get(), given.get());
}
