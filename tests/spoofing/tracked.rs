//! What a guest can make of flows that are others'.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hostctl::testbed::address;
use hostctl::testbed::frames::{
    Link, Udp, contains, ethernet, ethertype, ipv4, ipv4_fragments, ipv6, neighbor_solicitation, protocol,
    router_solicitation,
};

use crate::spoofing::craft::{PLAIN, icmp, icmp6, ipv4_frame, ipv6_frame};
use crate::spoofing::scene::{Attacks, Scene, Who, is_error};

const QUIET: Duration = Duration::from_millis(250);

/// "Nobody listens there", about a packet of `flow` that went from
/// `flow.source` to `flow.destination`.
fn unreachable(link: Link, from: IpAddr, to: IpAddr, flow: Udp<'_>) -> Vec<u8> {
    let segment = flow.segment();
    match (from, to, flow.source.ip(), flow.destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to), IpAddr::V4(source), IpAddr::V4(destination)) => {
            let quoted = ipv4(source, destination, protocol::UDP, &segment);
            ipv4_frame(link, from, to, protocol::ICMP, &PLAIN, &icmp(3, 3, [0; 4], &quoted))
        }
        (IpAddr::V6(from), IpAddr::V6(to), IpAddr::V6(source), IpAddr::V6(destination)) => {
            let quoted = [[0; 4].as_slice(), &ipv6(source, destination, protocol::UDP, &segment)].concat();
            ipv6_frame(link, from, to, protocol::ICMPV6, &icmp6(from, to, 1, 4, &quoted))
        }
        other => panic!("{other:?}"),
    }
}

fn address_of(who: &Who, v6: bool) -> IpAddr {
    if v6 { who.v6.into() } else { who.v4.into() }
}

/// A guest's live flow to the internet: its own end.
fn flow_to(who: &Who, to: SocketAddr) -> (UdpSocket, SocketAddr) {
    let socket =
        who.guest.netns().run(|| UdpSocket::bind(SocketAddr::new(address_of(who, to.is_ipv6()), 0)).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket.send_to(b"hello", to).unwrap();
    socket.recv(&mut [0; 64]).unwrap();
    let end = socket.local_addr().unwrap();
    (socket, end)
}

#[test]
fn icmp_errors_about_others_flows_stay_in() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        for far in [IpAddr::V4(address::FAR), IpAddr::V6(address::FAR6)] {
            let server = SocketAddr::new(far, 7);
            let a1 = scene.who("a1");
            let (_socket, end) = flow_to(a1, server);
            let uplink = scene.capture("uplink0");
            uplink.clear();
            let quoted = Udp { source: server, destination: end, payload: b"quoted" };
            for name in ["a2", "b1", "c1"] {
                let liar = scene.who(name);
                let from = address_of(liar, far.is_ipv6());
                liar.guest.guest.inject(&unreachable(liar.to_bridge(), from, far, quoted)).unwrap();
            }
            let lies = uplink.none_within(is_error, QUIET);
            assert!(lies.is_ok(), "seen by the internet: {lies:x?}");
            a1.guest.guest.inject(&unreachable(a1.to_bridge(), end.ip(), far, quoted)).unwrap();
            assert!(uplink.wait_for(is_error, Duration::from_secs(3)).is_some(), "its own error to {far}");
        }
    }
}

#[test]
fn icmp_errors_about_others_flows_dont_reach_the_host() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        for v6 in [false, true] {
            let a1 = scene.who("a1");
            let ip = address_of(a1, v6);
            let socket = scene.host_socket(SocketAddr::new(ip, 4243));
            let end = socket.local_addr().unwrap();
            // The guest itself drops what comes, so that only lies are heard.
            let silent = |frame: &[u8]| contains(frame, b"to nobody");
            socket.send(b"to nobody").unwrap();
            assert!(a1.guest.guest.received().wait_for(silent, Duration::from_secs(3)).is_some());
            let _own = socket.recv(&mut [0; 64]).map_err(|error| error.kind());
            let quoted = Udp { source: end, destination: SocketAddr::new(ip, 4243), payload: b"to nobody" };
            for name in ["a2", "b1", "c1"] {
                let liar = scene.who(name);
                let from = address_of(liar, v6);
                liar.guest.guest.inject(&unreachable(liar.to_bridge(), from, end.ip(), quoted)).unwrap();
                let heard = socket.recv(&mut [0; 64]).unwrap_err().kind();
                assert_eq!(heard, std::io::ErrorKind::WouldBlock, "{name} was believed, IPv6: {v6}");
            }
            a1.guest.guest.inject(&unreachable(a1.to_bridge(), ip, end.ip(), quoted)).unwrap();
            let heard = socket.recv(&mut [0; 64]).unwrap_err().kind();
            assert_eq!(heard, std::io::ErrorKind::ConnectionRefused, "its own error, IPv6: {v6}");
        }
    }
}

