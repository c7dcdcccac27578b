//! An apply looks at, changes and verifies what differs: the same as a look at the
//! whole host would have it do, whatever else there is.

use std::collections::BTreeSet;

use crate::support::commands::{code, done, killed_at, typed, write};
use crate::support::lab::Lab;
use crate::support::random_hosts::{Size, hosts, runner, seed};
use crate::support::spec_parts::{idle_vms, namespace, network, network4, peering, tailnet};
use hostctl::firewall::{Difference, Ruleset, Surroundings};
use hostctl::link::{self, Desired, Inside, Link, Observed, PortKind};
use hostctl::testbed::Options;
use hostctl::topology::{Scope, Topology, compile, compile_keeping};
use proptest::prelude::*;

const BASE: &str = concat!(
    tailnet!(),
    network!("a" 1),
    "tailscale = true\n",
    network!("b" 2),
    network4!("c" 3),
    namespace!("public" "c" / "in" "10.3.0.0/25"),
    peering!("a" and "b"),
    idle_vms!("a1" in "a"),
    "policy = 'p'\n",
    idle_vms!("b1" in "b"),
    "[policies.p]\ningress = [{ port = [80, 22], protocol = 'tcp' }]\n",
);

const MORE: &str = concat!(network!("d" 4), idle_vms!("d1" in "d", "a2" in "a"));

const PARTLY: &str = "looked at what changes, and not at the whole host";
const WHOLLY: &str = "looking at the whole host";

/// Runs hostctl so that it says what it looks at.
fn told(lab: &Lab, arguments: &[&str]) -> String {
    let root = lab.root_dir();
    let output = lab.world.hypervisor.run(|| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command.env("HOSTCTL_LOG", "info").arg("--root-dir").arg(root).args(arguments).output().unwrap()
    });
    let (code, text) = code(output);
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    text
}

#[track_caller]
fn partly(lab: &Lab, arguments: &[&str]) -> String {
    let text = told(lab, arguments);
    assert!(text.contains(PARTLY) && !text.contains(WHOLLY), "{arguments:?}: {text}");
    text
}

#[track_caller]
fn wholly(lab: &Lab, arguments: &[&str]) -> String {
    let text = told(lab, arguments);
    assert!(!text.contains(PARTLY), "{arguments:?}: {text}");
    text
}

/// An audit and a look at the whole host find nothing.
#[track_caller]
fn assert_whole(lab: &Lab, what: &str) {
    assert_eq!(done(lab, &["plan", "--full"]), "nothing to do\n", "{what}");
    let audit = lab.audit();
    assert!(lab.status().drift.is_empty() && audit.findings.is_empty(), "{what}: {:?}", audit.findings);
}

/// The kernel after every step to `desired` was done; a bridge answers for those of
/// `proxies` alone.
fn observed(desired: &Desired, numbers: &Desired, proxies: &Desired) -> Observed {
    let mut observed = Observed { apart: Some(desired.apart.clone()), ..Observed::default() };
    let ours = |index: u32, kind: &str, alias: &str| Link {
        index,
        kind: kind.into(),
        group: hostctl::ownership::LINK_GROUP,
        alias: Some(alias.into()),
        up: true,
        ..Link::default()
    };
    for bridge in &desired.bridges {
        let number = numbers.bridges.iter().position(|other| other.name == bridge.name).unwrap();
        let link = Link {
            mac: Some(bridge.mac.octets()),
            addresses: bridge.addresses.iter().copied().collect(),
            altnames: bridge.altname.iter().cloned().collect(),
            ..ours(10 + u32::try_from(number).unwrap(), "bridge", &bridge.alias)
        };
        observed.links.insert(bridge.name.to_string(), link);
    }
    for port in &desired.ports {
        let bridge = observed.links.get(port.bridge.as_str()).map(|bridge| bridge.index);
        let link = Link {
            mac: port.mac.map(|mac| mac.octets()),
            isolated: true,
            master: bridge,
            fdb: BTreeSet::from([port.guest.octets()]),
            altnames: port.altname.iter().cloned().collect(),
            ..ours(1000, port.kind.link_kind(), &port.alias)
        };
        observed.links.insert(port.name.to_string(), link);
        if let PortKind::Veth { namespace } = &port.kind {
            let wanted = desired.namespaces.iter().find(|wanted| &wanted.name == namespace).unwrap();
            let inside = Link {
                mac: Some(port.guest.octets()),
                up: true,
                addresses: wanted.addresses.iter().copied().collect(),
                ..Link::default()
            };
            let routes = wanted.routes.iter().map(|route| (route.to, route.via)).collect();
            let inside = Inside {
                ours: true,
                signed: true,
                loopback: true,
                link: Some(inside),
                late_checksums: false,
                routes,
            };
            observed.namespaces.insert(namespace.clone(), inside);
        }
    }
    for port in &proxies.ports {
        if let Some(bridge) = observed.links.get_mut(port.bridge.as_str()) {
            bridge.proxies.extend(port.guest6);
            bridge.neighbours.extend(port.addresses.iter().map(|address| (*address, port.guest.octets())));
        }
    }
    observed
}

