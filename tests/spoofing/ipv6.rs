//! IPv6 in another's name, and neighbour discovery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hostctl::testbed::address;
use hostctl::testbed::frames::{
    ExtensionHeader, NdOption, Udp, ethernet, ethertype, icmp_echo, ipv6_behind, neighbor_advertisement,
    neighbor_solicitation, protocol, redirect, router_advertisement, router_solicitation, solicited_node,
    tcp_syn, udp,
};

use crate::spoofing::craft::{fragment6, group_mac, icmp6, ipv6_frame};
use crate::spoofing::scene::{Attacks, Scene, Who};

const ALL: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// In front of what is hidden; the empty list hides nothing.
const HIDEOUTS: [&[ExtensionHeader]; 6] = [
    &[],
    &[ExtensionHeader::HopByHop],
    &[ExtensionHeader::Destination],
    &[ExtensionHeader::AtomicFragment],
    &[ExtensionHeader::HopByHop, ExtensionHeader::Destination, ExtensionHeader::AtomicFragment],
    &[ExtensionHeader::AtomicFragment, ExtensionHeader::Destination],
];

/// A message plain, behind extension headers and as the first fragment.
fn add_hidden(
    attacks: &mut Attacks,
    name: &str,
    link: hostctl::testbed::frames::Link,
    from: Ipv6Addr,
    to: Ipv6Addr,
    message: &[u8],
) {
    for headers in HIDEOUTS {
        attacks.add(&format!("{name} {from} to {to} {headers:?}"), |_| {
            ethernet(link, ethertype::IPV6, &ipv6_behind(headers, from, to, protocol::ICMPV6, 255, message))
        });
    }
    let split = 8.min(message.len());
    for length in [split, message.len() / 8 * 8] {
        attacks.add(&format!("{name} {from} to {to}, first fragment of {length}"), |_| {
            let piece = fragment6(protocol::ICMPV6, 0, true, &message[..length]);
            ipv6_frame(link, from, to, protocol::FRAGMENT, &piece)
        });
    }
    attacks.add(&format!("{name} {from} to {to}, behind options that the first fragment lacks"), |_| {
        let options = [&[protocol::ICMPV6, 2, 1, 20], [0xa5; 12].as_slice()].concat();
        let piece = fragment6(protocol::DESTINATION, 0, true, &options);
        ipv6_frame(link, from, to, protocol::FRAGMENT, &piece)
    });
}

fn destinations(a1: &Who, a2: &Who) -> [(hostctl::testbed::frames::Link, Ipv6Addr); 3] {
    [(a1.to(a2.mac), a2.link_local), (a1.to(group_mac(ALL)), ALL), (a1.to_bridge(), a1.gateway6)]
}

fn discovery(scene: &Scene, attacker: &str, neighbour: &str, has_ipv6: bool) {
    let (a1, a2, b1) = (scene.who(attacker), scene.who(neighbour), scene.who("b1"));
    let mac = [NdOption::TargetMac(a1.mac)];
    let mut own = vec![a1.link_local, a1.v6];
    let foreign = [
        a2.v6,
        a2.link_local,
        a1.gateway6,
        a1.bridge_local,
        b1.v6,
        address::FAR6,
        Ipv6Addr::UNSPECIFIED,
        ALL,
    ];
    let mut attacks = Attacks::default();
    for (link, to) in destinations(a1, a2) {
        for target in foreign {
            for from in &own {
                let message = neighbor_advertisement(*from, to, target, &mac);
                add_hidden(&mut attacks, "advertisement of another's", link, *from, to, &message);
            }
        }
        for from in [a2.link_local, a2.v6, a1.gateway6, a1.bridge_local, Ipv6Addr::UNSPECIFIED] {
            for target in [a1.v6, a2.v6] {
                let message = neighbor_advertisement(from, to, target, &mac);
                add_hidden(&mut attacks, "advertisement from", link, from, to, &message);
                let message = neighbor_solicitation(from, to, target, &[NdOption::SourceMac(a1.mac)]);
                if from != Ipv6Addr::UNSPECIFIED || target != a1.v6 || !has_ipv6 {
                    add_hidden(&mut attacks, "solicitation from", link, from, to, &message);
                }
            }
            let message =
                router_advertisement(from, to, 1800, &[NdOption::Prefix(a1.v6, 64), NdOption::Mtu(1280)]);
            add_hidden(&mut attacks, "router advertisement from", link, from, to, &message);
        }
        own.retain(|_| has_ipv6 || to != ALL);
        for from in [a1.link_local, a1.v6] {
            let message = router_advertisement(
                from,
                to,
                1800,
                &[NdOption::SourceMac(a1.mac), NdOption::DnsServer(from)],
            );
            add_hidden(&mut attacks, "router advertisement from itself", link, from, to, &message);
            let message = redirect(from, to, a1.link_local, address::FAR6, &mac);
            add_hidden(&mut attacks, "redirect from itself", link, from, to, &message);
            for (name, kind) in [
                ("listener query", 130),
                ("renumbering", 138),
                ("node information", 139),
                ("inverse solicitation", 141),
                ("inverse advertisement", 142),
                ("certificate path", 149),
                ("multicast router", 151),
            ] {
                let message = icmp6(from, to, kind, 0, &[0x42; 20]);
                add_hidden(&mut attacks, name, link, from, to, &message);
            }
            // Advertisements that end before or within their target.
            for length in [0, 4, 12, 19] {
                let message = icmp6(from, to, 136, 0, &[0x60; 24][..length]);
                attacks.add(&format!("advertisement with {length} bytes"), |_| {
                    ipv6_frame(link, from, to, protocol::ICMPV6, &message)
                });
            }
        }
    }
    for target in foreign {
        let to = solicited_node(target);
        let message = neighbor_solicitation(Ipv6Addr::UNSPECIFIED, to, target, &[]);
        add_hidden(
            &mut attacks,
            "duplicate detection for another's",
            a1.to(group_mac(to)),
            Ipv6Addr::UNSPECIFIED,
            to,
            &message,
        );
    }
    scene.stopped_at_port(attacker, attacks);
    let (host, guest) = scene.neighbour_tables(neighbour);
    let mac = a1.mac.map(|byte| format!("{byte:02x}")).join(":");
    for line in host.lines().chain(guest.lines()).filter(|line| line.contains(&mac)) {
        let owner: IpAddr = line.split(' ').next().unwrap().parse().unwrap();
        assert!([a1.v4.into(), a1.v6.into(), IpAddr::V6(a1.link_local)].contains(&owner), "{line}");
    }
}

