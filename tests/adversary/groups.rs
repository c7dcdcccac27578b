//! Frames to a group whose packets are for one host. Where br_netfilter hands
//! frames to the inet table, they are tracked, and kept, before any rule there.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hostctl::testbed::frames::{Link, Udp, contains, protocol, tcp_syn, udp};
use hostctl::testbed::{Capture, DEFAULT_TIMEOUT, Options, Probe, address, probe};

use crate::adversary::tenants::Tenants;
use crate::spoofing::craft::{PLAIN, icmp, icmp6, ipv4_frame, ipv6_frame};

/// Everybody, and groups of either family.
const GROUPS: [[u8; 6]; 5] = [
    [0xff; 6],
    [0x01, 0x00, 0x5e, 0, 0, 1],
    [0x33, 0x33, 0, 0, 0, 1],
    [0x33, 0x33, 0xff, 0, 0, 2],
    [0x03, 0, 0, 0, 0, 1],
];

fn options(bridged: bool) -> Options {
    Options { bridge_nf_call_iptables: Some(bridged), ..Options::default() }
}

#[test]
fn a_frame_to_a_group_is_no_way_to_anybody() {
    for bridged in [true, false] {
        let mut tenants = Tenants::with("", options(bridged));
        let uplink = Capture::start(&tenants.lab.world.hypervisor, "uplink0").unwrap();
        let peers: [IpAddr; 6] = [
            address::FAR.into(),
            address::FAR6.into(),
            tenants.b1.v4,
            tenants.b1.v6.unwrap(),
            tenants.n1.v4,
            tenants.n1.v6.unwrap(),
        ];
        let before = tenants.tracked();
        for group in GROUPS {
            let link = Link { source: tenants.mac(), destination: group };
            for (number, far) in (0u16..).zip(peers) {
                let own: IpAddr = if far.is_ipv4() { tenants.v4().into() } else { tenants.v6().into() };
                let (source, destination) = (SocketAddr::new(own, 4000 + number), SocketAddr::new(far, 9));
                tenants.inject(&udp(link, Udp { source, destination, payload: b"to a group" }));
                tenants.inject(&tcp_syn(link, source, SocketAddr::new(far, 80)));
                let echo = match (own, far) {
                    (IpAddr::V4(own), IpAddr::V4(far)) => {
                        let body = icmp(8, 0, [0, 9, 0, 1], b"to a group");
                        ipv4_frame(link, own, far, protocol::ICMP, &PLAIN, &body)
                    }
                    (IpAddr::V6(own), IpAddr::V6(far)) => {
                        let body = icmp6(own, far, 128, 0, &[0, 9, 0, 1]);
                        ipv6_frame(link, own, far, protocol::ICMPV6, &body)
                    }
                    other => unreachable!("{other:?}"),
                };
                tenants.inject(&echo);
            }
            // To a group as the packet says too, but for no neighbour discovery.
            let everybody = SocketAddr::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(), 9);
            let source = SocketAddr::new(tenants.v6().into(), 9);
            tenants.inject(&udp(link, Udp { source, destination: everybody, payload: b"to a group" }));
        }
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(tenants.tracked(), before, "bridge-nf-call-iptables {bridged}: it is tracked");
        let seen = uplink.frames().into_iter().filter(|frame| contains(frame, b"to a group")).count();
        assert_eq!(seen, 0, "bridge-nf-call-iptables {bridged}: it left");
        tenants.nobody_is_harmed("after frames to groups");
        // Its neighbours are still found.
        for far in [address::FAR.into(), address::FAR6.into(), tenants.n1.v4, tenants.n1.v6.unwrap()] {
            let verdict = probe(tenants.m1.netns(), Probe::Tcp(SocketAddr::new(far, 80)), DEFAULT_TIMEOUT);
            assert!(verdict.is_allowed(), "bridge-nf-call-iptables {bridged}: {far}: {verdict}");
        }
    }
}

/// What a guest sends from its link-local address reaches its network's
/// gateway, and no guest: a policy judges addresses that can't be chosen.
#[test]
fn a_link_local_source_is_never_routed() {
    for bridged in [true, false] {
        let tenants = Tenants::with("", options(bridged));
        let neighbour = Capture::start(tenants.n1.netns(), "eth0").unwrap();
        let own = tenants.link_local();
        let IpAddr::V6(n1) = tenants.n1.v6.unwrap() else { unreachable!() };
        let n1_local = hostctl::topology::link_local(tenants.topology.vm("n1").unwrap().port.mac);
        let to_neighbour =
            Link { source: tenants.mac(), destination: tenants.topology.vm("n1").unwrap().port.mac.octets() };
        for link in [tenants.link(), to_neighbour] {
            for far in [n1, n1_local] {
                let (source, destination) =
                    (SocketAddr::new(own.into(), 4000), SocketAddr::new(far.into(), 9));
                tenants.inject(&udp(link, Udp { source, destination, payload: b"link-local" }));
            }
            // To a link-local address it isn't either.
            let (source, destination) =
                (SocketAddr::new(tenants.v6().into(), 4000), SocketAddr::new(n1_local.into(), 9));
            tenants.inject(&udp(link, Udp { source, destination, payload: b"link-local" }));
        }
        std::thread::sleep(Duration::from_millis(300));
        let seen = neighbour.frames().into_iter().filter(|frame| contains(frame, b"link-local")).count();
        assert_eq!(seen, 0, "bridge-nf-call-iptables {bridged}");
    }
}