fn surroundings() -> Surroundings {
    let uplink: hostctl::topology::IfName = "uplink0".to_string().try_into().unwrap();
    Surroundings {
        uplinks: vec![uplink.clone()],
        opened: vec![uplink.clone()],
        indices: [(uplink, 7)].into(),
        on_link: vec!["198.51.100.0/24".parse().unwrap()],
        ..Surroundings::default()
    }
}

/// What is done to the firewall, and to the links.
fn of_the_whole(old: &Topology, new: &Topology) -> (Vec<String>, link::Plan) {
    let known = surroundings();
    let rules = |topology: &Topology| Ruleset::new(topology, &known).unwrap();
    let desired = |topology: &Topology| Desired::new(topology, &known.uplinks);
    let before = observed(&desired(old), &desired(old), &desired(old));
    (commands(&rules(old), &rules(new)), link::plan(&desired(new), &before))
}

/// The same, by what of both hosts is within the scope of their difference.
fn of_the_part(old: &Topology, new: &Topology) -> Option<(Vec<String>, link::Plan)> {
    let known = surroundings();
    let scope = Scope::between(old, new)?;
    let rules = |topology: &Topology| Ruleset::new(&scope.part_with_witnesses(topology), &known).unwrap();
    let desired = |topology: &Topology| Desired::of_part(&scope.part(topology));
    let before = observed(&desired(old), &Desired::new(old, &known.uplinks), &desired(old));
    Some((commands(&rules(old), &rules(new)), link::plan(&desired(new), &before)))
}

fn commands(old: &Ruleset, new: &Ruleset) -> Vec<String> {
    match Difference::between_rulesets(old, new).unwrap() {
        Difference::None => Vec::new(),
        Difference::Elements(delta) => delta.commands(),
        Difference::Replace { reason } => vec![reason],
    }
}

#[test]
fn a_part_is_changed_as_the_whole_is() {
    let size = Size { networks: 4, vms: 2, rules: 1 };
    let edits = (hosts(size), hosts(size), proptest::collection::vec(any::<bool>(), 7));
    let mut parts = 0;
    runner(seed(), 16, 200)
        .run(&edits, |(host, other, which)| {
            let spec = |host: &crate::support::random_hosts::RandomHost| {
                toml::from_str::<hostctl::spec::HostSpec>(&host.spec()).unwrap()
            };
            let (Ok(old), edited) = (compile(&spec(&host)), spec(&host.edited(&other, &which))) else {
                return Ok(());
            };
            let Ok(new) = compile_keeping(&edited, &old.allocations()) else { return Ok(()) };
            for (old, new) in [(&old, &new), (&new, &old)] {
                let Some(part) = of_the_part(old, new) else { continue };
                prop_assert_eq!(part, of_the_whole(old, new));
            }
            Ok(())
        })
        .unwrap();
    // And by hand, so that it is known that there are parts.
    let base = compile(&toml::from_str(BASE).unwrap()).unwrap();
    for text in [format!("{BASE}{MORE}"), BASE.replace("[80, 22]", "80"), BASE.replace("policy = 'p'", "")] {
        let new = compile_keeping(&toml::from_str(&text).unwrap(), &base.allocations()).unwrap();
        for (old, new) in [(&base, &new), (&new, &base)] {
            let part = of_the_part(old, new).unwrap();
            assert!(!part.0.is_empty(), "{text}");
            assert_eq!(part, of_the_whole(old, new), "{text}");
            parts += 1;
        }
    }
    assert_eq!(parts, 6);
}

