//! Subnets as named namespaces, VMs beside them, peerings between networks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::support::lab::{Lab, named_namespace};
use crate::support::spec_parts::{idle_vms, namespace, peering, wide_network};
use hostctl::testbed::{Options, Probe, address, probe, probe_all, usual_services};

const SECOND: Duration = Duration::from_secs(1);

const SPEC: &str = concat!(
    wide_network!("prod" 20 "fd00:0:0:20::/60"),
    namespace!("public" "prod" / "web" "10.20.1.0/24" "fd00:0:0:21::/64"),
    namespace!("private" "prod" / "db" "10.20.2.0/24" "fd00:0:0:22::/64"),
    wide_network!("other" 30),
    namespace!("public" "other" / "app" "10.30.1.0/24"),
    wide_network!("third" 40),
    namespace!("public" "third" / "app" "10.40.1.0/24"),
    peering!("prod" and "other"),
    peering!("other" and "third"),
    idle_vms!("box" in "prod"),
    "subnet = 'web'\n",
);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn namespaces_are_ordinary_ones_with_an_address_and_a_way_out() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    assert_eq!(lab.apply(SPEC).steps, []);
    let inside = |arguments: &[&str]| {
        let mut all = vec!["netns", "exec", "prod-web", "ip"];
        all.extend(arguments);
        lab.output("ip", &all)
    };
    let links = inside(&["-br", "address"]);
    let words: Vec<&str> = links.split_whitespace().collect();
    assert!(words.contains(&"10.20.1.2/24") && words.contains(&"fd00:0:0:21::2/64"), "{links}");
    assert!(links.starts_with("lo               UNKNOWN        127.0.0.1/8"), "{links}");
    let routes = inside(&["route"]);
    assert!(routes.contains("default via 10.20.0.1 dev eth0 "), "{routes}");
    assert!(routes.contains("10.30.0.0/16 via 10.20.0.1 dev eth0 "), "{routes}");
    let names = lab.output("ip", &["netns", "list"]);
    assert!(
        ["prod-web", "prod-db", "other-app", "third-app"].iter().all(|name| names.contains(name)),
        "{names}"
    );

    lab.down();
    assert_eq!(lab.output("ip", &["netns", "list"]), "");
    assert!(!lab.output("ip", &["-br", "link"]).contains("ns-"));
}

#[test]
fn who_reaches_whom_among_namespaces_and_vms() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let _services: Vec<_> = ["prod-web", "prod-db", "other-app", "third-app"]
        .iter()
        .flat_map(|name| usual_services(&named_namespace(name), name).unwrap())
        .collect();
    let vm = lab.guest(SPEC, "box");
    assert_eq!(vm.v4, ip("10.20.1.3"));
    let far = address::FAR.into();
    let rows = [
        // The same network, across subnets and kinds of guests.
        ("prod-web", ip("10.20.2.2"), true),
        ("prod-db", ip("10.20.1.2"), true),
        ("prod-web", ip("10.20.1.3"), true),
        ("prod-web", ip("fd00:0:0:22::2"), true),
        ("prod-db", ip("fd00:0:0:21::3"), true),
        ("box", ip("10.20.1.2"), true),
        ("box", ip("10.20.2.2"), true),
        ("box", ip("fd00:0:0:22::2"), true),
        // Out: public subnets only.
        ("prod-web", far, true),
        ("prod-web", address::FAR6.into(), true),
        ("prod-db", far, false),
        ("prod-db", address::FAR6.into(), false),
        ("box", far, true),
        // Peers, and not their peers.
        ("prod-web", ip("10.30.1.2"), true),
        ("prod-db", ip("10.30.1.2"), true),
        ("box", ip("10.30.1.2"), true),
        ("other-app", ip("10.20.1.3"), true),
        ("other-app", ip("10.40.1.2"), true),
        ("prod-web", ip("10.40.1.2"), false),
        ("third-app", ip("10.20.1.2"), false),
        ("third-app", ip("10.20.1.3"), false),
        // The host.
        ("prod-db", ip("10.20.0.1"), true),
        ("prod-db", ip("10.30.0.1"), false),
        ("prod-db", address::UPLINK.into(), false),
    ];
    let netns = |name: &str| if name == "box" { vm.netns().clone() } else { named_namespace(name) };
    let mut probes = Vec::new();
    for (from, to, _) in rows {
        probes.push((netns(from), Probe::Icmp(to)));
        probes.push((netns(from), Probe::Tcp(SocketAddr::new(to, 80))));
    }
    let host = [ip("10.20.0.1")];
    for ((from, to, allowed), verdicts) in rows.iter().zip(probe_all(&probes).chunks(2)) {
        assert_eq!(verdicts[0].is_allowed(), *allowed, "{from} → {to} ping: {:?}", verdicts[0]);
        let tcp = *allowed && !host.contains(to);
        assert_eq!(verdicts[1].is_allowed(), tcp, "{from} → {to} tcp: {:?}", verdicts[1]);
    }
    // From the host to each.
    for to in ["10.20.1.2", "10.20.2.2", "10.30.1.2"] {
        let verdict = probe(&lab.world.hypervisor, Probe::Tcp(SocketAddr::new(ip(to), 80)), SECOND);
        assert!(verdict.is_allowed(), "{to}: {verdict:?}");
    }
}

