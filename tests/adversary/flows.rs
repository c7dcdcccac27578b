//! The host's table of tracked flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hostctl::testbed::frames::{Link, Udp, contains, protocol, tcp_syn, udp};
use hostctl::testbed::{Capture, DEFAULT_TIMEOUT, Probe, address, probe};

use crate::craft::{PLAIN, icmp, icmp6, ipv4_frame, ipv6_frame};
use crate::tenants::Tenants;

/// Begins that many flows of each kind.
fn begin_flows(tenants: &Tenants, count: u16) {
    let link = tenants.link();
    let ends: [(IpAddr, IpAddr, IpAddr); 2] = [
        (tenants.v4().into(), address::FAR.into(), Ipv4Addr::new(10, 1, 0, 1).into()),
        (tenants.v6().into(), address::FAR6.into(), Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 1).into()),
    ];
    for (own, far, gateway) in ends {
        let nobody: IpAddr = match far {
            IpAddr::V4(_) => Ipv4Addr::new(203, 0, 113, 200).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x200).into(),
        };
        for number in 0..count {
            let source = SocketAddr::new(own, 1024 + number);
            let payload = b"another one";
            tenants.inject(&udp(link, Udp { source, destination: SocketAddr::new(far, 9), payload }));
            tenants.inject(&tcp_syn(link, source, SocketAddr::new(nobody, 80)));
            tenants.inject(&ping(link, own, gateway, number));
        }
    }
}

/// An echo request whose identifier is `number`.
fn ping(link: Link, own: IpAddr, to: IpAddr, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let rest = [high, low, 0, 1];
    match (own, to) {
        (IpAddr::V4(own), IpAddr::V4(to)) => {
            ipv4_frame(link, own, to, protocol::ICMP, &PLAIN, &icmp(8, 0, rest, b"another one."))
        }
        (IpAddr::V6(own), IpAddr::V6(to)) => {
            ipv6_frame(link, own, to, protocol::ICMPV6, &icmp6(own, to, 128, 0, &rest))
        }
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn the_table_of_flows_is_not_one_guests() {
    let mut tenants = Tenants::new("new_flows = 20");
    let before = tenants.tracked();
    let start = Instant::now();
    begin_flows(&tenants, 1500);
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    // Each of its two addresses begins as many as it may.
    let begun = tenants.tracked() - before;
    assert!((2 * 320..=2 * (320 + 20 * seconds)).contains(&begun), "{begun} flows in {seconds} s");
    tenants.nobody_is_harmed("while a guest begins flows");
    assert!(tenants.counted("inet", "the guest has enough flows") > 5000);
    // And begins others later.
    let own = tenants.v4();
    let socket = tenants.m1.netns().run(|| UdpSocket::bind((own, 0)).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let answered = (0..20).any(|_| {
        socket.send_to(b"again", (address::FAR, 7)).unwrap();
        socket.recv(&mut [0; 64]).is_ok()
    });
    assert!(answered, "a guest that began too many flows begins no other");
}

/// A connection that is open stays in the table for days.
#[test]
fn a_guests_connections_are_counted() {
    let mut tenants = Tenants::new("new_flows = 100000\nconnections = 64");
    let connections = |tenants: &Tenants, protocol: &str| {
        let list = |family: &str, own: &str| {
            let list = tenants.lab.output("conntrack", &["-L", "-f", family, "-p", protocol, "-s", own]);
            list.lines().count()
        };
        (list("ipv4", &tenants.m1.v4.to_string()), list("ipv6", &tenants.v6().to_string()))
    };
    begin_flows(&tenants, 500);
    assert_eq!(connections(&tenants, "tcp"), (64, 64));
    assert_eq!(connections(&tenants, "udp"), (500, 500));
    tenants.nobody_is_harmed("with all connections in use");
    begin_flows(&tenants, 200);
    assert_eq!(connections(&tenants, "tcp"), (64, 64));
    // What has no ports is counted, too.
    for number in 0..100u8 {
        let to = Ipv4Addr::new(203, 0, 113, 100 + number);
        tenants.inject(&ipv4_frame(tenants.link(), tenants.v4(), to, 253, &PLAIN, b"unknown"));
    }
    assert_eq!(connections(&tenants, "253").0, 0);
    // What is gone isn't.
    tenants.lab.output("conntrack", &["-D", "-s", &tenants.m1.v4.to_string()]);
    let to = SocketAddr::new(address::FAR.into(), 80);
    let opened = (0..10).any(|_| probe(tenants.m1.netns(), Probe::Tcp(to), DEFAULT_TIMEOUT).is_allowed());
    assert!(opened, "a guest whose connections are over opens no other");
}

/// One datagram that is never answered is a flow, however often it is sent.
#[test]
fn a_stream_is_one_flow() {
    let tenants = Tenants::new("new_flows = 1");
    let uplink = Capture::start(&tenants.lab.world.hypervisor, "uplink0").unwrap();
    let source = SocketAddr::new(tenants.m1.v4, 4000);
    let destination = SocketAddr::new(address::FAR.into(), 9);
    // Fewer at a time than a capture's socket holds.
    for number in 0..40u16 {
        for _ in 0..25 {
            tenants.inject(&udp(tenants.link(), Udp { source, destination, payload: b"a stream" }));
        }
        let payload = format!("the end of {number}.");
        let last = Udp { source, destination, payload: payload.as_bytes() };
        tenants.inject(&udp(tenants.link(), last));
        let end = |frame: &[u8]| contains(frame, payload.as_bytes());
        assert!(uplink.wait_for(end, Duration::from_secs(3)).is_some(), "{payload}");
    }
    // Errors about it come back.
    let streamed = |frame: &&Vec<u8>| frame[23] == protocol::UDP && contains(frame, b"a stream");
    assert_eq!(uplink.frames().iter().filter(streamed).count(), 1000);
}
