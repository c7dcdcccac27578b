//! Plans of links, without a kernel.

use std::collections::BTreeSet;

use super::*;
use crate::topology::test_topology::topology;

const SPEC: &str = r#"
    [networks.a]
    cidr = "10.1.0.0/24"
    cidr6 = "fd00:0:0:1::/64"
    [networks.b]
    cidr = "10.2.0.0/24"
    [vms.x]
    network = "a"
    image = "probe"
    mac = "02:00:00:00:00:01"
"#;

fn desired(spec: &str) -> Desired {
    let topology = topology(spec);
    Desired::new(&topology, &["eth0".to_string().try_into().unwrap()])
}

/// The kernel after every step of a plan was done.
fn observed(desired: &Desired) -> Observed {
    let mut observed = Observed::default();
    for (index, bridge) in (10..).zip(&desired.bridges) {
        let link = Link {
            index,
            kind: "bridge".into(),
            group: crate::ownership::LINK_GROUP,
            alias: Some(bridge.alias.clone()),
            mac: Some(bridge.mac.octets()),
            up: true,
            addresses: bridge.addresses.iter().copied().collect(),
            ..Link::default()
        };
        observed.links.insert(bridge.name.to_string(), link);
    }
    for (index, tap) in (20..).zip(&desired.ports) {
        let link = Link {
            index,
            kind: "tun".into(),
            group: crate::ownership::LINK_GROUP,
            mac: tap.mac.map(|mac| mac.octets()),
            tap: Some(Tap::default()),
            alias: Some(tap.alias.clone()),
            up: true,
            isolated: true,
            master: observed.links.get(tap.bridge.as_str()).map(|bridge| bridge.index),
            fdb: BTreeSet::from([tap.guest.octets()]),
            ..Link::default()
        };
        observed.links.insert(tap.name.to_string(), link);
    }
    for port in &desired.ports {
        let bridge = observed.links.get_mut(port.bridge.as_str()).unwrap();
        bridge.proxies.extend(port.guest6);
        bridge.neighbours.extend(port.addresses.iter().map(|address| (*address, port.guest.octets())));
    }
    for key in sysctl_keys(desired, &observed.links) {
        let sysctls = desired.bridges.iter().flat_map(Bridge::sysctls);
        let sysctls = sysctls.chain(desired.ports.iter().flat_map(Port::sysctls));
        let mut sysctls = sysctls.chain(desired.forwarding.iter().cloned());
        let value =
            sysctls.find(|sysctl| sysctl.key == key).map_or_else(|| "0".into(), |sysctl| sysctl.value);
        observed.sysctls.insert(key, value);
    }
    observed
}

fn commands(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}

#[test]
fn the_first_plan_makes_bridges_then_ports_then_forwards() {
    let plan = plan(&desired(SPEC), &Observed::default());
    assert_eq!(plan.remove, []);
    insta::assert_snapshot!(commands(&plan.build));
}

#[test]
fn nothing_carries_packets_before_all_that_confines_it_stands() {
    let steps = plan(&desired(SPEC), &Observed::default()).build;
    let at = |part: &dyn Fn(&str) -> bool| {
        let matching = steps.iter().map(Step::to_string).enumerate();
        matching.filter(|(_, text)| part(text)).map(|(at, _)| at).collect::<Vec<_>>()
    };
    for link in ["vm-x", "br-a", "br-b"] {
        let up = at(&|text| text == format!("ip link set {link} up"));
        let confines = at(&|text| {
            let after = text.contains("neigh ") || text.contains("address add fd") || text.ends_with(" up");
            let about = text.contains(link) && !after;
            about && (link != "vm-x" || !text.contains("master static"))
        });
        assert_eq!(up.len(), 1, "{link}");
        assert!(confines.len() > 4 && confines.iter().all(|at| *at < up[0]), "{link}: {confines:?} {up:?}");
    }
    // Each change of a link walks through the IPv6 routes that there are.
    let addresses = at(&|text| text.contains("address add fd"));
    let changes = at(&|text| text.contains("vm-x") || text.ends_with(" up"));
    assert!(changes.iter().all(|at| *at < addresses[0]));
}

#[test]
fn a_host_that_is_as_desired_needs_nothing() {
    let desired = desired(SPEC);
    assert_eq!(plan(&desired, &observed(&desired)), Plan::default());
}

#[test]
fn what_is_gone_from_the_spec_goes_ports_first() {
    let before = observed(&desired(SPEC));
    let after = desired("[networks.b]\ncidr = \"10.2.0.0/24\"");
    let plan = plan(&after, &before);
    assert_eq!(commands(&plan.remove), "ip link del vm-x\nip link del br-a\n");
    assert_eq!(plan.build, []);
}