#[test]
fn neighbour_discovery_in_no_other_name() {
    discovery(&Scene::new(false), "a1", "a2", true);
}

#[test]
fn neighbour_discovery_in_no_other_name_with_bridge_netfilter() {
    discovery(&Scene::new(true), "a1", "a2", true);
}

#[test]
fn no_neighbour_discovery_without_ipv6() {
    discovery(&Scene::new(false), "n1", "n2", false);
}

fn forged_sources(bridge_nf: bool) {
    let scene = Scene::new(bridge_nf);
    for (attacker, neighbour) in [("a1", "a2"), ("n1", "n2")] {
        let (a1, a2, b1, c1) = (scene.who(attacker), scene.who(neighbour), scene.who("b1"), scene.who("c1"));
        let mut sources = vec![
            a2.v6,
            a2.link_local,
            a1.gateway6,
            a1.bridge_local,
            b1.v6,
            c1.v6,
            address::FAR6,
            address::UPLINK6,
            address::LAPTOP6,
            Ipv6Addr::LOCALHOST,
            Ipv6Addr::UNSPECIFIED,
            ALL,
            a1.v4.to_ipv6_mapped(),
            Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
            "fe80::1".parse().unwrap(),
            "fd00:0:0:1::77".parse().unwrap(),
        ];
        if attacker == "n1" {
            sources.extend([a1.v6, a1.link_local]);
        }
        let mut attacks = Attacks::default();
        for source in sources {
            for (link, to) in [
                (a1.to(a2.mac), a2.v6),
                (a1.to(a2.mac), a2.link_local),
                (a1.to_bridge(), a1.gateway6),
                (a1.to_bridge(), a1.bridge_local),
                (a1.to_bridge(), b1.v6),
                (a1.to_bridge(), address::FAR6),
                (a1.to(group_mac(ALL)), ALL),
            ] {
                let (from, at) = (SocketAddr::new(source.into(), 9), SocketAddr::new(to.into(), 7));
                let name = format!("from {source} to {to}");
                attacks.add(&format!("UDP {name}"), |payload| {
                    udp(link, Udp { source: from, destination: at, payload })
                });
                attacks.add(&format!("TCP {name}"), |_| tcp_syn(link, from, at));
                attacks.add(&format!("ping {name}"), |mark| icmp_echo(link, source.into(), to.into(), mark));
                for headers in &HIDEOUTS[1..] {
                    attacks.add(&format!("UDP behind {headers:?} {name}"), |mark| {
                        let segment = Udp { source: from, destination: at, payload: mark }.segment();
                        ethernet(
                            link,
                            ethertype::IPV6,
                            &ipv6_behind(headers, source, to, protocol::UDP, 64, &segment),
                        )
                    });
                }
                let solicitation = router_solicitation(source, to, &[]);
                attacks.add(&format!("router solicitation {name}"), |_| {
                    ipv6_frame(link, source, to, protocol::ICMPV6, &solicitation)
                });
                attacks.add(&format!("listener report {name}"), |mark| {
                    ipv6_frame(link, source, to, protocol::ICMPV6, &icmp6(source, to, 143, 0, mark))
                });
                attacks.add(&format!("no next header {name}"), |mark| ipv6_frame(link, source, to, 59, mark));
                attacks.add(&format!("a later fragment {name}"), |mark| {
                    ipv6_frame(
                        link,
                        source,
                        to,
                        protocol::FRAGMENT,
                        &fragment6(protocol::UDP, 64, false, mark),
                    )
                });
            }
        }
        scene.stopped_at_port(attacker, attacks);
    }
}

#[test]
fn no_other_source_address() {
    forged_sources(false);
}

#[test]
fn no_other_source_address_with_bridge_netfilter() {
    forged_sources(true);
}
