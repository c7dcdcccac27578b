//! What honest guests need of the same rules: large packets, errors, and the
//! host's answers.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hostctl::testbed::frames::{Udp, contains, ethernet, ethertype, icmp_echo, ipv6_hop_limit, protocol};
use hostctl::testbed::{Netns, address};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};
use std::os::fd::AsRawFd;

use crate::spoofing::craft::{Header, PLAIN, fragment6, icmp, icmp6, ipv4_frame, ipv6_frame};
use crate::spoofing::scene::{Scene, Who};

const SOON: Duration = Duration::from_secs(3);

fn own(who: &Who, v6: bool) -> IpAddr {
    if v6 { who.v6.into() } else { who.v4.into() }
}

fn socket_of(netns: &Netns, ip: IpAddr) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind(SocketAddr::new(ip, 0)).unwrap());
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Sends an ICMP message from a namespace; the kernel adds IP's header, and
/// ICMPv6's checksum.
fn send_icmp(netns: &Netns, to: IpAddr, message: &[u8]) {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    netns.run(|| {
        let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        let to = SockaddrStorage::from(SocketAddr::new(to, 0));
        sendto(fd.as_raw_fd(), message, &to, MsgFlags::empty()).unwrap();
    });
}

fn of_icmp(frame: &[u8], v4: (u8, u8), v6: (u8, u8)) -> bool {
    match frame.get(12..14) {
        Some([8, 0]) => frame[23] == 1 && (frame[34], frame[35]) == v4,
        Some([0x86, 0xdd]) => frame[20] == 58 && (frame[54], frame[55]) == v6,
        _ => false,
    }
}

#[test]
fn large_datagrams_go_out_and_come_back() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        let (a1, a2, c1) = (scene.who("a1"), scene.who("a2"), scene.who("c1"));
        let datagram = vec![b'x'; 1900];
        for to in [
            address::FAR.into(),
            address::FAR6.into(),
            a2.v4.into(),
            a2.v6.into(),
            c1.v4.into(),
            c1.v6.into(),
        ] {
            let to: IpAddr = to;
            let socket = socket_of(a1.guest.netns(), own(a1, to.is_ipv6()));
            socket.send_to(&datagram, (to, 7)).unwrap();
            let length = socket.recv(&mut [0; 4096]);
            assert!(matches!(length, Ok(1900..)), "{to}: {length:?}");
        }
    }
}

#[test]
fn a_fragmented_ping_over_ipv6_is_answered() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        let a1 = scene.who("a1");
        let a2 = scene.who("a2");
        for (link, to) in
            [(a1.to_bridge(), address::FAR6), (a1.to_bridge(), a1.gateway6), (a1.to(a2.mac), a2.v6)]
        {
            let echo = icmp_echo(link, a1.v6.into(), to.into(), b"a fragmented ping, 24 by.");
            let message = &echo[54..];
            for (offset, more, piece) in [(0, true, &message[..16]), (16, false, &message[16..])] {
                let piece = fragment6(protocol::ICMPV6, offset, more, piece);
                a1.guest.guest.inject(&ipv6_frame(link, a1.v6, to, protocol::FRAGMENT, &piece)).unwrap();
            }
            let reply = |frame: &[u8]| of_icmp(frame, (0, 0), (129, 0)) && contains(frame, &to.octets());
            assert!(a1.guest.guest.received().wait_for(reply, SOON).is_some(), "{to}");
        }
    }
}

#[test]
fn a_route_is_traced_and_too_big_is_told() {
    let scene = Scene::new(false);
    let a1 = scene.who("a1");
    let received = a1.guest.guest.received();
    let datagram = |to: IpAddr, payload: &[u8]| {
        let source = SocketAddr::new(own(a1, to.is_ipv6()), 4245);
        Udp { source, destination: SocketAddr::new(to, 33434), payload }.segment()
    };
    // By the host itself: the first hop.
    let far = datagram(address::FAR.into(), b"traced");
    let frame =
        ipv4_frame(a1.to_bridge(), a1.v4, address::FAR, protocol::UDP, &Header { ttl: 1, ..PLAIN }, &far);
    a1.guest.guest.inject(&frame).unwrap();
    let far = datagram(address::FAR6.into(), b"traced");
    let packet = ipv6_hop_limit(a1.v6, address::FAR6, protocol::UDP, 1, &far);
    a1.guest.guest.inject(&ethernet(a1.to_bridge(), ethertype::IPV6, &packet)).unwrap();
    for gateway in [a1.gateway.octets().as_slice(), &a1.gateway6.octets()] {
        let exceeded = |frame: &[u8]| of_icmp(frame, (11, 0), (3, 0)) && contains(frame, gateway);
        assert!(received.wait_for(exceeded, SOON).is_some(), "{gateway:?}");
    }
    // By the host, of its uplink.
    scene.lab.output("ip", &["link", "set", "uplink0", "mtu", "1280"]);
    let far = datagram(address::FAR.into(), &[0; 1300]);
    let header = Header { fragment: 0x4000, ..PLAIN };
    a1.guest
        .guest
        .inject(&ipv4_frame(a1.to_bridge(), a1.v4, address::FAR, protocol::UDP, &header, &far))
        .unwrap();
    let far = datagram(address::FAR6.into(), &[0; 1300]);
    a1.guest.guest.inject(&ipv6_frame(a1.to_bridge(), a1.v6, address::FAR6, protocol::UDP, &far)).unwrap();
    for gateway in [a1.gateway.octets().as_slice(), &a1.gateway6.octets()] {
        let too_big = |frame: &[u8]| of_icmp(frame, (3, 4), (2, 0)) && contains(frame, gateway);
        assert!(received.wait_for(too_big, SOON).is_some(), "{gateway:?}");
    }
}

/// A router of the internet's says "too big" about a masqueraded flow.
#[test]
fn an_error_from_the_internet_reaches_its_guest() {
    for firewall in ["guests", "full"] {
        let scene = Scene::with(firewall, false);
        let a1 = scene.who("a1");
        for (far, uplink) in [
            (IpAddr::V4(address::FAR), IpAddr::V4(address::UPLINK)),
            (address::FAR6.into(), address::UPLINK6.into()),
        ] {
            let socket = socket_of(a1.guest.netns(), own(a1, far.is_ipv6()));
            socket.send_to(b"hello", (far, 7)).unwrap();
            socket.recv(&mut [0; 64]).unwrap();
            let masqueraded =
                *scene.lab.world.seen("internet", 7).iter().rfind(|peer| peer.ip() == uplink).unwrap();
            let flow = Udp { source: masqueraded, destination: SocketAddr::new(far, 7), payload: b"hello" };
            let quoted = hostctl::testbed::frames::udp(a1.to_all(), flow)[14..].to_vec();
            let (v4, v6) =
                (icmp(3, 4, [0, 0, 5, 0x14], &quoted), [[0, 0, 5, 0x14].as_slice(), &quoted].concat());
            let message = if far.is_ipv4() { v4 } else { icmp6(address::FAR6, address::UPLINK6, 2, 0, &v6) };
            send_icmp(&scene.lab.world.internet, uplink, &message);
            let told = |frame: &[u8]| of_icmp(frame, (3, 4), (2, 0)) && contains(frame, b"hello");
            assert!(a1.guest.guest.received().wait_for(told, SOON).is_some(), "{firewall} {far}");
            a1.guest.guest.received().clear();
        }
    }
}
