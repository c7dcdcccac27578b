//! In its own name, to where it may not go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hostctl::testbed::address;
use hostctl::testbed::frames::{
    Link, Udp, ethernet, ethertype, icmp_echo, ipv6_hop_limit, protocol, tcp_syn, udp,
};

use crate::spoofing::craft::{Header, PLAIN, fragment6, group_mac, icmp, ipv4_frame, ipv6_frame};
use crate::spoofing::scene::{Attacks, Scene, Who};

/// The MACs by which a frame may reach the host.
fn ways(scene: &Scene, from: &Who) -> Vec<Link> {
    let port = scene.lab.output("ip", &["-o", "link", "show", &format!("vm-{}", from.name)]);
    let port = port.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    let port = port.parse::<hostctl::topology::MacAddr>().unwrap().octets();
    let group = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
    [from.bridge_mac, port, scene.who("a1").bridge_mac, [0xff; 6], group].map(|mac| from.to(mac)).into()
}

fn forbidden4(scene: &Scene, from: &Who) -> Vec<Ipv4Addr> {
    let mut list = vec![
        address::UPLINK,
        address::TAILSCALE,
        address::LAPTOP,
        address::METADATA,
        Ipv4Addr::LOCALHOST,
        from.gateway,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(224, 0, 0, 251),
        Ipv4Addr::new(198, 51, 100, 255),
        Ipv4Addr::new(10, 1, 0, 0),
        Ipv4Addr::new(10, 1, 0, 255),
        Ipv4Addr::UNSPECIFIED,
    ];
    for name in ["a1", "a2", "b1", "c1", "n1"] {
        let other = scene.who(name);
        if other.name[..1] != from.name[..1] {
            list.extend([other.v4, other.gateway]);
        }
    }
    list
}

fn ipv4(scene: &Scene, from: &Who) -> Attacks {
    let mut attacks = Attacks::default();
    for link in ways(scene, from) {
        for to in forbidden4(scene, from) {
            // To everyone on its own bridge it may speak: that isn't routed.
            let group = to.is_broadcast() || to.is_multicast();
            if group && link.destination != from.bridge_mac && link.destination[5] != 0x0e {
                continue;
            }
            let name = format!("{to} by {:x?}", link.destination);
            let (source, destination) = (SocketAddr::new(from.v4.into(), 9), SocketAddr::new(to.into(), 7));
            attacks.add(&format!("UDP {name}"), |payload| udp(link, Udp { source, destination, payload }));
            if to != from.gateway {
                attacks.add(&format!("ping {name}"), |mark| icmp_echo(link, from.v4.into(), to.into(), mark));
            }
            attacks.add(&format!("TCP {name}"), |_| tcp_syn(link, source, SocketAddr::new(to.into(), 80)));
            for number in [2, 4, 41, 47, 50, 58, 112, 132, 255] {
                attacks.add(&format!("protocol {number} {name}"), |mark| {
                    ipv4_frame(link, from.v4, to, number, &PLAIN, mark)
                });
            }
            for ttl in [0, 1, 255] {
                attacks.add(&format!("TTL {ttl} {name}"), |mark| {
                    ipv4_frame(link, from.v4, to, protocol::UDP, &Header { ttl, ..PLAIN }, mark)
                });
            }
            for kind in [0, 3, 13, 17] {
                attacks.add(&format!("ICMP {kind} {name}"), |mark| {
                    ipv4_frame(link, from.v4, to, protocol::ICMP, &PLAIN, &icmp(kind, 1, [0; 4], mark))
                });
            }
            attacks.add_all(&format!("overlapping fragments {name}"), |mark| {
                let segment = Udp { source, destination, payload: mark }.segment();
                let piece = |fragment, bytes: &[u8]| {
                    ipv4_frame(link, from.v4, to, protocol::UDP, &Header { fragment, ..PLAIN }, bytes)
                };
                vec![piece(0x2000, &segment[..16]), piece(1, &segment[8..]), piece(0, &segment)]
            });
        }
    }
    attacks
}

#[test]
fn no_other_network_and_not_the_host() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        for name in ["b1", "n1"] {
            scene.stopped_on_the_way(name, ipv4(&scene, scene.who(name)));
        }
    }
}