#[test]
fn what_is_every_networks_is_no_part() {
    let base = compile(&toml::from_str(BASE).unwrap()).unwrap();
    let scope = |text: &str| Scope::between(&base, &compile(&toml::from_str(text).unwrap()).unwrap());
    assert_eq!(scope(BASE).map(|scope| scope.is_empty()), Some(true));
    assert_eq!(scope(""), None);
    for host in
        ["firewall = \"full\"", "deny = [\"203.0.113.0/24\"]", "dns = [\"192.0.2.53\"]", "uplink = \"e\""]
    {
        assert_eq!(scope(&format!("[host]\n{host}\n{BASE}")), None, "{host}");
    }
    let v4 = BASE.lines().filter(|line| !line.starts_with("cidr6")).collect::<Vec<_>>().join("\n");
    assert_eq!(scope(&v4), None);
}

#[test]
fn a_change_looks_at_its_part_and_leaves_a_host_in_which_nothing_is_found() {
    let lab = Lab::new(Options::default());
    write(&lab, BASE);
    let first = wholly(&lab, &["apply"]);
    assert!(first.contains("isn't known to have come to its end"), "{first}");
    // Nothing differs: what there is to do is to find out what others changed.
    wholly(&lab, &["apply"]);
    write(&lab, &format!("{BASE}{MORE}"));
    partly(&lab, &["plan"]);
    partly(&lab, &["apply"]);
    assert_whole(&lab, "networks and guests come");
    write(
        &lab,
        &BASE.replace("[80, 22]", "80").replace("between = [\"a\", \"b\"]", "between = [\"a\", \"c\"]"),
    );
    partly(&lab, &["apply"]);
    assert_whole(&lab, "they go, a policy and a peering change");
    write(&lab, BASE);
    wholly(&lab, &["apply", "--full"]);
    for line in [
        "vpc create --name e --cidr 10.5.0.0/16",
        "subnet add --vpc e --name pub --cidr 10.5.1.0/24 --type public",
        "peer create --vpc1 e --vpc2 a",
        "peer delete --vpc1 e --vpc2 a",
        "vpc delete --name e --force",
    ] {
        partly(&lab, &line.split(' ').collect::<Vec<_>>());
        assert_whole(&lab, line);
    }
    // Another way to the internet is every network's.
    let other = BASE.replace("[networks.b]", "[networks.b]\nnat = \"uplink0\"");
    write(&lab, &other);
    partly(&lab, &["apply"]);
    assert_whole(&lab, "nat by the same link");
}

#[test]
fn drift_beside_what_changes_is_left_and_found_and_drift_of_what_changes_is_repaired() {
    let lab = Lab::new(Options::default());
    write(&lab, BASE);
    done(&lab, &["apply"]);
    lab.run_line("ip address del 10.2.0.1/24 dev br-b");
    lab.run_line("bridge link set dev vm-b1 learning on");
    let drift = lab.status().drift;
    assert!(drift.len() >= 2, "{drift:?}");
    let more = format!("{BASE}{MORE}");
    write(&lab, &more);
    partly(&lab, &["apply"]);
    assert_eq!(lab.status().drift, drift);
    assert!(!lab.audit().findings.is_empty());
    wholly(&lab, &["apply", "--full"]);
    assert_whole(&lab, "repaired by a look at all");
    // A bridge that a guest comes to isn't as it was left.
    lab.run_line("ip address del 10.1.0.1/24 dev br-a");
    lab.run_line("bridge link set dev vm-b1 learning on");
    write(&lab, &format!("{more}{}", idle_vms!("a3" in "a")));
    let text = wholly(&lab, &["apply"]);
    assert!(text.contains("somebody changed what is to be changed"), "{text}");
    assert_whole(&lab, "repaired where a part was meddled with");
    // The same of a guest that goes, and of a link of its name that is another's.
    lab.run_line("ip link del vm-d1");
    write(&lab, &more.replace("[vms.d1]", "[vms.d2]"));
    wholly(&lab, &["apply"]);
    assert_whole(&lab, "a link that goes was gone");
    lab.run_line("ip link add br-z type bridge");
    lab.run_line("ip address add 10.77.3.4/24 dev br-z");
    for (name, cidr, words) in [
        ("z", "10.9.0.0/24", "there is already a link br-z (bridge)"),
        ("y", "10.77.0.0/16", "10.77.3.4/24 of br-z"),
    ] {
        let create = ["vpc", "create", "--name", name, "--cidr", cidr];
        let (code, text) = code(lab.hostctl(&create));
        assert!(code != Some(0) && text.contains(words), "{text}");
    }
    assert_eq!(done(&lab, &["plan", "--full"]), "nothing to do\n");
}