#[test]
fn guests_of_one_network_meet_on_the_host_and_nowhere_else() {
    let lab = Lab::with_bridge_netfilter(false);
    lab.apply(SPEC);
    let _services = usual_services(&named_namespace("prod-db"), "db").unwrap();
    // A rule in the routed path stops what a bridge would carry past it.
    lab.output("nft", &["add table inet seen { chain f { type filter hook forward priority -1; ip daddr 10.20.2.2 drop; }; }"]);
    let web = named_namespace("prod-web");
    assert!(!probe(&web, Probe::Tcp("10.20.2.2:80".parse().unwrap()), SECOND).is_allowed());
    lab.output("nft", &["delete table inet seen"]);
    assert!(probe(&web, Probe::Tcp("10.20.2.2:80".parse().unwrap()), SECOND).is_allowed());
}

#[test]
fn nat_is_switched_per_network() {
    let lab = Lab::new(Options::default());
    let far = Probe::Icmp(address::FAR.into());
    for (nat, open) in [
        ("nat = false", false),
        ("nat = \"uplink0\"", true),
        ("nat = true", true),
        ("nat = \"tailscale0\"", false),
    ] {
        let spec =
            SPEC.replacen("[networks.prod.subnets.web]", &format!("{nat}\n[networks.prod.subnets.web]"), 1);
        lab.apply(&spec);
        let verdict = probe(&named_namespace("prod-web"), far, SECOND);
        assert_eq!(verdict.is_allowed(), open, "{nat}: {verdict:?}");
        let verdict = probe(&named_namespace("prod-db"), far, SECOND);
        assert!(!verdict.is_allowed(), "{nat}: {verdict:?}");
    }
}

#[test]
fn a_namespace_is_repaired_and_a_foreign_one_is_in_the_way() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    for meddle in [
        &["-n", "prod-web", "link", "set", "eth0", "down"][..],
        &["-n", "prod-web", "address", "flush", "dev", "eth0"],
        &["-n", "prod-web", "route", "del", "default"],
        &["-n", "prod-db", "link", "set", "lo", "down"],
        &["-n", "prod-db", "link", "del", "eth0"],
        &["netns", "del", "other-app"],
    ] {
        lab.output("ip", meddle);
        assert_ne!(lab.status().drift, Vec::<String>::new(), "{meddle:?}");
        lab.apply(SPEC);
        assert_eq!(lab.status().drift, Vec::<String>::new(), "{meddle:?}");
        let web = named_namespace("prod-web");
        assert!(probe(&web, Probe::Icmp(address::FAR.into()), SECOND).is_allowed(), "{meddle:?}");
    }
    lab.down();
    lab.output("ip", &["netns", "add", "prod-db"]);
    let error = lab.plan(SPEC).unwrap_err().to_string();
    assert!(
        error.contains("there is already a network namespace prod-db that hostctl didn't make"),
        "{error}"
    );
}
