//! What an allocation is today it must be for ever: a host's guests keep
//! their addresses, MACs, interfaces and users from one version to the next.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::test_topology::topology;
use super::{IfName, MacAddr, compile};
use crate::spec::HostSpec;

fn spec(text: &str) -> HostSpec {
    toml::from_str(text).unwrap()
}

fn issues(text: &str) -> Vec<String> {
    let issues = compile(&spec(text)).unwrap_err();
    issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message)).collect()
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

const FIVE_NETWORKS: &str = include_str!("../../examples/five-networks.toml");

#[test]
fn the_seeds_host_has_the_seeds_addresses() {
    let topology = topology(FIVE_NETWORKS);
    assert_eq!((topology.networks.len(), topology.vms.len()), (5, 5));
    for (n, (network, vm)) in topology.networks.iter().zip(&topology.vms).enumerate() {
        let n = n + 1;
        assert_eq!(network.bridge.as_str(), format!("br-vm{n}"));
        assert_eq!(network.gateway, v4(&format!("10.{n}.0.1")));
        assert_eq!(network.gateway6, Some(v6(&format!("fd00:0:0:{n}::1"))));
        assert_eq!(vm.port.interface.as_str(), format!("vm-vm{n}"));
        assert_eq!(vm.port.bridge, network.bridge);
        assert_eq!(vm.port.address, v4(&format!("10.{n}.0.2")));
        assert_eq!((vm.port.prefix, vm.port.gateway), (24, network.gateway));
        let port6 = vm.port.v6.as_ref().unwrap();
        assert_eq!(port6.address, v6(&format!("fd00:0:0:{n}::2")));
        assert_eq!((port6.prefix, Some(port6.gateway)), (64, network.gateway6));
    }
    let dns: Vec<_> = topology.dns.iter().map(ToString::to_string).collect();
    assert_eq!(dns, ["1.1.1.1", "8.8.8.8"]);
}

#[test]
fn macs_link_locals_and_users_follow_from_names() {
    let topology = topology(FIVE_NETWORKS);
    let seen: Vec<_> = topology
        .vms
        .iter()
        .map(|vm| (vm.port.mac.to_string(), vm.port.v6.as_ref().unwrap().link_local.to_string(), vm.uid))
        .collect();
    let seen: Vec<_> = seen.iter().map(|(mac, link, uid)| (mac.as_str(), link.as_str(), *uid)).collect();
    assert_eq!(
        seen,
        [
            ("02:85:03:37:ef:16", "fe80::85:3ff:fe37:ef16", 2_126_878_855),
            ("02:85:03:37:ed:63", "fe80::85:3ff:fe37:ed63", 2_126_879_290),
            ("02:85:03:37:eb:b0", "fe80::85:3ff:fe37:ebb0", 2_126_879_725),
            ("02:85:03:37:f7:95", "fe80::85:3ff:fe37:f795", 2_126_876_680),
            ("02:85:03:37:f5:e2", "fe80::85:3ff:fe37:f5e2", 2_126_877_115),
        ]
    );
    let macs: Vec<_> = topology.networks.iter().map(|network| network.mac.to_string()).collect();
    let expected = ["cb:fb:b7:2d:0f", "cb:fb:b7:2e:c2", "cb:fb:b7:30:75", "cb:fb:b7:24:90", "cb:fb:b7:26:43"];
    assert_eq!(macs, expected.map(|tail| format!("02:{tail}")));
}