#[test]
fn what_leads_to_the_internet_is_looked_at_each_time() {
    let lab = Lab::new(Options::default());
    write(&lab, BASE);
    done(&lab, &["apply"]);
    lab.run_line("ip link add other type bridge");
    lab.run_line("ip address add 192.0.2.9/24 dev other");
    lab.run_line("ip link set other up");
    let edit =
        |number: u8| write(&lab, &format!("{BASE}[networks.n{number}]\ncidr = \"10.9.{number}.0/24\"\n"));
    edit(1);
    partly(&lab, &["apply"]);
    lab.run_line("ip route replace default via 192.0.2.1 dev other");
    edit(2);
    let text = wholly(&lab, &["apply"]);
    assert!(text.contains("what leads to the internet may be otherwise"), "{text}");
    let exits = || lab.output("nft", &["list", "set", "inet", "hostctl", "uplinks"]);
    assert!(exits().contains("other"), "{}", exits());
    edit(3);
    partly(&lab, &["apply"]);
    // An uplink of the same name is another link.
    lab.run_line("ip link del other");
    lab.run_line("ip link add other type bridge");
    edit(4);
    wholly(&lab, &["apply"]);
    assert_eq!(done(&lab, &["plan", "--full"]), "nothing to do\n", "the other way is gone");
}

#[test]
fn a_part_that_is_killed_anywhere_is_finished_by_a_look_at_all() {
    let lab = Lab::of_ipv4();
    const BASE: &str = concat!(
        network4!("a" 1),
        idle_vms!("a1" in "a"),
        "policy = 'p'\n[policies.p]\ningress = [{ port = 80, protocol = 'tcp' }]\n",
    );
    write(&lab, BASE);
    done(&lab, &["apply"]);
    let there = format!("{}{}", BASE.replace("port = 80", "port = 81"), idle_vms!("a2" in "a"));
    let mut points = Vec::new();
    for point in 1.. {
        write(&lab, BASE);
        done(&lab, &["apply"]);
        write(&lab, &there);
        let output = killed_at(&lab, point, &["apply"]);
        let text = String::from_utf8(output.stderr).unwrap();
        let Some(place) = text.lines().find_map(|line| line.strip_prefix("killed at: ")) else { break };
        // Nothing but what the spec says is there afterwards, and all of it.
        if place.contains("before a step") || place.contains("executed") || place.contains("verified") {
            let again = wholly(&lab, &["apply"]);
            assert!(again.contains("isn't known to have come to its end"), "{place}: {again}");
        } else {
            done(&lab, &["apply"]);
        }
        assert_whole(&lab, place);
        points.push(place.to_string());
    }
    assert!(points.iter().filter(|place| *place == "before a step").count() > 5, "{points:?}");
    assert!(points.iter().any(|place| place == "executed, not verified"), "{points:?}");
    assert!(points.iter().any(|place| place == "verified, not kept"), "{points:?}");
}

