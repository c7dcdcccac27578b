//! What nobody sends, in the attacker's own name, to everybody whom it mustn't
//! reach. Plain packets, TCP's flags and source routes are in
//! tests/spoofing/routed.rs; forged frames in tests/spoofing/ethernet.rs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hostctl::testbed::frames::{Link, Udp, double_tagged, ethernet, protocol, tcp_syn, udp};
use hostctl::testbed::{Connection, DEFAULT_TIMEOUT, address};

use crate::adversary::crossing::Crossing;
use crate::spoofing::craft::{Header, PLAIN, fragment6, group_mac, icmp, icmp6, ipv4_frame, ipv6_frame};
use crate::spoofing::scene::{Scene, Who};

/// Where frames of b1's in its own name show before the host drops them.
const BRIDGE: &[&str] = &["br-b"];

/// RFC 791 and RFC 2113: record route, timestamps, router alert, an option
/// that ends beyond the header, one of length 0.
const OPTIONS: [&[u8]; 5] = [
    &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    &[148, 4, 0, 0],
    &[7, 39, 4, 0],
    &[131, 0, 4, 0],
];

fn packets4(link: Link, own: Ipv4Addr, to: Ipv4Addr, mark: &[u8]) -> Vec<Vec<u8>> {
    let (source, destination) = (SocketAddr::new(own.into(), 9), SocketAddr::new(to.into(), 7));
    let segment = Udp { source, destination, payload: mark }.segment();
    let udp = |header: Header, bytes: &[u8]| ipv4_frame(link, own, to, protocol::UDP, &header, bytes);
    let mut frames: Vec<_> =
        OPTIONS.iter().map(|options| udp(Header { options, ..PLAIN }, &segment)).collect();
    // Lengths that lie, no checksum, a wrong one.
    for change in [[4, 0, 0], [4, 0xff, 0xff], [4, 0, 8], [6, 0, 0], [6, 0x12, 0x34]] {
        let mut segment = segment.clone();
        segment[change[0]] = u8::try_from(change[1]).unwrap();
        segment[change[0] + 1] = u8::try_from(change[2]).unwrap();
        frames.push(udp(PLAIN, &segment));
    }
    // A SYN that carries data, and one of which the header is cut short.
    let syn = tcp_syn(link, source, SocketAddr::new(to.into(), 22))[34..].to_vec();
    frames.push(ipv4_frame(link, own, to, protocol::TCP, &PLAIN, &[&syn, mark].concat()));
    frames.push(ipv4_frame(link, own, to, protocol::TCP, &PLAIN, &[&syn[..12], mark].concat()));
    // Tiny fragments: the ports, and then the rest, and the ports again, others.
    let piece = |offset: u16, more: bool, bytes: &[u8]| {
        udp(Header { fragment: (offset / 8) | if more { 0x2000 } else { 0 }, ..PLAIN }, bytes)
    };
    frames.push(piece(0, true, &segment[..8]));
    frames.push(piece(8, false, &segment[8..]));
    frames.push(piece(0, true, &[0, 9, 0, 53, 0, 24, 0, 0]));
    // Beyond the largest packet there is (the ping of death), and below it.
    frames.push(piece(65528, false, mark));
    frames.push(piece(65528, true, mark));
    frames.push(udp(Header { fragment: 0x8000, ..PLAIN }, &segment));
    // TCP's flags in the second fragment, overlapping the first's.
    let tcp = |offset: u16, more: bool, bytes: &[u8]| {
        let fragment = (offset / 8) | if more { 0x2000 } else { 0 };
        ipv4_frame(link, own, to, protocol::TCP, &Header { fragment, ..PLAIN }, bytes)
    };
    frames.push(tcp(0, true, &syn[..16]));
    frames.push(tcp(8, false, &[&syn[8..], mark].concat()));
    frames
}

/// An option header whose options are these, padded.
fn options6(next: u8, options: &[u8]) -> Vec<u8> {
    let size = (options.len() + 2).next_multiple_of(8);
    let mut header = [&[next, u8::try_from(size / 8 - 1).unwrap()], options].concat();
    header.resize(size, 0);
    header
}