#[test]
fn explicit_addresses_are_skipped_wherever_they_are_named() {
    let topology = topology(
        r#"
[networks.n]
cidr = "10.0.0.0/24"
cidr6 = "fd00::/64"
[vms.a]
network = "n"
image = "i"
[vms.b]
network = "n"
image = "i"
[vms.z]
network = "n"
image = "i"
address = "10.0.0.2"
address6 = "fd00::3"
mac = "02:00:00:00:00:01"
"#,
    );
    let addresses: Vec<_> =
        topology.ports().map(|port| (port.address, port.v6.as_ref().unwrap().address)).collect();
    assert_eq!(
        addresses,
        [(v4("10.0.0.3"), v6("fd00::2")), (v4("10.0.0.4"), v6("fd00::4")), (v4("10.0.0.2"), v6("fd00::3")),]
    );
    assert_eq!(topology.vm("z").unwrap().port.mac.to_string(), "02:00:00:00:00:01");
}

#[test]
fn a_subnets_guests_lie_in_it_and_use_the_networks_gateway() {
    let topology = topology(include_str!("../../examples/peered.toml"));
    let port = |name: &str| topology.vm(name).unwrap().port.clone();
    assert_eq!((port("web").address, port("web").subnet.as_str()), (v4("10.20.1.2"), "public"));
    assert_eq!((port("db").address, port("db").subnet.as_str()), (v4("10.20.2.10"), "private"));
    assert_eq!(port("vault").address, v4("10.30.2.2"));
    for (name, gateway) in [("web", "10.20.0.1"), ("db", "10.20.0.1"), ("vault", "10.30.0.1")] {
        assert_eq!((port(name).gateway, port(name).prefix), (v4(gateway), 16));
    }
    let pairs: Vec<_> = topology.peerings.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(pairs, [("backup", "prod")]);
    let [prod, backup, other] = ["prod", "backup", "other"].map(|name| name.to_string().try_into().unwrap());
    assert!(topology.connected(&prod, &backup) && topology.connected(&backup, &prod));
    assert!(!topology.connected(&prod, &other));
}

#[test]
fn long_names_give_short_interfaces_with_an_altname() {
    let topology = topology(
        r#"
[networks.a-rather-long-network]
cidr = "10.0.0.0/24"
[networks.twelve-bytes]
cidr = "10.1.0.0/24"
[vms.a-rather-long-guest]
network = "a-rather-long-network"
image = "i"
"#,
    );
    let [long, fits] = topology.networks.as_slice() else { panic!("two networks") };
    assert_eq!(long.bridge.as_str(), "br-a-rat-2bd5b9");
    assert_eq!(long.altname.as_deref(), Some("br-a-rather-long-network"));
    assert_eq!((fits.bridge.as_str(), &fits.altname), ("br-twelve-bytes", &None));
    let port = &topology.vms[0].port;
    assert_eq!(port.interface.as_str(), "vm-a-rat-97972f");
    assert_eq!(port.altname.as_deref(), Some("vm-a-rather-long-guest"));
    assert_eq!(port.bridge, long.bridge);
}

#[test]
fn the_smallest_network_has_one_guest() {
    let guest = |name: &str| format!("[vms.{name}]\nnetwork = \"n\"\nimage = \"i\"\n");
    let network = "[networks.n]\ncidr = \"10.0.0.0/30\"\ncidr6 = \"fd00::/126\"\n";
    let one = topology(&format!("{network}{}", guest("a")));
    assert_eq!(one.vms[0].port.address, v4("10.0.0.2"));
    assert_eq!(
        issues(&format!("{network}{}{}", guest("a"), guest("b"))),
        ["vms.b: 10.0.0.0/30 has no free address"]
    );
}

/// A spec that isn't worth an hour of the machine's time or all its memory.
#[test]
fn large_specs_are_refused_or_compiled() {
    let subnets: String = (0..5000)
        .map(|n| format!("[networks.n.subnets.s{n}]\ncidr = \"10.0.0.0/16\"\ntype = \"public\"\n"))
        .collect();
    let found = issues(&format!("[networks.n]\ncidr = \"10.0.0.0/8\"\n{subnets}"));
    assert_eq!(found, ["networks.n.subnets: more than 1024 subnets"]);

    let guests: String =
        (0..5000).map(|n| format!("[vms.g{n}]\nnetwork = \"x{n}\"\nimage = \"i\"\n")).collect();
    let networks: String =
        (0..5000).map(|n| format!("[networks.n{n}]\ncidr = \"10.{}.{}.0/24\"\n", n / 256, n % 256)).collect();
    let resolvers = format!("[host]\ndns = [{}]\n", "\"1.1.1.1\",".repeat(5000));
    assert_eq!(issues(&format!("{resolvers}{networks}{guests}")).len(), 5001);
}

