//! The host's table of tracked flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hostctl::testbed::frames::{Link, Udp, contains, protocol, tcp_syn, udp};
use hostctl::testbed::{Capture, DEFAULT_TIMEOUT, Probe, address, probe};

use crate::adversary::tenants::Tenants;
use crate::spoofing::craft::{PLAIN, icmp, icmp6, ipv4_frame, ipv6_frame};

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
    // It begins as many as it may, whichever of its addresses they are from.
    let begun = tenants.tracked() - before;
    assert!((320..=320 + 20 * seconds).contains(&begun), "{begun} flows in {seconds} s");
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

/// A connection that is open stays in the table for days, and so does whatever
/// else is kept alive.
#[test]
fn a_guests_flows_are_counted_whatever_they_are() {
    let mut tenants = Tenants::new("new_flows = 100000\nflows = 64");
    begin_flows(&tenants, 500);
    assert_eq!(tenants.flows_of_m1(), 64, "TCP, UDP and ICMP over IPv4 and IPv6");
    tenants.nobody_is_harmed("with all flows in use");
    begin_flows(&tenants, 200);
    assert_eq!(tenants.flows_of_m1(), 64);
    // What has no ports is counted, too.
    for number in 0..100u8 {
        let to = Ipv4Addr::new(203, 0, 113, 100 + number);
        tenants.inject(&ipv4_frame(tenants.link(), tenants.v4(), to, 253, &PLAIN, b"unknown"));
    }
    assert_eq!(tenants.flows_of_m1(), 64);
    // What is gone isn't.
    tenants.forget_flows_of_m1();
    let to = SocketAddr::new(address::FAR.into(), 80);
    let opened = (0..10).any(|_| probe(tenants.m1.netns(), Probe::Tcp(to), DEFAULT_TIMEOUT).is_allowed());
    assert!(opened, "a guest whose flows are over opens no other");
}

