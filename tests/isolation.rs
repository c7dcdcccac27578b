//! Who reaches whom, with real packets: the whole matrix, for both families,
//! both firewall modes and both settings of bridge-nf-call-iptables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::support::lab::{Guest, Lab};
use crate::support::probe_table::ProbeTable;
use crate::support::spec_parts::{idle_vms, network, network4, peering, tailnet};
use hostctl::testbed::{Options, Probe, address, probe_all, usual_services};
use ipnet::IpNet;

/// Networks a (two guests; peered with c; the tailnet may reach it; metadata)
/// and b (alone) and c.
const SPEC: &str = concat!(
    tailnet!(),
    network!("a" 1),
    "imds = 'host'\ntailscale = true\n",
    network!("b" 2),
    network!("c" 3),
    r#"[networks.c.subnets.inside]
cidr = "10.3.0.0/25"
cidr6 = "fd00:0:0:3::/65"
type = "private"
"#,
    peering!("a" and "c"),
    idle_vms!("a1" in "a", "a2" in "a", "b1" in "b", "c1" in "c"),
);

fn reaches(from: &str, to: &str) -> bool {
    let network = |guest: &str| guest.chars().next().unwrap();
    matches!((network(from), network(to)), ('a', 'a' | 'c') | ('c', 'a' | 'c') | ('b', 'b'))
}

fn whole_matrix(firewall: &str, bridge_nf: bool) {
    let lab = Lab::with_bridge_netfilter(bridge_nf);
    let spec = format!("[host]\nfirewall = \"{firewall}\"\n{SPEC}");
    lab.apply(&spec);
    let _host_services = usual_services(&lab.world.hypervisor, "host").unwrap();
    let names = ["a1", "a2", "b1", "c1"];
    let guests: Vec<(&str, Guest)> = names.iter().map(|name| (*name, lab.guest(&spec, name))).collect();
    // The internet knows the way to the guests, as an attacker on the same segment would.
    let route = |to: &str, via: IpAddr| {
        let to: IpNet = to.parse().unwrap();
        lab.world
            .internet
            .links(async |links| {
                links.add_route(hostctl::testbed::Route { to, via: Some(via), dev: "eth0" }).await
            })
            .unwrap();
    };
    route("10.0.0.0/8", address::UPLINK.into());
    route("fd00::/16", address::UPLINK6.into());

    let mut table = ProbeTable::default();
    let gateways: [(char, IpAddr, IpAddr); 3] = [
        ('a', "10.1.0.1".parse().unwrap(), "fd00:0:0:1::1".parse().unwrap()),
        ('b', "10.2.0.1".parse().unwrap(), "fd00:0:0:2::1".parse().unwrap()),
        ('c', "10.3.0.1".parse().unwrap(), "fd00:0:0:3::1".parse().unwrap()),
    ];
    for (name, guest) in &guests {
        let from = (*name, guest.netns());
        let network = name.chars().next().unwrap();
        for (other, target) in guests.iter().filter(|(other, _)| other != name) {
            for address in [target.v4, target.v6.unwrap()] {
                table.all(from, other, address, reaches(name, other));
            }
        }
        for address in [IpAddr::V4(address::FAR), IpAddr::V6(address::FAR6)] {
            table.all(from, "internet", address, network != 'c');
        }
        for address in [IpAddr::V4(address::METADATA), IpAddr::V6(address::METADATA6)] {
            table.add(from, "imds", Probe::Tcp(SocketAddr::new(address, 80)), network == 'a');
            table.add(from, "imds", Probe::Udp(SocketAddr::new(address, 7)), false);
            table.add(from, "imds", Probe::Icmp(address), false);
        }
        let twins = address::METADATA_TWINS.map(IpAddr::V4).into_iter();
        for twin in twins.chain(address::METADATA_TWINS6.map(IpAddr::V6)) {
            table.add(from, "imds twin", Probe::Icmp(twin), false);
        }
        // The host: only a ping of its own gateway.
        for (owner, v4, v6) in gateways {
            for address in [v4, v6] {
                table.add(from, "gateway", Probe::Tcp(SocketAddr::new(address, 80)), false);
                table.add(from, "gateway", Probe::Tcp(SocketAddr::new(address, 22)), false);
                table.add(from, "gateway", Probe::Udp(SocketAddr::new(address, 7)), false);
                table.add(from, "gateway", Probe::Icmp(address), owner == network);
            }
        }
        let own: [IpAddr; 4] = [
            address::UPLINK.into(),
            address::UPLINK6.into(),
            address::TAILSCALE.into(),
            address::TAILSCALE6.into(),
        ];
        for address in own {
            table.all(from, "host", address, false);
        }
        for address in [IpAddr::V4(address::LAPTOP), IpAddr::V6(address::LAPTOP6)] {
            table.all(from, "laptop", address, false);
        }
        for address in [guest.v4, guest.v6.unwrap()] {
            table.all(("laptop", &lab.world.laptop), name, address, network == 'a');
            table.all(("internet", &lab.world.internet), name, address, false);
            table.all(("host", &lab.world.hypervisor), name, address, true);
        }
    }
    // The host's own services.
    let full = firewall == "full";
    for (from, netns, v4, v6) in [
        ("internet", &lab.world.internet, address::UPLINK, address::UPLINK6),
        ("laptop", &lab.world.laptop, address::TAILSCALE, address::TAILSCALE6),
    ] {
        for address in [IpAddr::V4(v4), IpAddr::V6(v6)] {
            let open = !full || from == "laptop";
            table.add((from, netns), "host", Probe::Tcp(SocketAddr::new(address, 22)), true);
            table.add((from, netns), "host", Probe::Tcp(SocketAddr::new(address, 80)), open);
            table.add((from, netns), "host", Probe::Udp(SocketAddr::new(address, 7)), open);
        }
    }
    for address in [IpAddr::V4(address::FAR), IpAddr::V6(address::FAR6)] {
        table.all(("host", &lab.world.hypervisor), "internet", address, true);
    }

    table.check("");
    // What came from guests was masqueraded: nobody saw a private address.
    for port in [80, 22, 7] {
        for peer in lab.world.seen("internet", port) {
            let ip = peer.ip();
            let known: [IpAddr; 2] = [address::UPLINK.into(), address::UPLINK6.into()];
            assert!(known.contains(&ip), "the internet saw {ip}");
        }
    }
}

