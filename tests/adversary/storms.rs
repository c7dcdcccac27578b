//! Frames for everybody, and questions that the host answers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hostctl::testbed::frames::{
    Arp, Link, NdOption, Udp, arp, contains, neighbor_solicitation, protocol, udp,
};
use hostctl::testbed::{Capture, address};

use crate::adversary::tenants::Tenants;
use crate::spoofing::craft::ipv6_frame;

/// The bytes `mark` and a number, padded.
fn mark(number: u16) -> Vec<u8> {
    format!("storm{number:011}").into_bytes()
}

/// The frame of a number.
type Build<'a> = Box<dyn Fn(u16) -> Vec<u8> + 'a>;

/// Frames for everybody, for groups, for nobody, and questions for the host.
#[test]
fn a_storm_ends_at_its_port() {
    let mut tenants = Tenants::new("broadcasts = 100");
    let bridge = Capture::start(&tenants.lab.world.hypervisor, "br-m").unwrap();
    let (link, mac) = (tenants.link(), tenants.mac());
    let (own4, own6, local) = (tenants.v4(), tenants.v6(), tenants.link_local());
    let nobody = Link { source: mac, destination: [2, 0, 0, 0, 0, 0x99] };
    let kinds: [(&str, &str, Build<'_>); 6] = [
        (
            "broadcast",
            "group",
            Box::new(|number| {
                let (source, destination) =
                    (SocketAddr::new(own4.into(), 9), "10.1.0.255:9".parse().unwrap());
                udp(Link::broadcast(mac), Udp { source, destination, payload: &mark(number) })
            }),
        ),
        (
            "multicast",
            "group",
            Box::new(|number| {
                let (source, destination) =
                    (SocketAddr::new(own6.into(), 9), "[ff02::fb]:5353".parse().unwrap());
                let link = Link { source: mac, destination: [0x33, 0x33, 0, 0, 0, 0xfb] };
                udp(link, Udp { source, destination, payload: &mark(number) })
            }),
        ),
        ("ARP for all", "group", Box::new(|number| arp(Link::broadcast(mac), who_has(mac, own4, number)))),
        ("ARP for the host", "neighbour", Box::new(|number| arp(link, who_has(mac, own4, number)))),
        (
            "neighbour solicitations",
            "neighbour",
            Box::new(|number| {
                let target = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0x55, number);
                let options = [NdOption::SourceMac(mac)];
                let message = neighbor_solicitation(local, target, target, &options);
                ipv6_frame(link, local, target, protocol::ICMPV6, &message)
            }),
        ),
        (
            "unknown unicast",
            "none",
            Box::new(|number| {
                let (source, destination) = (SocketAddr::new(own4.into(), 9), "10.1.0.77:9".parse().unwrap());
                udp(nobody, Udp { source, destination, payload: &mark(number) })
            }),
        ),
    ];
    for (name, bucket, build) in kinds {
        bridge.clear();
        let passed = ["a storm of broadcast", "a storm of ARP", "a storm of neighbour"];
        let before = passed.map(|rule| tenants.counted("bridge", rule));
        let start = Instant::now();
        for number in 0..5000 {
            tenants.inject(&build(number));
        }
        let seconds = u64::try_from(start.elapsed().as_millis()).unwrap() / 1000 + 1;
        let after = passed.map(|rule| tenants.counted("bridge", rule));
        let dropped: u64 = before.iter().zip(after).map(|(before, after)| after - before).sum();
        if bucket != "none" {
            assert!(dropped >= 5000 - 200 - 100 * seconds, "{name}: {dropped} of 5000 dropped");
        }
        tenants.nobody_is_harmed(name);
        let table = tenants.lab.output("ip", &["neigh", "show", "dev", "br-m"]);
        assert!(table.lines().count() <= 8, "after {name} the host knows neighbours:\n{table}");
    }
    // Neither got the neighbour any of it.
    let stormed = |frame: &[u8]| {
        contains(frame, b"storm00") || frame.get(12..14) == Some(&[8, 6]) && frame[6..12] == mac
    };
    tenants.n1.guest.received().none_within(stormed, Duration::ZERO).unwrap();
}

/// Asks for one after another of its network's addresses.
fn who_has(mac: [u8; 6], own: Ipv4Addr, number: u16) -> Arp {
    Arp::request(mac, own, Ipv4Addr::new(10, 1, 0, u8::try_from(number % 256).unwrap()))
}

/// The host tells of errors only so often: one guest doesn't use that up.
#[test]
fn errors_are_told_to_everybody() {
    let tenants = Tenants::new("");
    let n1 = &tenants.n1;
    let traced = |netns: &hostctl::testbed::Netns, own: std::net::IpAddr, far: std::net::IpAddr| {
        netns.run(|| {
            let socket = std::net::UdpSocket::bind(SocketAddr::new(own, 0)).unwrap();
            socket.connect(SocketAddr::new(far, 33434)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            // Its first hop is the host.
            if far.is_ipv4() {
                socket.set_ttl(1).unwrap();
            } else {
                nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6Ttl, &1).unwrap();
            }
            socket.send(b"traced").unwrap();
            let _told = socket.recv(&mut [0; 64]);
        });
    };
    let exceeded = |frame: &[u8]| match frame.get(12..14) {
        Some([8, 0]) => frame[23] == 1 && frame[34] == 11,
        Some([0x86, 0xdd]) => frame[20] == 58 && frame[54] == 3,
        _ => false,
    };
    for (own, far) in [(n1.v4, address::FAR.into()), (n1.v6.unwrap(), address::FAR6.into())] {
        let far: std::net::IpAddr = far;
        n1.guest.received().clear();
        for number in 0..2000u16 {
            let source = SocketAddr::new(
                if far.is_ipv4() { tenants.m1.v4 } else { tenants.m1.v6.unwrap() },
                2000 + number,
            );
            let mut frame =
                udp(tenants.link(), Udp { source, destination: SocketAddr::new(far, 9), payload: b"" });
            if far.is_ipv4() {
                // One less, and so is the sum that is kept as its complement.
                frame[22] = 1;
                frame[24..26].fill(0);
                let sum = crate::spoofing::craft::checksum(&[&frame[14..34]]);
                frame[24..26].copy_from_slice(&sum);
            } else {
                frame[21] = 1;
            }
            tenants.inject(&frame);
        }
        traced(n1.netns(), own, far);
        assert!(n1.guest.received().wait_for(exceeded, Duration::from_secs(2)).is_some(), "{far}");
    }
}