fn packets6(link: Link, own: Ipv6Addr, to: Ipv6Addr, mark: &[u8]) -> Vec<Vec<u8>> {
    let (source, destination) = (SocketAddr::new(own.into(), 9), SocketAddr::new(to.into(), 7));
    let segment = Udp { source, destination, payload: mark }.segment();
    let frame = |next: u8, parts: &[&[u8]]| ipv6_frame(link, own, to, next, &parts.concat());
    let alert = options6(protocol::UDP, &[5, 2, 0, 0]);
    let many = vec![options6(protocol::DESTINATION, &[1, 4, 0, 0, 0, 0]); 100].concat();
    let last = options6(protocol::UDP, &[1, 4, 0, 0, 0, 0]);
    let jumbo = options6(protocol::UDP, &[0xc2, 4, 0, 1, 0, 0]);
    let home = options6(protocol::UDP, &[&[201, 16], to.octets().as_slice()].concat());
    let mut frames = vec![
        frame(protocol::HOP_BY_HOP, &[&alert, &segment]),
        frame(protocol::HOP_BY_HOP, &[&jumbo, &segment]),
        frame(protocol::DESTINATION, &[&many, &last, &segment]),
        frame(protocol::DESTINATION, &[&home, &segment]),
        // Twice what may be there once, and where it may not.
        frame(protocol::HOP_BY_HOP, &[&options6(protocol::HOP_BY_HOP, &[]), &alert, &segment]),
        // No next header (RFC 8200, 4.7), and one behind it.
        frame(59, &[mark]),
        frame(protocol::DESTINATION, &[&options6(59, &[]), &segment]),
        // AH, ESP, mobility, HIP, shim6.
        frame(51, &[&[protocol::UDP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &segment]),
        frame(50, &[&[0; 8], mark]),
        frame(135, &[&[59, 0, 5, 0, 0, 0, 0, 0], mark]),
        frame(139, &[&[59, 0, 1, 0, 0, 0, 0, 0], mark]),
        frame(140, &[&[protocol::UDP, 0, 0, 0, 0, 0, 0, 0], &segment]),
        // An atomic fragment (RFC 6946), one within another.
        frame(protocol::FRAGMENT, &[&fragment6(protocol::UDP, 0, false, &segment)]),
        frame(
            protocol::FRAGMENT,
            &[&fragment6(protocol::FRAGMENT, 0, false, &fragment6(protocol::UDP, 0, false, &segment))],
        ),
        // The chain goes on in the second fragment (RFC 7112), which overlaps.
        frame(protocol::FRAGMENT, &[&fragment6(protocol::DESTINATION, 0, true, &last[..8])]),
        frame(protocol::FRAGMENT, &[&fragment6(protocol::DESTINATION, 8, false, &segment)]),
        frame(protocol::FRAGMENT, &[&fragment6(protocol::UDP, 0, false, &segment)]),
        frame(protocol::FRAGMENT, &[&fragment6(protocol::UDP, 65528, false, mark)]),
        // Errors about others' packets, to make their paths narrow.
        frame(protocol::ICMPV6, &[&icmp6(own, to, 2, 0, &[&[0, 0, 5, 0], mark].concat())]),
        frame(protocol::ICMPV6, &[&icmp6(own, to, 139, 0, &[&[0; 12], mark].concat())]),
    ];
    let syn = tcp_syn(link, source, SocketAddr::new(to.into(), 22))[54..].to_vec();
    for flags in [0, 0x29, 0x03, 0x06, 0x10, 0x04, 0xff] {
        let mut segment = [&syn, mark].concat();
        segment[13] = flags;
        frames.push(frame(protocol::TCP, &[&segment]));
    }
    for (offset, value) in [(4, [0, 0]), (4, [0xff, 0xff]), (6, [0, 0])] {
        let mut segment = segment.clone();
        segment[offset..offset + 2].copy_from_slice(&value);
        frames.push(frame(protocol::UDP, &[&segment]));
    }
    frames
}

/// Whom b1 mustn't reach, in each of the ways to write it.
fn forbidden4(scene: &Scene, from: &Who) -> Vec<Ipv4Addr> {
    let others = ["a1", "a2", "c1", "n1"].map(|name| scene.who(name)).map(|who| [who.v4, who.gateway]);
    let groups = [[224, 0, 0, 1], [224, 0, 0, 22], [224, 0, 0, 251], [224, 0, 0, 252], [239, 255, 255, 250]];
    let rest = [
        from.gateway,
        address::UPLINK,
        address::TAILSCALE,
        address::LAPTOP,
        address::METADATA,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(127, 255, 255, 254),
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(10, 2, 0, 255),
        Ipv4Addr::new(10, 1, 0, 255),
    ];
    others.into_iter().flatten().chain(groups.map(Ipv4Addr::from)).chain(rest).collect()
}

fn forbidden6(scene: &Scene, from: &Who) -> Vec<Ipv6Addr> {
    let others = ["a1", "a2", "c1"].map(|name| scene.who(name));
    let others = others.map(|who| [who.v6, who.gateway6, who.link_local, who.bridge_local]);
    let [a, b, c, d] = scene.who("a1").v4.octets();
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let (high, low) = (pair(a, b), pair(c, d));
    let clothes = [
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),      // mapped
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),           // compatible
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),      // translated (SIIT)
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5efe, high, low), // ISATAP
    ];
    let groups = ["ff02::1", "ff02::2", "ff02::16", "ff02::fb", "ff02::1:3", "ff05::2", "ff01::1"];
    let rest = [
        from.gateway6,
        from.bridge_local,
        address::UPLINK6,
        address::TAILSCALE6,
        address::LAPTOP6,
        address::METADATA6,
        Ipv6Addr::LOCALHOST,
        Ipv6Addr::UNSPECIFIED,
    ];
    let groups = groups.map(|group| group.parse().unwrap());
    others.into_iter().flatten().chain(clothes).chain(groups).chain(rest).collect()
}

