//! IPv4 in another's name, and what only routers say.

use std::net::{Ipv4Addr, SocketAddr};

use hostctl::testbed::address;
use hostctl::testbed::frames::{Udp, ethernet, ethertype, icmp_echo, ipv4_fragments, protocol, tcp_syn, udp};

use crate::spoofing::craft::{Header, PLAIN, icmp, ipv4_frame};
use crate::spoofing::scene::{Attacks, Scene};

fn forged_sources(bridge_nf: bool) {
    let scene = Scene::new(bridge_nf);
    for (attacker, neighbour) in [("a1", "a2"), ("n1", "n2")] {
        let (a1, a2, b1, c1) = (scene.who(attacker), scene.who(neighbour), scene.who("b1"), scene.who("c1"));
        let mut attacks = Attacks::default();
        for (whose, source) in [
            ("a neighbour's", a2.v4),
            ("the gateway's", a1.gateway),
            ("another network's guest's", b1.v4),
            ("a peer's", c1.v4),
            ("an unused one", Ipv4Addr::new(10, 1, 0, 77)),
            ("an internet address", address::FAR),
            ("the host's", address::UPLINK),
            ("the tailnet's", address::LAPTOP),
            ("loopback", Ipv4Addr::LOCALHOST),
            ("none", Ipv4Addr::UNSPECIFIED),
            ("broadcast", Ipv4Addr::BROADCAST),
            ("a group", Ipv4Addr::new(224, 0, 0, 1)),
            ("link-local", address::METADATA),
        ] {
            for (link, to) in [
                (a1.to(a2.mac), a2.v4),
                (a1.to_bridge(), a1.gateway),
                (a1.to_bridge(), b1.v4),
                (a1.to_bridge(), address::FAR),
                (a1.to_bridge(), address::LAPTOP),
                (a1.to_all(), Ipv4Addr::BROADCAST),
                (a1.to_all(), Ipv4Addr::new(224, 0, 0, 1)),
            ] {
                let (from, at) = (SocketAddr::new(source.into(), 9), SocketAddr::new(to.into(), 7));
                let name = format!("{whose} ({source}) to {to}");
                attacks.add(&format!("UDP from {name}"), |payload| {
                    udp(link, Udp { source: from, destination: at, payload })
                });
                attacks.add(&format!("TCP from {name}"), |_| tcp_syn(link, from, at));
                attacks.add(&format!("ping from {name}"), |mark| {
                    icmp_echo(link, source.into(), to.into(), mark)
                });
                // Neither options nor fragments move the address out of sight.
                attacks.add(&format!("options from {name}"), |mark| {
                    let header = Header { options: &[1, 1, 1, 0], ..PLAIN };
                    ipv4_frame(link, source, to, protocol::UDP, &header, mark)
                });
                attacks.add_all(&format!("fragments from {name}"), |mark| {
                    let segment = Udp { source: from, destination: at, payload: &mark.repeat(4) }.segment();
                    let pieces = ipv4_fragments(source, to, protocol::UDP, &segment, 8);
                    pieces.iter().map(|piece| ethernet(link, ethertype::IPV4, piece)).collect()
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

#[test]
fn what_only_routers_say() {
    let scene = Scene::new(false);
    let (a1, a2) = (scene.who("a1"), scene.who("a2"));
    let group = Ipv4Addr::new(224, 0, 0, 1);
    let mut attacks = Attacks::default();
    for (link, to) in [(a1.to(a2.mac), a2.v4), (a1.to_all(), group), (a1.to_bridge(), a1.gateway)] {
        attacks.add("redirect", |mark| {
            ipv4_frame(link, a1.v4, to, protocol::ICMP, &PLAIN, &icmp(5, 1, a1.v4.octets(), mark))
        });
        attacks.add("router advertisement (RFC 1256)", |mark| {
            ipv4_frame(link, a1.v4, to, protocol::ICMP, &PLAIN, &icmp(9, 0, [1, 2, 0, 30], mark))
        });
        attacks.add("redirect in fragments", |mark| {
            let header = Header { fragment: 0x2000, ..PLAIN };
            ipv4_frame(link, a1.v4, to, protocol::ICMP, &header, &icmp(5, 1, a1.v4.octets(), mark))
        });
        attacks.add("IGMP query", |mark| {
            let header = Header { options: &[0x94, 4, 0, 0], ..PLAIN };
            ipv4_frame(link, a1.v4, to, 2, &header, &[icmp(0x11, 100, [0; 4], &[]), mark.to_vec()].concat())
        });
    }
    scene.stopped_at_port("a1", attacks);
}