/// How many messages and bytes the kernel answered with.
fn read(text: &str) -> (usize, usize) {
    let number = |key: &str| -> usize {
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix(key));
        words.map(|number| number.parse::<usize>().unwrap()).sum()
    };
    (number("messages="), number("bytes="))
}

#[test]
fn what_is_read_for_a_change_does_not_grow_with_the_host() {
    let lab = Lab::of_ipv4();
    let host = |networks: usize| {
        let network = |n: usize| format!("[networks.n{n:03}]\ncidr = \"10.{n}.0.0/24\"\n");
        (1..=networks).map(network).collect::<String>()
    };
    let vm = "[vms.v]\nnetwork = \"n001\"\nimage = \"probe\"\nautostart = false\n";
    let mut found = Vec::new();
    for networks in [5, 105] {
        write(&lab, &host(networks));
        done(&lab, &["apply"]);
        write(&lab, &format!("{}{vm}", host(networks)));
        let guest = read(&partly(&lab, &["apply"]));
        write(&lab, &host(networks));
        let gone = read(&partly(&lab, &["apply", "--yes"]));
        let network = read(&partly(&lab, &["vpc", "create", "--name", "x", "--cidr", "10.200.0.0/24"]));
        typed(&lab, "vpc delete --name x");
        found.push((guest, gone, network));
    }
    let [few, many] = found.as_slice() else { unreachable!() };
    assert!(few.0.0 > 0 && few.0 == many.0 && few.1 == many.1, "{found:?}");
    // A new prefix may be in the way of anybody's address: those are listed, and
    // nothing else that grows.
    assert_eq!(many.2.0 - few.2.0, 100, "{found:?}");
    assert!(many.2.1 - few.2.1 < 100 * 100, "{found:?}");
}

/// Others' tables are none of hostctl's business; a rule or a missing element in its
/// own is.
#[test]
fn what_others_do_to_their_tables_makes_no_command_slower_and_to_hostctls_it_is_found() {
    let lab = Lab::new(Options::default());
    write(&lab, BASE);
    done(&lab, &["apply"]);
    let mut number = 0;
    let mut edit = || {
        number += 1;
        write(&lab, &format!("{BASE}[networks.n]\ncidr = \"10.9.{number}.0/24\"\n"));
    };
    let nft = |text: &str| lab.output("nft", &[text]);
    nft("add table ip theirs");
    edit();
    partly(&lab, &["apply"]);
    nft("add chain ip theirs c { type filter hook forward priority 0; }");
    edit();
    partly(&lab, &["plan"]);
    partly(&lab, &["apply"]);
    assert_whole(&lab, "after others' transactions");
    // What they did may have been to an element: that is found by who looks at all.
    nft("delete element bridge hostctl ports { vm-b1 }");
    let drift = lab.status().drift;
    assert!(drift.first().is_some_and(|step| step.contains("vm-b1")), "{drift:?}");
    edit();
    partly(&lab, &["apply"]);
    assert_eq!(lab.status().drift, drift, "beside what changes it is left and not hidden");
    wholly(&lab, &["apply"]);
    assert_whole(&lab, "an apply of what is said already looks at all");
    // An element of what changes isn't as it was left.
    nft("delete element bridge hostctl ports { vm-b1 }");
    write(&lab, &format!("{BASE}{}", idle_vms!("b2" in "b")).replace("vms.b1", "vms.b3"));
    let text = wholly(&lab, &["apply"]);
    assert!(text.contains("somebody changed what is to be changed"), "{text}");
    assert_whole(&lab, "an element of a guest that goes");
    // Rules, chains and tables are everybody's.
    for text in [
        "insert rule inet hostctl forward accept",
        "flush chain inet hostctl from_guest",
        "add chain inet hostctl forward { policy drop; }",
        "add chain inet hostctl more { type filter hook forward priority 7; }",
        "add table bridge hostctl { flags dormant; }",
        "delete table bridge hostctl",
        "delete table inet hostctl",
    ] {
        nft(text);
        edit();
        let told = wholly(&lab, &["apply"]);
        assert!(told.contains("somebody changed hostctl's tables"), "{text}: {told}");
        assert_whole(&lab, text);
    }
}
