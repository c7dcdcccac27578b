//! The ways around a policy, and what must pass in spite of one: link-local
//! addresses, groups, ICMP errors, path MTU, metadata, the tailnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::support::lab::{Guest, Lab, compile};
use crate::support::spec_parts::{idle_vms, network, peering, tailnet};
use hostctl::testbed::frames::{self, Link, Udp};
use hostctl::testbed::{Netns, Probe, Verdict, address, probe_all};

/// Guests a1, a2 (of network a) and b1 (peered), with their `policy` lines.
fn spec(a1: &str, a2: &str, policies: &str) -> String {
    format!(
        concat!(
            tailnet!(),
            network!("a" 1),
            "imds = 'host'\ntailscale = true\n",
            network!("b" 2),
            peering!("a" and "b"),
            idle_vms!("a1" in "a"),
            "{a1}\n",
            idle_vms!("a2" in "a"),
            "{a2}\n",
            idle_vms!("b1" in "b"),
            "{policies}\n",
        ),
        a1 = a1,
        a2 = a2,
        policies = policies
    )
}

fn verdicts(probes: &[(&Netns, Probe)]) -> Vec<Verdict> {
    let probes: Vec<_> = probes.iter().map(|(netns, probe)| ((*netns).clone(), *probe)).collect();
    probe_all(&probes)
}

fn tcp(address: impl Into<IpAddr>, port: u16) -> Probe {
    Probe::Tcp(SocketAddr::new(address.into(), port))
}