#[test]
fn guests_mode_without_bridge_netfilter() {
    whole_matrix("guests", false);
}

#[test]
fn guests_mode_with_bridge_netfilter() {
    whole_matrix("guests", true);
}

#[test]
fn full_mode_without_bridge_netfilter() {
    whole_matrix("full", false);
}

#[test]
fn full_mode_with_bridge_netfilter() {
    whole_matrix("full", true);
}

#[test]
fn without_ipv6_in_the_spec_no_ipv6_passes() {
    let lab = Lab::new(Options::default());
    let spec = concat!(network4!("a" 1), idle_vms!("a1" in "a", "a2" in "a"),);
    lab.apply(spec);
    let (one, two) = (lab.guest(spec, "a1"), lab.guest(spec, "a2"));
    // The guests choose IPv6 addresses of their own.
    for (guest, address) in [(&one, "fd00:9::1/64"), (&two, "fd00:9::2/64")] {
        guest.netns().sysctl_set("net/ipv6/conf/all/disable_ipv6", "0").unwrap();
        guest.netns().sysctl_set("net/ipv6/conf/eth0/disable_ipv6", "0").unwrap();
        let address: IpNet = address.parse().unwrap();
        guest.netns().links(async |links| links.add_address("eth0", address).await).unwrap();
    }
    let two_v6 = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2);
    let v4: IpAddr = Ipv4Addr::new(10, 1, 0, 3).into();
    let verdicts = probe_all(&[
        (one.netns().clone(), Probe::Icmp(two_v6.into())),
        (one.netns().clone(), Probe::Tcp(SocketAddr::new(two_v6.into(), 80))),
        (one.netns().clone(), Probe::Icmp(v4)),
    ]);
    assert!(!verdicts[0].is_allowed() && !verdicts[1].is_allowed(), "{verdicts:?}");
    assert!(verdicts[2].is_allowed(), "{verdicts:?}");
    two.guest
        .received()
        .none_within(|frame| frame.get(12..14) == Some(&[0x86, 0xdd]), Duration::ZERO)
        .unwrap();
}
