//! The host knows by itself behind which MAC each guest is: it asks nobody, and
//! nobody's answer changes it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use crate::support::lab::{self, Lab};
use crate::support::spec_parts::{idle_vms, namespace, network, network4, wide_network};
use hostctl::testbed::frames::{Arp, Link, arp};
use hostctl::testbed::{Options, Probe, address, probe};

const SPEC: &str = concat!(
    network!("a" 1),
    network4!("b" 2),
    wide_network!("prod" 20),
    namespace!("public" "prod" / "web" "10.20.1.0/24"),
    idle_vms!("a1" in "a", "a2" in "a", "b1" in "b"),
);

/// A bridge's permanent entries.
fn known(lab: &Lab, bridge: &str) -> BTreeMap<IpAddr, String> {
    let text = lab.run_line(&format!("ip neigh show nud permanent dev {bridge}"));
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[1], words.last()), ("lladdr", Some(&"PERMANENT")), "{line}");
        (words[0].parse().unwrap(), words[2].to_string())
    };
    text.lines().map(entry).collect()
}

/// What a bridge should know of these guests of the spec.
fn of_guests(spec: &str, names: &[&str]) -> BTreeMap<IpAddr, String> {
    let (_, topology) = lab::compile(spec);
    let vms = topology.vms.iter().map(|vm| (vm.name.to_string(), &vm.port));
    let namespaces = topology.namespaces.iter().map(|one| (one.name.to_string(), &one.port));
    let mut found = BTreeMap::new();
    for (_, port) in vms.chain(namespaces).filter(|(name, _)| names.contains(&name.as_str())) {
        let v6 = port.v6.iter().flat_map(|v6| [IpAddr::V6(v6.address), IpAddr::V6(v6.link_local)]);
        found.extend([IpAddr::V4(port.address)].into_iter().chain(v6).map(|ip| (ip, port.mac.to_string())));
    }
    found
}

/// Neither a guest that doesn't answer who it is, nor one that does late, makes
/// a packet wait.
#[test]
fn the_host_asks_no_guest_who_it_is() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    assert_eq!(known(&lab, "br-a"), of_guests(SPEC, &["a1", "a2"]));
    assert_eq!(known(&lab, "br-a").len(), 6, "an IPv4, an IPv6 and a link-local address each");
    assert_eq!(known(&lab, "br-b"), of_guests(SPEC, &["b1"]));
    assert_eq!(known(&lab, "br-prod"), of_guests(SPEC, &["prod-web"]));
    let [a1, a2] = ["a1", "a2"].map(|name| lab.guest(SPEC, name));
    let silent = "table arp silent { chain input { type filter hook input priority 0; arp operation request drop; }; }
        table ip6 silent { chain input { type filter hook input priority 0; icmpv6 type nd-neighbor-solicit drop; }; }";
    let rules = lab.root_dir().join("silent.nft");
    std::fs::write(&rules, silent).unwrap();
    let loaded = a1.netns().run(|| std::process::Command::new("nft").arg("-f").arg(&rules).status());
    assert!(loaded.unwrap().success());
    let (v4, v6) = (a1.v4, a1.v6.unwrap());
    for (from, who) in [(&lab.world.hypervisor, "the host"), (a2.netns(), "another guest")] {
        for ip in [v4, v6] {
            let verdict = probe(from, Probe::Tcp((ip, 80).into()), Duration::from_millis(900));
            assert!(verdict.is_allowed(), "from {who} to {ip}: {verdict:?}");
        }
    }
}