#[test]
fn a_closed_guest_is_reached_neither_by_link_local_addresses_nor_through_groups() {
    let lab = Lab::with_bridge_netfilter(true);
    let open = spec("", "", "");
    lab.apply(&open);
    let (a1, a2) = (lab.guest(&open, "a1"), lab.guest(&open, "a2"));
    let (_, topology) = compile(&open);
    let [one, two] = ["a1", "a2"].map(|name| topology.vm(name).unwrap().port.clone());
    let [local1, local2] = [&one, &two].map(|port| port.v6.as_ref().unwrap().link_local);
    for (guest, local) in [(&a1, local1), (&a2, local2)] {
        let net = ipnet::Ipv6Net::new(local, 64).unwrap();
        let _ = guest.netns().links(async |links| links.add_address("eth0", net.into()).await);
    }
    let scope = a2.netns().ifindex("eth0").unwrap();
    let marker = b"through-a-group";
    // In a frame to the guest's own MAC, so that no bridge has to flood.
    let link = Link { source: two.mac.octets(), destination: one.mac.octets() };
    let groups: [(IpAddr, IpAddr); 5] = [
        (two.address.into(), Ipv4Addr::BROADCAST.into()),
        (two.address.into(), Ipv4Addr::new(10, 1, 0, 255).into()),
        (two.address.into(), Ipv4Addr::new(224, 0, 0, 251).into()),
        (two.v6.as_ref().unwrap().address.into(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into()),
        (local2.into(), local1.into()),
    ];
    let send = |(source, destination): (IpAddr, IpAddr)| {
        a1.guest.received().clear();
        let (source, destination) = (SocketAddr::new(source, 4000), SocketAddr::new(destination, 7));
        a2.guest.inject(&frames::udp(link, Udp { source, destination, payload: marker })).unwrap();
        let wait = Duration::from_millis(500);
        a1.guest.received().wait_for(|frame| frames::contains(frame, marker), wait).is_some()
    };
    lab.meet_on_the_bridge(&["a1", "a2"], &["br-a"]);
    // Link-local addresses and groups reach nobody, whatever the policies.
    assert_eq!(groups.map(send), [false; 5]);
    let before = [Probe::Icmp(a1.v6.unwrap()), Probe::IcmpScoped(local1, scope)];
    let before = verdicts(&before.map(|probe| (a2.netns(), probe)));
    assert_eq!(before.iter().map(Verdict::is_allowed).collect::<Vec<_>>(), [true, false], "{before:?}");

    lab.apply(&spec("policy = \"closed\"", "", "[policies.closed]\ningress = []\n"));
    lab.meet_on_the_bridge(&["a1", "a2"], &["br-a"]);
    for (group, arrived) in groups.iter().zip(groups.map(send)) {
        assert!(!arrived, "{group:?}");
    }
    let after = verdicts(&[
        (a2.netns(), Probe::IcmpScoped(local1, scope)),
        (a2.netns(), Probe::Icmp(a1.v6.unwrap())),
        // Its own flows, their replies and its neighbour discovery work.
        (a1.netns(), tcp(a2.v4, 80)),
        (a1.netns(), tcp(a2.v6.unwrap(), 80)),
    ]);
    let allowed: Vec<bool> = after.iter().map(Verdict::is_allowed).collect();
    assert_eq!(allowed, [false, false, true, true], "{after:?}");
}

#[test]
fn errors_about_allowed_flows_pass() {
    let lab = Lab::with_bridge_netfilter(true);
    let policies = "[policies.tight]\ningress = []\negress = [{ port = 9, protocol = \"udp\" }]\n";
    let spec = spec("policy = \"tight\"", "", policies);
    lab.apply(&spec);
    let (a1, a2, b1) = (lab.guest(&spec, "a1"), lab.guest(&spec, "a2"), lab.guest(&spec, "b1"));
    // Nobody listens there: the port unreachable is the answer.
    let targets = [a2.v4, a2.v6.unwrap(), b1.v4, b1.v6.unwrap()];
    let probes = targets.map(|target| (a1.netns(), Probe::Udp(SocketAddr::new(target, 9))));
    for (target, verdict) in targets.iter().zip(verdicts(&probes)) {
        assert!(matches!(verdict, Verdict::Rejected { .. }), "{target}: {verdict:?}");
    }
}

/// Sends a large datagram until as large an echo comes back.
fn echoes(guest: &Guest, server: SocketAddr) -> bool {
    let local = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let message = [b'x'; 1400];
    guest.netns().run(|| {
        let socket = UdpSocket::bind(local).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let mut answer = [0; 2048];
        (0..4).any(|_| {
            socket.send_to(&message, server).unwrap();
            socket.recv(&mut answer).is_ok_and(|length| length >= message.len())
        })
    })
}

#[test]
fn path_mtu_discovery_works_for_the_server_of_an_allowed_flow() {
    let lab = Lab::with_bridge_netfilter(true);
    let policies = "[policies.echo]\ningress = [{ port = 7, protocol = \"udp\", source = \"network:b\" }]\negress = []\n";
    let spec = spec("policy = \"echo\"", "", policies);
    lab.apply(&spec);
    let (a1, b1) = (lab.guest(&spec, "a1"), lab.guest(&spec, "b1"));
    // What goes back to b has to be fragmented; the host tells a1 so.
    lab.output("ip", &["link", "set", "br-b", "mtu", "1300"]);
    for server in [a1.v4, a1.v6.unwrap()] {
        assert!(echoes(&b1, SocketAddr::new(server, 7)), "{server}");
    }
    let too_big = a1.guest.received().frames();
    assert!(too_big.iter().any(|frame| frame.get(23) == Some(&1) && frame.get(34..36) == Some(&[3, 4])));
}

#[test]
fn metadata_and_the_tailnet_are_subject_to_policies() {
    let lab = Lab::with_bridge_netfilter(true);
    let policies = r#"
[policies.metadata]
egress = [{ destination = "169.254.169.254", port = 80, protocol = "tcp" }]
ingress = [{ source = ["100.64.0.0/10", "fd7a:115c:a1e0::/48"], port = 22, protocol = "tcp" }]
[policies.shut]
default = "deny"
"#;
    let spec = spec("policy = \"metadata\"", "policy = \"shut\"", policies);
    lab.apply(&spec);
    let (a1, a2) = (lab.guest(&spec, "a1"), lab.guest(&spec, "a2"));
    let laptop = &lab.world.laptop;
    let probes = [
        (a1.netns(), tcp(address::METADATA, 80), true),
        (a1.netns(), tcp(address::FAR, 80), false),
        (a2.netns(), tcp(address::METADATA, 80), false),
        (a2.netns(), Probe::Icmp("10.1.0.1".parse().unwrap()), false),
        (laptop, tcp(a1.v4, 22), true),
        (laptop, tcp(a1.v6.unwrap(), 22), true),
        (laptop, tcp(a1.v4, 80), false),
        (laptop, tcp(a2.v4, 22), false),
        (laptop, tcp(a2.v6.unwrap(), 22), false),
        (&lab.world.hypervisor, tcp(a2.v4, 22), false),
    ];
    let tried: Vec<_> = probes.iter().map(|(netns, probe, _)| (*netns, *probe)).collect();
    for ((_, probe, allowed), verdict) in probes.iter().zip(verdicts(&tried)) {
        assert_eq!(verdict.is_allowed(), *allowed, "{probe:?}: {verdict:?}");
    }
}