/// The addresses of [`Scene`]'s a1 and of its network's gateway, as options
/// of a fixed length need them.
const LOOSE_ROUTE: [u8; 12] = [131, 11, 8, 10, 2, 0, 1, 10, 1, 0, 2, 0];
const STRICT_ROUTE: [u8; 12] = [137, 11, 4, 10, 1, 0, 1, 10, 1, 0, 2, 0];

#[test]
fn no_source_route_and_no_flag_gets_through() {
    let scene = Scene::new(false);
    let (a1, b1) = (scene.who("a1"), scene.who("b1"));
    assert_eq!((a1.v4, b1.gateway), ([10, 1, 0, 2].into(), [10, 2, 0, 1].into()));
    let link = b1.to_bridge();
    let mut attacks = Attacks::default();
    for to in [b1.gateway, a1.v4, a1.gateway, address::UPLINK] {
        for options in [&LOOSE_ROUTE, &STRICT_ROUTE] {
            attacks.add(&format!("source route to {to}"), |mark| {
                let header = Header { options, ..PLAIN };
                let (source, destination) =
                    (SocketAddr::new(b1.v4.into(), 9), SocketAddr::new(a1.v4.into(), 7));
                let segment = Udp { source, destination, payload: mark }.segment();
                ipv4_frame(link, b1.v4, to, protocol::UDP, &header, &segment)
            });
        }
    }
    let (source, destination) = (SocketAddr::new(b1.v4.into(), 80), SocketAddr::new(a1.v4.into(), 80));
    for flags in 0..=0xff {
        let mut frame = tcp_syn(link, source, destination);
        frame[14 + 20 + 13] = flags;
        attacks.add(&format!("TCP flags {flags:#04x}"), |_| frame);
    }
    scene.stopped_on_the_way("b1", attacks);
    let tcp = |frame: &[u8]| {
        frame.get(12..14) == Some(&[8, 0]) && frame[23] == 6 && frame[26..30] == b1.v4.octets()
    };
    a1.guest.guest.received().none_within(tcp, std::time::Duration::ZERO).unwrap();
}

fn forbidden6(scene: &Scene, from: &Who) -> Vec<Ipv6Addr> {
    let mut list = vec![
        address::UPLINK6,
        address::TAILSCALE6,
        address::LAPTOP6,
        address::METADATA6,
        Ipv6Addr::LOCALHOST,
        Ipv6Addr::UNSPECIFIED,
        from.gateway6,
        from.bridge_local,
        address::UPLINK.to_ipv6_mapped(),
        "64:ff9b::169.254.169.254".parse().unwrap(),
        "64:ff9b::100.100.100.200".parse().unwrap(),
        "64:ff9b::168.63.129.16".parse().unwrap(),
        "fd00:0:0:1::".parse().unwrap(),
        "ff02::1".parse().unwrap(),
        "ff02::2".parse().unwrap(),
        "ff01::1".parse().unwrap(),
        "ff05::1:3".parse().unwrap(),
        "ff0e::1".parse().unwrap(),
    ];
    for name in ["a1", "a2", "b1", "c1"] {
        let other = scene.who(name);
        if other.name[..1] != from.name[..1] {
            list.extend([other.v6, other.link_local, other.gateway6, other.bridge_local]);
        }
    }
    list
}

/// A routing header with one segment left.
fn routing(next: u8, kind: u8, last: Ipv6Addr) -> Vec<u8> {
    [&[next, 2, kind, 1, 0, 0, 0, 0], last.octets().as_slice()].concat()
}