/// Addresses change hands, a MAC changes, guests and a network's IPv6 go: with
/// each the entries, and a second apply has nothing to do.
#[test]
fn entries_follow_addresses_and_macs_and_go_with_their_guests() {
    let lab = Lab::new(Options::default());
    let spec = |a1: &str, a2: &str| {
        let vm = |name: &str, more: &str| {
            format!("[vms.{name}]\nnetwork = \"a\"\nimage = \"probe\"\nautostart = false\n{more}\n")
        };
        format!("{}{}{}", network!("a" 1), vm("a1", a1), vm("a2", a2))
    };
    let first = spec("address = \"10.1.0.10\"", "address = \"10.1.0.11\"");
    let swapped = spec("address = \"10.1.0.11\"", "address = \"10.1.0.10\"");
    let other_mac = spec("address = \"10.1.0.11\"\nmac = \"02:00:00:00:00:77\"", "address = \"10.1.0.10\"");
    let mut before = BTreeMap::new();
    for text in [&first, &swapped, &other_mac] {
        lab.apply(text);
        let now = known(&lab, "br-a");
        assert_eq!(now, of_guests(text, &["a1", "a2"]), "{text}");
        assert_ne!(now, before, "{text}");
        assert_eq!(lab.commands(text), [] as [&str; 0]);
        before = now;
    }
    // What is another's now is never sent to who had it before: the old entry is
    // gone before the firewall lets packets for the address through.
    lab.apply(&first);
    let commands = lab.commands(&swapped);
    let at = |part: &str| {
        commands
            .iter()
            .position(|one| one.contains(part))
            .unwrap_or_else(|| panic!("no {part}: {commands:#?}"))
    };
    assert!(at("ip neigh del 10.1.0.10 dev br-a") < at("nft"), "{commands:#?}");
    assert!(at("nft") < at("ip neigh replace 10.1.0.10 lladdr"), "{commands:#?}");
    let alone = first.split("[vms.a2]").next().unwrap();
    lab.apply(alone);
    assert_eq!(known(&lab, "br-a"), of_guests(alone, &["a1"]));
    let of_ipv4 = alone.lines().filter(|line| !line.starts_with("cidr6")).collect::<Vec<_>>().join("\n");
    lab.apply(&of_ipv4);
    assert_eq!(
        known(&lab, "br-a").keys().collect::<Vec<_>>(),
        ["10.1.0.10".parse::<IpAddr>().unwrap()].iter().collect::<Vec<_>>()
    );
    lab.apply(network!("a" 1));
    assert_eq!(known(&lab, "br-a"), BTreeMap::new());
}

/// Even where nothing judges frames, because another program flushed the rules, a
/// guest doesn't get what is for another.
#[test]
fn no_guests_word_changes_where_the_host_sends() {
    let lab = Lab::of_ipv4();
    lab.apply(SPEC);
    let [a1, a2] = ["a1", "a2"].map(|name| lab.guest(SPEC, name));
    let before = known(&lab, "br-a");
    lab.run_line("nft flush ruleset");
    let (_, topology) = lab::compile(SPEC);
    let (own, bridge) = (topology.vm("a2").unwrap().port.mac.octets(), topology.networks[0].mac.octets());
    let (IpAddr::V4(victim), IpAddr::V4(mine)) = (a1.v4, a2.v4) else { panic!("no IPv4") };
    let gateway = topology.networks[0].gateway;
    let link = Link { source: own, destination: bridge };
    for claim in [
        Arp::reply(own, victim, bridge, gateway),
        Arp::reply(own, victim, own, victim),
        Arp::request(own, victim, gateway),
        Arp::request(own, mine, gateway),
    ] {
        a2.guest.inject(&arp(link, claim)).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(known(&lab, "br-a"), before);
    let verdict = probe(&lab.world.hypervisor, Probe::Tcp((a1.v4, 80).into()), Duration::from_millis(900));
    assert!(verdict.is_allowed(), "{verdict:?}");
    assert!(!a1.peers(80).is_empty() && a2.peers(80).is_empty());
}

/// The kernel keeps 1024 neighbours at most (`gc_thresh3`), of all namespaces;
/// those of guests aren't among them, and leave room for all others.
#[test]
fn guests_take_no_room_from_other_neighbours() {
    let lab = Lab::of_ipv4();
    lab.apply(SPEC);
    let own = lab.commands(&format!("{SPEC}{}", idle_vms!("b2" in "b")));
    let own = own.iter().find(|command| command.starts_with("ip neigh replace")).unwrap();
    let mut batch = String::new();
    for (high, low) in (0..8).flat_map(|high| (0..250).map(move |low| (high, low))) {
        let one = own.replacen("10.2.0.3", &format!("10.77.{high}.{low}"), 1);
        assert_ne!(&one, own);
        writeln!(batch, "{}", one.strip_prefix("ip ").unwrap()).unwrap();
    }
    let file = lab.root_dir().join("many");
    std::fs::write(&file, batch).unwrap();
    lab.run_line(&format!("ip -batch {}", file.display()));
    assert_eq!(known(&lab, "br-b").len(), 2001);
    lab.run_line("ip neigh flush dev uplink0");
    let router = Probe::Icmp(IpAddr::V4(address::ROUTER));
    assert!(probe(&lab.world.hypervisor, router, Duration::from_secs(2)).is_allowed());
    // And an apply takes away what is no guest's.
    lab.apply(SPEC);
    assert_eq!(known(&lab, "br-b"), of_guests(SPEC, &["b1"]));
}