fn guests() -> impl Strategy<Value = Vec<(String, Option<u8>)>> {
    let names = proptest::collection::btree_set("[a-z][a-z0-9]{0,20}", 1..12);
    let addresses = proptest::collection::btree_set(2u8..=254, 0..6);
    (names, addresses).prop_map(|(names, addresses)| {
        let mut addresses = addresses.into_iter();
        names
            .into_iter()
            .enumerate()
            .map(|(n, name)| (name, (n % 2 == 0).then(|| addresses.next()).flatten()))
            .collect()
    })
}

proptest! {
    /// Whatever the order in the file, the topology is the same; and no two
    /// guests share an address, a MAC, an interface or a user.
    #[test]
    fn the_order_of_a_file_means_nothing(guests in guests(), seed: u64) {
        let network = "[networks.n]\ncidr = \"10.0.0.0/24\"\ncidr6 = \"fd00::/64\"\n".to_string();
        let mut parts: Vec<String> = guests
            .iter()
            .map(|(name, last)| {
                let address = last.map(|last| format!("address = \"10.0.0.{last}\"\n")).unwrap_or_default();
                format!("[vms.{name}]\nnetwork = \"n\"\nimage = \"i\"\n{address}")
            })
            .chain([network])
            .collect();
        let first = topology(&parts.concat());
        let length = parts.len();
        parts.rotate_left((seed % length as u64) as usize);
        prop_assert_eq!(&topology(&parts.concat()), &first);
        parts.reverse();
        prop_assert_eq!(&topology(&parts.concat()), &first);

        let distinct = |count: usize| count == guests.len();
        let ports: Vec<_> = first.ports().collect();
        let set = |text: &dyn Fn(&super::Port) -> String| {
            ports.iter().map(|port| text(port)).collect::<std::collections::BTreeSet<_>>().len()
        };
        prop_assert!(distinct(set(&|port| port.address.to_string())));
        prop_assert!(distinct(set(&|port| port.v6.as_ref().unwrap().address.to_string())));
        prop_assert!(distinct(set(&|port| port.mac.to_string())));
        prop_assert!(distinct(set(&|port| port.interface.to_string())));
        prop_assert!(distinct(first.vms.iter().map(|vm| vm.uid).collect::<std::collections::BTreeSet<_>>().len()));
        for port in ports {
            prop_assert!(port.address != port.gateway && port.mac != first.networks[0].mac);
            prop_assert!(IfName::new(port.interface.as_str()).is_ok());
            prop_assert!(MacAddr::new(port.mac.octets()).is_ok());
        }
    }
}

#[test]
fn volumes_are_files_by_their_whole_names_and_not_too_many() {
    let vm = |volumes: &str| {
        format!(
            "[networks.a]\ncidr = \"10.1.0.0/24\"\n[vms.a]\nnetwork = \"a\"\nimage = \"probe\"\nvolumes = [{volumes}]"
        )
    };
    let volume = |path: &str| format!("{{ path = \"{path}\", format = \"raw\" }},");
    let found = topology(&vm(&volume("/srv/a.img").repeat(8)));
    assert_eq!(found.vms[0].volumes.len(), 8);
    assert_eq!(issues(&vm(&volume("/srv/a.img").repeat(9))), ["vms.a.volumes: 9 volumes"]);
    let wrong = volume("/srv/a.img") + &volume("a.img");
    assert_eq!(issues(&vm(&wrong)), ["vms.a.volumes[1].path: the path isn't absolute"]);
}