#[test]
fn nothing_leaves_unmasqueraded() {
    let scene = Scene::new(false);
    let a1 = scene.who("a1");
    let far = address::FAR6;
    let uplink = scene.capture("uplink0");
    // Connection tracking leaves these alone, and so does masquerading.
    for message in [
        neighbor_solicitation(a1.v6, far, far, &[]),
        router_solicitation(a1.v6, far, &[]),
        icmp6(a1.v6, far, 131, 0, &[0; 20]),
        icmp6(a1.v6, far, 132, 0, &[0; 20]),
        icmp6(a1.v6, far, 143, 0, &[0; 4]),
        icmp6(a1.v6, far, 135, 0, &far.octets()),
    ] {
        a1.guest.guest.inject(&ipv6_frame(a1.to_bridge(), a1.v6, far, protocol::ICMPV6, &message)).unwrap();
    }
    for number in [2, 4, 41, 47, 50, 51, 59, 89, 132, 253] {
        let frame = ipv6_frame(a1.to_bridge(), a1.v6, far, number, b"hostile");
        a1.guest.guest.inject(&frame).unwrap();
        let frame = ipv4_frame(a1.to_bridge(), a1.v4, address::FAR, number, &PLAIN, b"hostile");
        a1.guest.guest.inject(&frame).unwrap();
    }
    for kind in [0, 3, 4, 11, 12, 14, 16, 18, 30, 40] {
        let message = icmp(kind, 0, [0; 4], b"hostile");
        a1.guest
            .guest
            .inject(&ipv4_frame(a1.to_bridge(), a1.v4, address::FAR, protocol::ICMP, &PLAIN, &message))
            .unwrap();
    }
    let (v4, v6) = (a1.v4.octets(), a1.v6.octets());
    let private = |frame: &[u8]| contains(frame, &v4) || contains(frame, &v6);
    let seen = uplink.none_within(private, QUIET);
    assert!(seen.is_ok(), "on the uplink: {seen:x?}");
    flow_to(a1, SocketAddr::new(far.into(), 7));
}

/// The host puts fragments together by addresses and identification alone,
/// whichever interface they came by.
#[test]
fn no_fragment_slips_into_anothers_packet() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        let (a1, b1) = (scene.who("a1"), scene.who("b1"));
        let payload = b"said by b1......said by a1......";
        let source = SocketAddr::new(b1.v4.into(), 4244);
        let datagram = Udp { source, destination: SocketAddr::new(address::FAR.into(), 4244), payload };
        let pieces = ipv4_fragments(b1.v4, address::FAR, protocol::UDP, &datagram.segment(), 24);
        let frame = |link: Link, piece: &[u8]| ethernet(link, ethertype::IPV4, piece);
        for mac in [a1.bridge_mac, [0xff; 6], [0x01, 0x80, 0xc2, 0, 0, 0x0e]] {
            a1.guest.guest.inject(&frame(a1.to(mac), &pieces[1])).unwrap();
        }
        b1.guest.guest.inject(&frame(b1.to_bridge(), &pieces[0])).unwrap();
        let uplink = scene.capture("uplink0");
        let whole = |frame: &[u8]| contains(frame, b"said by a1");
        uplink.none_within(whole, QUIET).unwrap();
        b1.guest.guest.inject(&frame(b1.to_bridge(), &pieces[1])).unwrap();
        assert!(uplink.wait_for(whole, Duration::from_secs(3)).is_some());
    }
}

/// Segments and datagrams that answer a flow of another network's.
#[test]
fn no_reply_in_anothers_name() {
    let scene = Scene::new(false);
    let (a1, b1) = (scene.who("a1"), scene.who("b1"));
    let server = SocketAddr::new(address::FAR.into(), 7);
    let (_socket, end) = flow_to(a1, server);
    let mut attacks = Attacks::default();
    for (source, destination) in [
        (server, end),
        (server, SocketAddr::new(address::UPLINK.into(), end.port())),
        (end, server),
        (SocketAddr::new(b1.v4.into(), 7), end),
        (SocketAddr::new(b1.v4.into(), 7), SocketAddr::new(address::UPLINK.into(), end.port())),
    ] {
        attacks.add(&format!("{source} to {destination}"), |payload| {
            hostctl::testbed::frames::udp(b1.to_bridge(), Udp { source, destination, payload })
        });
    }
    scene.stopped_on_the_way("b1", attacks);
}
