//! Ethernet itself: MACs, tags, other protocols, short frames.

use std::net::SocketAddr;
use std::time::Duration;

use hostctl::testbed::address;
use hostctl::testbed::frames::{
    Arp, Link, Udp, arp, bpdu, double_tagged, ethernet, ethertype, icmp_echo, lldp, tagged, udp,
    unknown_ethertype,
};

use crate::spoofing::scene::{Attacks, Scene};

fn run(bridge_nf: bool) {
    let scene = Scene::new(bridge_nf);
    for (attacker, neighbour) in [("a1", "a2"), ("n1", "n2")] {
        let (a1, a2, b1) = (scene.who(attacker), scene.who(neighbour), scene.who("b1"));
        let datagram = |mark: &[u8], link| {
            let (source, destination) = (SocketAddr::new(a1.v4.into(), 9), SocketAddr::new(a2.v4.into(), 9));
            udp(link, Udp { source, destination, payload: mark })
        };
        let mut attacks = Attacks::default();
        for (name, mac) in [
            ("a neighbour's MAC", a2.mac),
            ("the bridge's MAC", a1.bridge_mac),
            ("another network's guest's MAC", b1.mac),
            ("no one's MAC", [2, 0, 0, 0, 0, 0x99]),
            ("a zero MAC", [0; 6]),
            ("a group MAC", [3, 0, 0, 0, 0, 1]),
            ("the broadcast MAC", [0xff; 6]),
        ] {
            for destination in [a2.mac, a1.bridge_mac, [0xff; 6]] {
                attacks.add(name, |mark| datagram(mark, Link { source: mac, destination }));
            }
        }
        for destination in [a2.mac, a1.bridge_mac, [0xff; 6]] {
            let link = a1.to(destination);
            for vlan in [0, 1, 5, 4095] {
                attacks.add("a VLAN tag", |mark| tagged(&datagram(mark, link), vlan));
                attacks.add("two tags", |mark| double_tagged(&datagram(mark, link), 1, vlan));
                attacks.add("two inner tags", |mark| tagged(&tagged(&datagram(mark, link), vlan), 1));
            }
            attacks.add("an unknown EtherType", |mark| unknown_ethertype(link, mark));
            for other in [0x8035, 0x8863, 0x8864, 0x888e, 0x88e5, 0x8847, 0x9000, 0x88f7, 0x8906, 0x0600] {
                attacks.add(&format!("EtherType {other:#06x}"), |mark| ethernet(link, other, mark));
            }
            attacks.add("802.3 with LLC", |mark| ethernet(link, 16, mark));
            attacks.add("802.3 with SNAP and IPv4", |mark| {
                let body = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &datagram(mark, link)[14..]].concat();
                ethernet(link, u16::try_from(body.len()).unwrap(), &body)
            });
        }
        attacks.add("LLDP", |mark| lldp(a1.mac, std::str::from_utf8(mark).unwrap()));
        attacks.add("a root bridge", |_| bpdu(a1.mac, 0));
        // The block that a bridge keeps to itself (IEEE 802.1D, 7.12.6), also
        // with something in it that the host would take.
        for last in 0..=15 {
            let link = a1.to([0x01, 0x80, 0xc2, 0, 0, last]);
            attacks.add(&format!("group {last:x} of bridges"), |mark| ethernet(link, ethertype::LLDP, mark));
            let (source, destination) =
                (SocketAddr::new(a1.v4.into(), 9), SocketAddr::new(address::UPLINK.into(), 7));
            let name = format!("UDP to the host in group {last:x} of bridges");
            attacks.add(&name, |payload| udp(link, Udp { source, destination, payload }));
            let name = format!("ping of the gateway in group {last:x} of bridges");
            attacks.add(&name, |mark| icmp_echo(link, a1.v4.into(), a1.gateway.into(), mark));
        }
        scene.stopped_at_port(attacker, attacks);
    }
}

#[test]
fn no_frame_but_the_guests_own() {
    run(false);
}

#[test]
fn no_frame_but_the_guests_own_with_bridge_netfilter() {
    run(true);
}

/// Frames by that group go the way of all others, and no other way.
#[test]
fn lldps_group_goes_by_the_rules() {
    let scene = Scene::new(false);
    let a1 = scene.who("a1");
    let link = a1.to([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    let drops = |chain: &str| {
        let rules = scene.lab.output("nft", &["list", "chain", "bridge", "hostctl", chain]);
        let rule = rules.lines().find(|line| line.contains("a guest is no switch")).unwrap().to_owned();
        rule.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = drops("from_port");
    for kind in [ethertype::LLDP, ethertype::IPV4, ethertype::ARP, ethertype::EXPERIMENTAL, 0x8863] {
        a1.guest.guest.inject(&ethernet(link, kind, &[0x45; 64])).unwrap();
    }
    assert_eq!(drops("from_port"), before + 5);
    // A bridge that lost the setting gets it back, and is closed meanwhile.
    scene.lab.output("ip", &["link", "set", "br-a", "type", "bridge", "group_fwd_mask", "0"]);
    let mut attacks = Attacks::default();
    let (source, destination) =
        (SocketAddr::new(a1.v4.into(), 9), SocketAddr::new(address::UPLINK.into(), 7));
    attacks.add("UDP to the host", |payload| udp(link, Udp { source, destination, payload }));
    scene.stopped_at_port("a1", attacks);
    let repair = scene.lab.commands(&scene.spec);
    assert_eq!(repair[0], "ip link set br-a type bridge group_fwd_mask 0x4000", "{repair:?}");
}

/// The kernel hands LLDP's group to the host past the bridge and its hooks.
#[test]
fn no_arp_by_lldps_group() {
    let scene = Scene::new(false);
    let a1 = scene.who("a1");
    for last in 0..=15 {
        for asked in [address::UPLINK, address::TAILSCALE, a1.gateway, scene.who("b1").gateway] {
            let frame = arp(a1.to([0x01, 0x80, 0xc2, 0, 0, last]), Arp::request(a1.mac, a1.v4, asked));
            a1.guest.guest.inject(&frame).unwrap();
        }
    }
    let reply = |frame: &[u8]| frame[12..14] == [8, 6] && frame[20..22] == [0, 2];
    a1.guest.guest.received().none_within(reply, Duration::from_millis(200)).unwrap();
    let honest = arp(a1.to_all(), Arp::request(a1.mac, a1.v4, a1.gateway));
    a1.guest.guest.inject(&honest).unwrap();
    assert!(a1.guest.guest.received().wait_for(reply, Duration::from_secs(3)).is_some());
}

#[test]
fn frames_too_short_for_their_header() {
    let scene = Scene::new(false);
    let (a1, a2) = (scene.who("a1"), scene.who("a2"));
    let mut attacks = Attacks::default();
    for destination in [a2.mac, [0xff; 6]] {
        for kind in [ethertype::IPV4, ethertype::ARP, ethertype::IPV6, ethertype::VLAN, ethertype::LLDP] {
            // No address can be read before byte 16 of IPv4, 24 of IPv6.
            for length in [4, 8, 12, 15] {
                let body: Vec<u8> = (0..length).map(|byte| byte ^ 0xa5).collect();
                attacks.add(&format!("{length} bytes of {kind:#06x}"), |_| {
                    ethernet(a1.to(destination), kind, &body)
                });
            }
        }
    }
    scene.stopped_at_port("a1", attacks);
    for length in 0..14 {
        let refused = a1.guest.guest.inject(&vec![0xff; length]);
        assert!(refused.is_err(), "a frame of {length} bytes");
    }
}