#[test]
fn no_other_network_and_not_the_host_over_ipv6() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        let (a1, b1) = (scene.who("a1"), scene.who("b1"));
        let mut attacks = Attacks::default();
        for link in ways(&scene, b1) {
            for (from, to) in
                forbidden6(&scene, b1).into_iter().flat_map(|to| [(b1.v6, to), (b1.link_local, to)])
            {
                let link = if to.is_multicast() { b1.to(group_mac(to)) } else { link };
                let name = format!("{to} from {from}");
                let source = SocketAddr::new(from.into(), 9);
                let destination = SocketAddr::new(to.into(), 7);
                let segment = |payload: &[u8]| Udp { source, destination, payload }.segment();
                attacks
                    .add(&format!("UDP {name}"), |payload| udp(link, Udp { source, destination, payload }));
                if to != b1.gateway6 {
                    attacks
                        .add(&format!("ping {name}"), |mark| icmp_echo(link, from.into(), to.into(), mark));
                }
                attacks
                    .add(&format!("TCP {name}"), |_| tcp_syn(link, source, SocketAddr::new(to.into(), 80)));
                for number in [0, 4, 41, 43, 47, 50, 59, 60, 132] {
                    attacks.add(&format!("protocol {number} {name}"), |mark| {
                        ipv6_frame(link, from, to, number, mark)
                    });
                }
                for hops in [0, 1] {
                    attacks.add(&format!("hop limit {hops} {name}"), |mark| {
                        ethernet(
                            link,
                            ethertype::IPV6,
                            &ipv6_hop_limit(from, to, protocol::UDP, hops, &segment(mark)),
                        )
                    });
                }
                attacks.add_all(&format!("fragments {name}"), |mark| {
                    let segment = segment(mark);
                    let piece = |offset: u16, more, bytes: &[u8]| {
                        ipv6_frame(
                            link,
                            from,
                            to,
                            protocol::FRAGMENT,
                            &fragment6(protocol::UDP, offset, more, bytes),
                        )
                    };
                    vec![piece(0, true, &segment[..8]), piece(8, false, &segment[8..])]
                });
            }
        }
        for kind in [0, 2, 3, 4, 253] {
            for by in [b1.gateway6, b1.bridge_local, address::UPLINK6] {
                attacks.add(&format!("routing header {kind} by {by}"), |mark| {
                    let echo = icmp_echo(b1.to_bridge(), b1.v6.into(), IpAddr::V6(a1.v6), mark);
                    let body = [routing(protocol::ICMPV6, kind, a1.v6), echo[54..].to_vec()].concat();
                    ipv6_frame(b1.to_bridge(), b1.v6, by, 43, &body)
                });
            }
        }
        // Everyone on the network may hear what is for everyone; the host's
        // services and other networks may not.
        scene.stopped_on_the_way("b1", attacks);
    }
}

/// The host resolves no address that is no guest's: its neighbour table is one
/// for all, and a guest would fill it.
#[test]
fn nobody_makes_the_host_look_for_neighbours() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        let a2 = scene.who("a2");
        let looked = |frame: &[u8]| match frame.get(12..14) {
            Some([8, 6]) => frame[41] >= 100,
            Some([0x86, 0xdd]) => frame[20] == 58 && frame[54] == 135 && frame[76] == 0x55,
            _ => false,
        };
        let mut attacks = Attacks::default();
        for (name, last) in [("a1", 100), ("c1", 150)] {
            let from = scene.who(name);
            for offset in 0..20 {
                let to4 = Ipv4Addr::new(10, 1, 0, last + offset);
                let to6 = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0x5500, u16::from(last + offset));
                for (own, to) in [(IpAddr::V4(from.v4), IpAddr::V4(to4)), (from.v6.into(), to6.into())] {
                    let (source, destination) = (SocketAddr::new(own, 9), SocketAddr::new(to, 9));
                    let frame = udp(from.to_bridge(), Udp { source, destination, payload: b"anybody?" });
                    from.guest.guest.inject(&frame).unwrap();
                }
            }
        }
        scene.lab.world.laptop.run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            (200..220).for_each(|last| _ = socket.send_to(b"anybody?", (Ipv4Addr::new(10, 1, 0, last), 9)));
        });
        let seen = a2.guest.guest.received().none_within(looked, std::time::Duration::from_millis(300));
        assert!(seen.is_ok(), "{seen:x?}");
        attacks.add("a neighbour that nobody is", |payload| {
            let a1 = scene.who("a1");
            let source = SocketAddr::new(a1.v4.into(), 9);
            let destination = SocketAddr::new(Ipv4Addr::new(10, 1, 0, 99).into(), 9);
            udp(a1.to_bridge(), Udp { source, destination, payload })
        });
        scene.stopped_on_the_way("a1", attacks);
    }
}