#[test]
fn a_port_leaves_its_old_bridge_before_the_firewall_knows_the_new_one() {
    let before = observed(&desired(SPEC));
    let after = desired(&SPEC.replace("network = \"a\"", "network = \"b\""));
    let plan = plan(&after, &before);
    assert_eq!(
        commands(&plan.remove),
        "ip neigh del 10.1.0.2 dev br-a\nip neigh del fd00:0:0:1::2 dev br-a\n\
         ip neigh del fe80::ff:fe00:1 dev br-a\nip link set vm-x nomaster\n"
    );
    assert_eq!(
        commands(&plan.build),
        format!(
            "ip neigh del proxy fd00:0:0:1::2 dev br-a\nip link set vm-x address {}\nip link set vm-x master br-b\nbridge link set dev vm-x learning off flood off isolated on\n\
             bridge fdb replace 02:00:00:00:00:01 dev vm-x master static\n\
             ip neigh replace 10.2.0.2 lladdr 02:00:00:00:00:01 dev br-b nud permanent\n",
            after.bridges.iter().find(|bridge| bridge.name.as_str() == "br-b").unwrap().mac
        )
    );
}

#[test]
fn a_bridge_that_is_down_or_has_another_mac_loses_its_neighbours_and_gets_them_again() {
    let desired = desired(SPEC);
    let again = "ip neigh replace 10.1.0.2 lladdr 02:00:00:00:00:01 dev br-a nud permanent\n\
                 ip neigh replace fd00:0:0:1::2 lladdr 02:00:00:00:00:01 dev br-a nud permanent\n\
                 ip neigh replace fe80::ff:fe00:1 lladdr 02:00:00:00:00:01 dev br-a nud permanent\n";
    for change in [(|link| link.up = false) as fn(&mut Link), |link| link.mac = Some([2, 0, 0, 0, 0, 9])] {
        let mut before = observed(&desired);
        change(before.links.get_mut("br-a").unwrap());
        let steps = commands(&plan(&desired, &before).build);
        assert!(steps.ends_with(again), "{steps}");
    }
}

#[test]
fn a_tap_whose_mac_or_owner_changed_is_put_right_unless_it_is_in_use() {
    let desired = desired(SPEC);
    let commands = |change: &dyn Fn(&mut Link)| {
        let mut before = observed(&desired);
        change(before.links.get_mut("vm-x").unwrap());
        commands(&plan(&desired, &before).build)
    };
    let bridge = desired.bridges[0].mac;
    let mac = commands(&|link| link.mac = Some([2, 0, 0, 0, 0, 9]));
    assert_eq!(mac, format!("ip link set vm-x address {bridge}\n"));
    let reclaim = "ip link del vm-x && ip tuntap add vm-x mode tap user 0\n";
    for tap in [
        Tap { owner: Some(1234), ..Tap::default() },
        Tap { owner: None, ..Tap::default() },
        Tap { group: Some(1234), ..Tap::default() },
        Tap { vnet_header: true, ..Tap::default() },
        Tap { persistent: false, ..Tap::default() },
    ] {
        assert_eq!(commands(&|link| link.tap = Some(tap.clone())), reclaim, "{tap:?}");
        let attached = Tap { attached: true, ..tap };
        assert_eq!(commands(&|link| link.tap = Some(attached.clone())), "", "{attached:?}");
    }
    assert_eq!(commands(&|link| link.tap = Some(Tap { group: Some(0), ..Tap::default() })), "");
}

#[test]
fn foreign_links_are_conflicts_and_never_part_of_a_plan() {
    let desired = desired(SPEC);
    let mut before = observed(&desired);
    for link in before.links.values_mut() {
        link.group = 0;
    }
    let names: Vec<String> = conflicts(&desired, &before).iter().map(ToString::to_string).collect();
    assert!(names.iter().any(|text| text.contains("a link br-a (bridge)")), "{names:?}");
    assert!(names.iter().any(|text| text.contains("a link vm-x (tun)")), "{names:?}");
    assert_eq!(plan(&Desired::default(), &before), Plan::default());
}

#[test]
fn forwarding_is_taken_back_only_where_it_was_turned_on() {
    let eth0 = ["eth0".to_string().try_into().unwrap()];
    let mut observed = Observed::default();
    for (key, value) in [
        ("net/ipv4/conf/eth0/forwarding", "1"),
        (FORWARDING6_KEY, "1"),
        ("net/ipv6/conf/eth0/accept_ra", "0"),
    ] {
        observed.sysctls.insert(key.into(), value.into());
    }
    let mut steps = Vec::new();
    set_sysctls(unforwarding(&eth0, true, &eth0), true, &observed, &mut steps);
    // accept_ra was 0 all along: somebody wanted it so.
    assert_eq!(
        commands(&steps),
        "sysctl -w net/ipv4/conf/eth0/forwarding=0\nsysctl -w net/ipv6/conf/all/forwarding=0\n"
    );
    steps.clear();
    set_sysctls(unforwarding(&[], false, &eth0), true, &observed, &mut steps);
    assert_eq!(steps, []);
}
