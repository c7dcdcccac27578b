//! ARP: nobody answers for another, and nobody's cache is poisoned.

use std::net::Ipv4Addr;

use hostctl::testbed::frames::{Arp, BROADCAST, arp, ethernet, ethertype};
use hostctl::testbed::{DEFAULT_TIMEOUT, Probe, probe};

use crate::spoofing::scene::{Attacks, Scene};

fn run(bridge_nf: bool) {
    let scene = Scene::new(bridge_nf);
    for (attacker, neighbour) in [("a1", "a2"), ("n1", "n2")] {
        forged(&scene, attacker, neighbour);
    }
}

fn forged(scene: &Scene, attacker: &str, neighbour: &str) {
    let (a1, a2, b1) = (scene.who(attacker), scene.who(neighbour), scene.who("b1"));
    for to in [a1.v4, a1.gateway] {
        assert!(probe(a2.guest.netns(), Probe::Icmp(to.into()), DEFAULT_TIMEOUT).is_allowed());
    }
    assert!(probe(&scene.lab.world.hypervisor, Probe::Icmp(a2.v4.into()), DEFAULT_TIMEOUT).is_allowed());
    let mut attacks = Attacks::default();
    let nobody = Ipv4Addr::new(a1.v4.octets()[0], a1.v4.octets()[1], 0, 99);
    for (whose, address) in [
        ("the gateway's", a1.gateway),
        ("a neighbour's", a2.v4),
        ("no one's", nobody),
        ("another network's", b1.v4),
        ("loopback", Ipv4Addr::LOCALHOST),
        ("the metadata service's", Ipv4Addr::new(169, 254, 169, 254)),
        ("everyone's", Ipv4Addr::BROADCAST),
    ] {
        for destination in [a2.mac, a1.bridge_mac, BROADCAST] {
            let link = a1.to(destination);
            let mut add = |name: &str, packet: Arp| {
                attacks.add(&format!("{name} {whose} address"), |_| arp(link, packet))
            };
            add("request with", Arp::request(a1.mac, address, a2.v4));
            add("gratuitous request with", Arp::request(a1.mac, address, address));
            add("reply with", Arp::reply(a1.mac, address, a2.mac, a2.v4));
            add("gratuitous reply with", Arp::reply(a1.mac, address, BROADCAST, address));
            // An address probe (RFC 5227) denies the address to one who
            // probes for it at the same time.
            add("probe for", Arp::request(a1.mac, Ipv4Addr::UNSPECIFIED, address));
            add("reply from no address for", Arp::reply(a1.mac, Ipv4Addr::UNSPECIFIED, a2.mac, address));
        }
    }
    for (whose, mac) in
        [("a neighbour's", a2.mac), ("the bridge's", a1.bridge_mac), ("everyone's", BROADCAST)]
    {
        for destination in [a2.mac, a1.bridge_mac, BROADCAST] {
            let link = a1.to(destination);
            let mut add =
                |name: &str, packet: Arp| attacks.add(&format!("{name} {whose} MAC"), |_| arp(link, packet));
            add("request with", Arp::request(mac, a1.v4, a2.v4));
            add("reply with", Arp::reply(mac, a1.v4, a2.mac, a2.v4));
            add("probe with", Arp::request(mac, Ipv4Addr::UNSPECIFIED, a1.v4));
        }
    }
    // An honest request but for one field.
    let honest = arp(a1.to_all(), Arp::request(a1.mac, a1.v4, a2.v4));
    for (name, at, value) in [
        ("hardware type 6", 15, 6),
        ("hardware type 0x0101", 14, 1),
        ("protocol type 0x86dd", 16, 0x86),
        ("addresses of 8 bytes", 18, 8),
        ("addresses of no bytes", 18, 0),
        ("protocol addresses of 16 bytes", 19, 16),
        ("operation 0", 21, 0),
        ("operation 3, RARP's", 21, 3),
        ("operation 8, InARP's", 21, 8),
        ("operation 10, NAK", 21, 10),
    ] {
        let mut frame = honest.clone();
        frame[at] = value;
        attacks.add(name, |_| frame);
    }
    for length in [4, 8, 14, 17] {
        attacks.add(&format!("{length} bytes"), |_| {
            ethernet(a1.to_all(), ethertype::ARP, &honest[14..14 + length])
        });
    }
    scene.stopped_at_port(attacker, attacks);
    // Everybody still believes what is true.
    let (host, guest) = scene.neighbour_tables(neighbour);
    let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    for (table, address, owner) in
        [(&host, a2.v4, a2.mac), (&guest, a1.gateway, a1.bridge_mac), (&guest, a1.v4, a1.mac)]
    {
        let line = table.lines().find(|line| line.starts_with(&format!("{address} "))).unwrap();
        assert!(line.contains(&mac(owner)), "{line}");
    }
    let poisoned = |line: &&str| line.contains(&mac(a1.mac)) && !line.starts_with(&format!("{} ", a1.v4));
    for table in [&host, &guest] {
        let lines: Vec<&str> = table.lines().filter(poisoned).filter(|line| !line.starts_with("f")).collect();
        assert!(lines.is_empty(), "{lines:?}");
    }
}

#[test]
fn nobody_answers_for_another() {
    run(false);
}

#[test]
fn nobody_answers_for_another_with_bridge_netfilter() {
    run(true);
}

#[test]
fn a_guest_may_probe_and_announce_its_own_address() {
    let scene = Scene::new(false);
    let (a1, a2) = (scene.who("a1"), scene.who("a2"));
    for packet in [
        Arp::request(a1.mac, Ipv4Addr::UNSPECIFIED, a1.v4),
        Arp::request(a1.mac, a1.v4, a1.v4),
        Arp::request(a1.mac, a1.v4, a2.v4),
        Arp::reply(a1.mac, a1.v4, a2.mac, a2.v4),
    ] {
        let frame = arp(a1.to_all(), packet);
        a1.guest.guest.inject(&frame).unwrap();
        let seen = a2.guest.guest.received().wait_for(|seen| seen == frame, DEFAULT_TIMEOUT);
        assert!(seen.is_some(), "{packet:?}");
    }
}