/// Datagrams that are answered once and sent again before the kernel forgets
/// them are never forgotten, and never evicted.
#[test]
fn flows_that_are_kept_alive_are_counted_as_long_as_they_are() {
    let mut tenants = Tenants::new("new_flows = 100000\nflows = 100");
    let hypervisor = &tenants.lab.world.hypervisor;
    for (setting, seconds) in [("udp_timeout", "2"), ("udp_timeout_stream", "3"), ("icmp_timeout", "2")] {
        hypervisor.sysctl_set(&format!("net/netfilter/nf_conntrack_{setting}"), seconds).unwrap();
    }
    let ends: [(IpAddr, IpAddr); 2] =
        [(tenants.v4().into(), address::FAR.into()), (tenants.v6().into(), address::FAR6.into())];
    // Round by round new ones, and the old ones again, well past the time after
    // which the kernel would forget each.
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < Duration::from_secs(9) {
        for _ in 0..40 {
            for (own, far) in ends {
                let source = SocketAddr::new(own, 2000 + number);
                let echo = Udp { source, destination: SocketAddr::new(far, 7), payload: b"answer me" };
                tenants.inject(&udp(tenants.link(), echo));
            }
            number += 1;
        }
        for old in 0..number {
            for (own, far) in ends {
                let source = SocketAddr::new(own, 2000 + old);
                let again = Udp { source, destination: SocketAddr::new(far, 7), payload: b"and again" };
                tenants.inject(&udp(tenants.link(), again));
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        let flows = tenants.flows_of_m1();
        assert!(flows <= 100, "{flows} flows after {:?}", start.elapsed());
    }
    assert!(number > 100, "only {number} flows were tried");
    tenants.nobody_is_harmed("while a guest keeps its flows alive");
    // They end, and it may have others.
    std::thread::sleep(Duration::from_secs(4));
    let to = Probe::Udp(SocketAddr::new(address::FAR.into(), 7));
    assert!((0..5).any(|_| probe(tenants.m1.netns(), to, DEFAULT_TIMEOUT).is_allowed()));
}

/// A replaced firewall counts anew; what was there before it is cut to what a
/// guest may have, so that no number of changes adds up.
#[test]
fn no_reload_makes_room_for_more() {
    let tenants = Tenants::new("new_flows = 100000\nflows = 64");
    for round in 0..3 {
        begin_flows(&tenants, 200);
        let flows = tenants.flows_of_m1();
        assert!(flows <= 128, "{flows} flows in round {round}");
        tenants.lab.output("nft", &["delete", "table", "inet", "hostctl"]);
        tenants.lab.apply(&tenants.spec);
        let flows = tenants.flows_of_m1();
        assert!(flows <= 64, "{flows} flows after reload {round}");
    }
}

/// A guest, its subnet and its network each may have limits of their own, which
/// a change of the spec changes alone.
#[test]
fn limits_are_a_guests_own() {
    let mut tenants = Tenants::new("new_flows = 100000\nflows = 64");
    begin_flows(&tenants, 100);
    let dropped = tenants.counted("inet", "the guest has enough flows");
    assert!(dropped > 0);
    let own = tenants.spec.replace("[vms.m1]\n", "[vms.m1]\nlimits = { flows = 32 }\n");
    let own = own.replace("[networks.b]\n", "[networks.b]\nlimits = { flows = 16 }\n");
    let outcome = tenants.lab.apply(&own);
    let commands: Vec<String> = outcome.steps.iter().flat_map(|step| step.commands()).collect();
    assert!(commands.iter().any(|line| line.contains("ct count 32")), "{commands:?}");
    assert!(!commands.iter().any(|line| line.contains("nft -f")), "{commands:?}");
    assert!(tenants.counted("inet", "the guest has enough flows") >= dropped, "it was replaced");
    tenants.spec = own;
    tenants.forget_flows_of_m1();
    begin_flows(&tenants, 200);
    assert_eq!(tenants.flows_of_m1(), 32);
    tenants.nobody_is_harmed("with limits of its own");
}

/// Of the host's ports towards one server a guest gets some, and the host has
/// others to itself.
#[test]
fn the_ports_towards_a_server_are_not_one_guests() {
    let mut tenants = Tenants::new("new_flows = 100000\nflows = 32768");
    let uplink = Capture::start(&tenants.lab.world.hypervisor, "uplink0").unwrap();
    let link = tenants.link();
    let ends: [(IpAddr, IpAddr); 2] =
        [(tenants.v4().into(), address::FAR.into()), (tenants.v6().into(), address::FAR6.into())];
    for (own, far) in ends {
        uplink.clear();
        for port in 1024..=20_000u16 {
            let source = SocketAddr::new(own, port);
            let payload = b"each port";
            tenants.inject(&udp(link, Udp { source, destination: SocketAddr::new(far, 53), payload }));
        }
        let mut ports: Vec<u16> = uplink
            .frames()
            .iter()
            // Not the errors about them.
            .filter(|frame| frame[if far.is_ipv4() { 23 } else { 20 }] == protocol::UDP)
            .filter(|frame| contains(frame, b"each port"))
            .map(|frame| {
                let at = if far.is_ipv4() { 34 } else { 54 };
                u16::from_be_bytes([frame[at], frame[at + 1]])
            })
            .collect();
        ports.sort_unstable();
        let (first, last) = (ports[0], ports[ports.len() - 1]);
        assert!(ports.len() > 100, "{} seen", ports.len());
        assert!(last < 32768, "{last} is one of the host's own");
        assert!(last - first < 7936, "{first} to {last} is more than a part");
        let most = tenants.flows_of_m1();
        assert!(most <= 2 * 7936, "{most} ports in use");
    }
    tenants.nobody_is_harmed("while a guest has all the ports that it gets");
    for (whose, netns) in [("the neighbour", tenants.n1.netns()), ("another network", tenants.b1.netns())] {
        for (_, far) in ends {
            let answered = (0..20)
                .filter(|_| probe(netns, Probe::Udp(SocketAddr::new(far, 7)), DEFAULT_TIMEOUT).is_allowed());
            assert_eq!(answered.count(), 20, "{whose} to {far}");
        }
    }
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