/// Programs of the host's that listen wherever they can.
fn listeners(scene: &Scene) -> Vec<UdpSocket> {
    scene.lab.world.hypervisor.run(|| {
        let ports = [5353, 5355, 1900, 67, 123];
        let bind = |port| {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5351)).unwrap();
        for group in [[224, 0, 0, 251], [224, 0, 0, 252], [239, 255, 255, 250]] {
            v4.join_multicast_v4(&group.into(), &Ipv4Addr::new(10, 2, 0, 1)).unwrap();
        }
        v4.set_nonblocking(true).unwrap();
        ports.map(bind).into_iter().chain([v4]).collect()
    })
}

#[test]
fn odd_packets_reach_nobody() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        let from = scene.who("b1");
        let listeners = listeners(&scene);
        let host = SocketAddr::new(address::UPLINK.into(), 22);
        let mut operator = Connection::open(&scene.lab.world.internet, host, DEFAULT_TIMEOUT).unwrap();
        let far = SocketAddr::new(address::FAR.into(), 22);
        let mut guest = Connection::open(scene.who("a1").guest.netns(), far, DEFAULT_TIMEOUT).unwrap();
        let mut crossing = Crossing::new(&scene, "b1");
        for to in forbidden4(&scene, from) {
            // By the host, and by everybody on the bridge.
            for link in [from.to_bridge(), from.to_all()] {
                crossing.send(&format!("IPv4 to {to}"), BRIDGE, |mark| packets4(link, from.v4, to, mark));
            }
            for port in [5353, 5355, 1900, 67, 123, 5351] {
                crossing.send(&format!("UDP {port} to {to}"), BRIDGE, |mark| {
                    let (source, destination) =
                        (SocketAddr::new(from.v4.into(), port), SocketAddr::new(to.into(), port));
                    vec![udp(from.to_bridge(), Udp { source, destination, payload: mark })]
                });
            }
        }
        for to in forbidden6(&scene, from) {
            let link = if to.is_multicast() { from.to(group_mac(to)) } else { from.to_bridge() };
            for own in [from.v6, from.link_local] {
                crossing.send(&format!("IPv6 to {to}"), BRIDGE, |mark| packets6(link, own, to, mark));
            }
            for port in [5353, 5355, 1900, 123] {
                crossing.send(&format!("UDP {port} to {to}"), BRIDGE, |mark| {
                    let (source, destination) =
                        (SocketAddr::new(from.v6.into(), port), SocketAddr::new(to.into(), port));
                    vec![udp(link, Udp { source, destination, payload: mark })]
                });
            }
        }
        // By tunnels and translators of the internet's (6to4, Teredo, NAT64) an
        // address of another guest's would be reached from there, if at all.
        let inner = scene.who("a1").v4.octets().map(u16::from);
        let (high, low) = (inner[0] << 8 | inner[1], inner[2] << 8 | inner[3]);
        for to in [
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, !high, !low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        ] {
            let link = from.to_bridge();
            let name = format!("IPv6 to {to}");
            crossing.send(&name, &["br-b", "uplink0"], |mark| packets6(link, from.v6, to, mark));
        }
        crossing.nothing_crossed();
        for socket in listeners {
            let heard = socket.recv_from(&mut [0; 2048]);
            let port = socket.local_addr().unwrap().port();
            assert!(heard.is_err(), "port {port} of the host heard of {:?}", heard.unwrap().1);
        }
        assert!(operator.still_alive(DEFAULT_TIMEOUT), "the operator's connection is dead");
        assert!(guest.still_alive(DEFAULT_TIMEOUT), "another guest's connection is dead");
    }
}

/// EtherTypes and lengths that aren't ARP's, IPv4's or IPv6's, whatever they carry.
#[test]
fn odd_frames_stay_at_their_port() {
    let scene = Scene::new(false);
    let (from, a1) = (scene.who("b1"), scene.who("a1"));
    let mut crossing = Crossing::new(&scene, "b1");
    // PAUSE, LACP, MPLS, PPPoE, EAPOL, 802.1AE, ATA over Ethernet, PTP, wake on
    // LAN, RARP, TRILL, batman, 802.1ad, 802.1ah, loopback; 802.3's lengths.
    let types = [
        0x8808, 0x8809, 0x8847, 0x8848, 0x8863, 0x8864, 0x888e, 0x88e5, 0x88a2, 0x88f7, 0x0842, 0x8035,
        0x22f3, 0x4305, 0x88a8, 0x88e7, 0x9000, 0, 3, 46, 64, 1500, 0x05ff, 0xffff,
    ];
    for link in [from.to_bridge(), from.to_all(), from.to(a1.mac), from.to([1, 0x80, 0xc2, 0, 0, 1])] {
        for kind in types {
            crossing.send(&format!("{kind:#06x} to {:x?}", link.destination), &[], |mark| {
                let (source, destination) =
                    (SocketAddr::new(from.v4.into(), 9), SocketAddr::new(a1.v4.into(), 7));
                let honest = udp(link, Udp { source, destination, payload: mark });
                vec![
                    ethernet(link, kind, &honest[14..]),
                    ethernet(link, kind, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &honest[14..]].concat()),
                    ethernet(link, kind, &[mark, &[0; 3000]].concat()),
                    double_tagged(&ethernet(link, kind, &honest[14..]), 0, 0),
                ]
            });
        }
    }
    crossing.nothing_crossed();
}

/// In another's flow's place: resets, data and "too big" from where the host
/// could take them for the other end's.
#[test]
fn anothers_connection_is_not_to_be_ended() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        let liar = scene.who("b1");
        for (far, own) in [
            (IpAddr::V4(address::FAR), IpAddr::V4(scene.who("a1").v4)),
            (address::FAR6.into(), scene.who("a1").v6.into()),
        ] {
            let server = SocketAddr::new(far, 22);
            let mut flow = Connection::open(scene.who("a1").guest.netns(), server, DEFAULT_TIMEOUT).unwrap();
            let client = flow.local_address().unwrap();
            assert_eq!(client.ip(), own);
            scene.capture("uplink0").clear();
            scene.who("a1").guest.guest.received().clear();
            for (source, destination) in [(client, server), (server, client)] {
                for flags in [0x04, 0x14, 0x02, 0x12, 0x01, 0x18] {
                    let mut frame = tcp_syn(liar.to_bridge(), source, destination);
                    let header = if far.is_ipv4() { 34 } else { 54 };
                    frame[header + 13] = flags;
                    liar.guest.guest.inject(&frame).unwrap();
                }
            }
            // About it, in its own name.
            let quoted = tcp_syn(liar.to_bridge(), client, server)[14..].to_vec();
            let too_big = match (IpAddr::V4(liar.v4), far) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    let message = icmp(3, 4, [0, 0, 2, 0x28], &quoted);
                    ipv4_frame(liar.to_bridge(), from, to, protocol::ICMP, &PLAIN, &message)
                }
                (_, IpAddr::V6(to)) => {
                    let message = icmp6(liar.v6, to, 2, 0, &[&[0, 0, 5, 0], quoted.as_slice()].concat());
                    ipv6_frame(liar.to_bridge(), liar.v6, to, protocol::ICMPV6, &message)
                }
                other => unreachable!("{other:?}"),
            };
            liar.guest.guest.inject(&too_big).unwrap();
            let forged = |frame: &[u8]| frame.windows(4).any(|bytes| bytes == [0x42; 4]);
            let quiet = Duration::from_millis(100);
            for log in [scene.capture("uplink0"), scene.who("a1").guest.guest.received()] {
                let seen = log.none_within(forged, quiet);
                assert!(seen.is_ok(), "{far}: {seen:x?}");
            }
            assert!(flow.still_alive(DEFAULT_TIMEOUT), "{far}");
        }
    }
}
