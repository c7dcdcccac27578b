//! The testbed measures hostctl; these measure the testbed.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostctl::testbed::address::{
    FAR, FAR6, LAPTOP, LAPTOP6, METADATA, METADATA_TWINS, METADATA_TWINS6, METADATA6, ROUTER, ROUTER6,
    TAILSCALE, TAILSCALE6, UPLINK, UPLINK6,
};
use hostctl::testbed::frames::{self, Arp, Link, Udp};
use hostctl::testbed::{
    Capture, Connection, DEFAULT_TIMEOUT, FakeGuest, Netns, Options, Probe, Route, Service, Tap, Verdict,
    World, http_get, probe, probe_all, probe_all_within, probe_from, usual_services,
};
use hostctl::topology::{IfName, MacAddr, Name, Port, PortV6, link_local};

const SOON: Duration = Duration::from_secs(3);

/// Loads rules into the namespace that `netns` is.
fn nft(netns: &Netns, rules: &str) {
    netns.run(|| {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{rules}");
    });
}

fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// The detail of an allowed verdict.
fn allowed(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Allowed { detail } => detail,
        other => panic!("not allowed: {other}"),
    }
}

/// The reason of a rejected verdict.
fn rejected(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Rejected { how } => how,
        other => panic!("not rejected: {other}"),
    }
}

fn assert_unsent(verdict: &Verdict) {
    assert!(matches!(verdict, Verdict::Unsent { .. }), "{verdict}");
}

/// A guest's port on `br-t`, with the gateways 10.7.0.1 and fd00:7::1.
fn port(name: &str, tail: u8) -> Port {
    let mac = MacAddr::local([0, 0, 0, 7, tail]);
    Port {
        interface: IfName::new(format!("vm-{name}")).unwrap(),
        altname: None,
        network: Name::new("t").unwrap(),
        subnet: Name::new("t").unwrap(),
        bridge: IfName::new("br-t").unwrap(),
        mac,
        address: Ipv4Addr::new(10, 7, 0, tail),
        prefix: 24,
        gateway: Ipv4Addr::new(10, 7, 0, 1),
        v6: Some(PortV6 {
            address: format!("fd00:7::{tail:x}").parse().unwrap(),
            prefix: 64,
            gateway: "fd00:7::1".parse().unwrap(),
            link_local: link_local(mac),
        }),
    }
}

/// A namespace with the bridge of [`port`].
fn with_bridge() -> Netns {
    let host = Netns::new().unwrap();
    add_bridge(&host);
    host
}

fn add_bridge(host: &Netns) {
    host.links(async |links| {
        links.add_bridge("br-t").await?;
        links.up("br-t").await?;
        links.add_address("br-t", "10.7.0.1/24".parse().unwrap()).await?;
        links.add_address("br-t", "fd00:7::1/64".parse().unwrap()).await
    })
    .unwrap();
}

#[test]
fn the_hypervisor_reaches_the_internet_over_both_families() {
    let world = World::new(Options::default()).unwrap();
    let targets: [(IpAddr, IpAddr); 4] = [
        (ROUTER.into(), UPLINK.into()),
        (FAR.into(), UPLINK.into()),
        (ROUTER6.into(), UPLINK6.into()),
        (FAR6.into(), UPLINK6.into()),
    ];
    let mut probes = Vec::new();
    for (target, _) in targets {
        let all = [Probe::Tcp(at(target, 80)), Probe::Udp(at(target, 7)), Probe::Icmp(target)];
        probes.extend(all.map(|probe| (world.hypervisor.clone(), probe)));
    }
    let verdicts = probe_all(&probes);
    for ((target, us), verdicts) in targets.iter().zip(verdicts.chunks(3)) {
        for verdict in &verdicts[..2] {
            let seen: SocketAddr = allowed(verdict).strip_prefix("internet peer=").unwrap().parse().unwrap();
            assert_eq!(seen.ip(), *us);
        }
        assert_eq!(allowed(&verdicts[2]), format!("echo reply from {target}"));
    }
    assert!(world.seen("internet", 80).iter().any(|peer| peer.ip() == UPLINK));
}

#[test]
fn the_metadata_service_and_its_twins_answer() {
    let world = World::new(Options::default()).unwrap();
    let v4 = [METADATA].into_iter().chain(METADATA_TWINS).map(IpAddr::from);
    let v6 = [METADATA6].into_iter().chain(METADATA_TWINS6).map(IpAddr::from);
    for address in v4.chain(v6) {
        let get = |path| http_get(&world.hypervisor, at(address, 80), path, SOON);
        assert_eq!(get("/latest/meta-data/instance-id").unwrap(), "i-0123456789abcdef0", "{address}");
        assert!(get("/nothing").unwrap_err().to_string().contains("404"));
    }
}

#[test]
fn the_laptop_and_the_host_reach_each_other_by_the_tailnet_only() {
    let world = World::new(Options::default()).unwrap();
    let _services = usual_services(&world.hypervisor, "host").unwrap();
    let capture = Capture::start(&world.hypervisor, "tailscale0").unwrap();
    let pairs: [(&Netns, IpAddr, &str); 4] = [
        (&world.laptop, TAILSCALE.into(), "host"),
        (&world.laptop, TAILSCALE6.into(), "host"),
        (&world.hypervisor, LAPTOP.into(), "laptop"),
        (&world.hypervisor, LAPTOP6.into(), "laptop"),
    ];
    for (from, to, name) in pairs {
        for what in [Probe::Tcp(at(to, 22)), Probe::Udp(at(to, 7))] {
            let verdict = probe(from, what, SOON);
            assert!(allowed(&verdict).starts_with(&format!("{name} peer=")), "{what}: {verdict}");
        }
        assert!(probe(from, Probe::Icmp(to), SOON).is_allowed(), "{to}");
    }
    // A tunnel has no neighbours to resolve.
    assert!(capture.wait_for(|frame| frame.len() > 14, SOON).is_some());
    let arp = |frame: &[u8]| frames::ethertype_of(frame) == Some(frames::ethertype::ARP);
    capture.none_within(arp, Duration::ZERO).unwrap();
    // Subnet routes lead to the hypervisor, the internet nowhere.
    assert_unsent(&probe(&world.laptop, Probe::Tcp(at(FAR, 80)), SOON));
}

#[test]
fn a_world_without_ipv6_and_tailnet_has_neither() {
    let options = Options { ipv6: false, tailnet: false, bridge_nf_call_iptables: Some(false) };
    let world = World::new(options).unwrap();
    assert!(probe(&world.hypervisor, Probe::Tcp(at(FAR, 80)), SOON).is_allowed());
    assert_unsent(&probe(&world.hypervisor, Probe::Tcp(at(FAR6, 80)), SOON));
    assert!(world.hypervisor.ifindex("tailscale0").is_err());
    assert_ne!(world.bridge_nf_call_iptables(), Some(true));
    // The other value, in another world.
    let options = Options { bridge_nf_call_iptables: Some(true), ..options };
    assert_ne!(World::new(options).unwrap().bridge_nf_call_iptables(), Some(false));
}

#[test]
fn drops_and_rejects_are_told_apart_for_every_protocol_and_family() {
    let world = World::new(Options::default()).unwrap();
    nft(
        &world.internet,
        "table inet t {
           chain input {
             type filter hook input priority filter;
             ip daddr 203.0.113.1 drop
             ip6 daddr 2001:db8:113::1 drop
             tcp dport 1001 reject with tcp reset
             meta l4proto { tcp, udp } th dport 1002 reject with icmpx admin-prohibited
             meta l4proto { tcp, udp } th dport 1003 reject with icmpx host-unreachable
             icmp type echo-request reject with icmp admin-prohibited
             icmpv6 type echo-request reject with icmpv6 admin-prohibited
           }
         }",
    );
    let here = || world.hypervisor.clone();
    let dropped: Vec<_> = [IpAddr::from(FAR), IpAddr::from(FAR6)]
        .into_iter()
        .flat_map(|far| [Probe::Tcp(at(far, 80)), Probe::Udp(at(far, 7)), Probe::Icmp(far)])
        .map(|probe| (here(), probe))
        .collect();
    let start = Instant::now();
    assert_eq!(probe_all(&dropped), vec![Verdict::Dropped; 6]);
    assert!(start.elapsed() < DEFAULT_TIMEOUT * 3, "six drops took {:?}", start.elapsed());

    for router in [IpAddr::from(ROUTER), IpAddr::from(ROUTER6)] {
        let host_unreachable = if router.is_ipv4() { "host-unreachable" } else { "address-unreachable" };
        let expected = [
            (Probe::Tcp(at(router, 999)), "tcp reset"),
            (Probe::Udp(at(router, 999)), "port-unreachable"),
            (Probe::Tcp(at(router, 1001)), "tcp reset"),
            (Probe::Tcp(at(router, 1002)), "admin-prohibited"),
            (Probe::Udp(at(router, 1002)), "admin-prohibited"),
            (Probe::Tcp(at(router, 1003)), host_unreachable),
            (Probe::Udp(at(router, 1003)), host_unreachable),
            (Probe::Icmp(router), "admin-prohibited"),
        ];
        let verdicts = probe_all(&expected.map(|(probe, _)| (here(), probe)));
        for ((what, expected), verdict) in expected.iter().zip(&verdicts) {
            let how = rejected(verdict);
            assert!(how.contains(expected), "{what}: {how}");
            assert!(*expected == "tcp reset" || how.ends_with(&format!("from {router}")), "{what}: {how}");
        }
        assert!(probe(&world.hypervisor, Probe::Tcp(at(router, 80)), SOON).is_allowed());
    }
}

#[test]
fn an_output_chain_that_drops_is_a_drop() {
    let world = World::new(Options::default()).unwrap();
    nft(&world.hypervisor, "table inet t { chain o { type filter hook output priority 0; policy drop; }; }");
    for far in [IpAddr::from(FAR), IpAddr::from(FAR6)] {
        for what in [Probe::Tcp(at(far, 80)), Probe::Udp(at(far, 7)), Probe::Icmp(far)] {
            assert_eq!(probe(&world.hypervisor, what, DEFAULT_TIMEOUT), Verdict::Dropped, "{what}");
        }
    }
}

#[test]
fn a_neighbour_that_does_not_answer_is_a_drop() {
    let world = World::new(Options::default()).unwrap();
    // Longer than the three seconds after which the kernel gives up.
    let patience = Duration::from_millis(4500);
    let absent: [IpAddr; 2] = ["198.51.100.77".parse().unwrap(), "2001:db8:51::77".parse().unwrap()];
    let probes: Vec<_> = absent
        .into_iter()
        .flat_map(|to| [Probe::Tcp(at(to, 80)), Probe::Udp(at(to, 7)), Probe::Icmp(to)])
        .map(|probe| (world.hypervisor.clone(), probe))
        .collect();
    assert_eq!(probe_all_within(&probes, patience), vec![Verdict::Dropped; 6]);
}

#[test]
fn a_probe_that_cannot_be_sent_says_so() {
    let alone = Netns::new().unwrap();
    for what in [Probe::Tcp(at(FAR, 80)), Probe::Udp(at(FAR, 7)), Probe::Icmp(FAR.into())] {
        assert_unsent(&probe(&alone, what, DEFAULT_TIMEOUT));
    }
    let world = World::new(Options::default()).unwrap();
    let not_ours = Some("10.9.9.9".parse().unwrap());
    assert_unsent(&probe_from(&world.hypervisor, not_ours, Probe::Tcp(at(FAR, 80)), DEFAULT_TIMEOUT));
    // From another address of its own, which the service then sees.
    world
        .hypervisor
        .links(async |links| links.add_address("uplink0", "198.51.100.3/24".parse().unwrap()).await)
        .unwrap();
    let other: IpAddr = "198.51.100.3".parse().unwrap();
    for what in [Probe::Tcp(at(FAR, 80)), Probe::Udp(at(FAR, 7))] {
        let verdict = probe_from(&world.hypervisor, Some(other), what, SOON);
        assert!(allowed(&verdict).contains(&format!("peer={other}:")), "{verdict}");
    }
    assert!(probe_from(&world.hypervisor, Some(other), Probe::Icmp(FAR.into()), SOON).is_allowed());
}

#[test]
fn a_packet_that_was_not_masqueraded_is_seen_and_not_answered() {
    let world = World::new(Options::default()).unwrap();
    let source: IpAddr = "10.8.0.1".parse().unwrap();
    world.hypervisor.links(async |links| links.add_address("lo", source.into()).await).unwrap();
    let capture = Capture::start(&world.internet, "eth0").unwrap();
    let far = Probe::Tcp(at(FAR, 80));
    let verdict = probe_from(&world.hypervisor, Some(source), far, Duration::from_millis(400));
    assert_eq!(verdict, Verdict::Dropped);
    let from_private = |frame: &[u8]| frame.get(26..30) == Some(&[10, 8, 0, 1]);
    assert!(capture.wait_for(from_private, SOON).is_some());
    assert_eq!(world.seen("internet", 80), []);
}

#[test]
fn a_flow_lives_until_its_packets_are_dropped() {
    let world = World::new(Options::default()).unwrap();
    let mut flow = Connection::open(&world.hypervisor, at(FAR, 80), SOON).unwrap();
    assert!(flow.greeting().contains(&flow.local_address().unwrap().to_string()));
    assert!(flow.still_alive(SOON));
    nft(&world.internet, "table inet t { chain i { type filter hook input priority 0; policy drop; }; }");
    assert!(!flow.still_alive(Duration::from_millis(300)));
    nft(&world.internet, "delete table inet t");
    assert!(flow.still_alive(SOON));
}

#[test]
fn a_guest_reaches_its_gateway_through_the_port_only() {
    let host = with_bridge();
    let port = port("a", 2);
    assert!(FakeGuest::attach(&host, &port).is_err(), "there is no such TAP yet");
    let guest = FakeGuest::attach_to_new_port(&host, &port).unwrap();
    let _services = (guest.serve("a").unwrap(), usual_services(&host, "host").unwrap());
    let v6 = port.v6.clone().unwrap();
    for gateway in [IpAddr::from(port.gateway), v6.gateway.into()] {
        for what in [Probe::Tcp(at(gateway, 22)), Probe::Udp(at(gateway, 7)), Probe::Icmp(gateway)] {
            let verdict = probe(guest.netns(), what, SOON);
            assert!(verdict.is_allowed(), "{what}: {verdict}");
        }
    }
    for address in [IpAddr::from(port.address), v6.address.into()] {
        let verdict = probe(&host, Probe::Tcp(at(address, 22)), SOON);
        assert!(allowed(&verdict).starts_with("a peer="), "{verdict}");
    }
    let bridge = host.ifindex("br-t").unwrap();
    let verdict = probe(&host, Probe::IcmpScoped(v6.link_local, bridge), SOON);
    assert!(verdict.is_allowed(), "{verdict}");

    // The port alone decides.
    nft(
        &host,
        "table bridge t { chain p { type filter hook prerouting priority 0; iifname \"vm-a\" drop; }; }",
    );
    let verdict = probe(guest.netns(), Probe::Icmp(port.gateway.into()), DEFAULT_TIMEOUT);
    assert_eq!(verdict, Verdict::Dropped);
}

#[test]
fn a_guest_takes_over_a_port_that_was_there_and_leaves_it_there() {
    let host = with_bridge();
    let port = port("a", 2);
    let tap = Tap::open(&host, "vm-a").unwrap();
    tap.persist().unwrap();
    host.links(async |links| {
        links.enslave("vm-a", "br-t").await?;
        links.up("vm-a").await
    })
    .unwrap();
    assert!(FakeGuest::attach(&host, &port).is_err(), "someone holds it");
    drop(tap);
    for _ in 0..2 {
        let guest = FakeGuest::attach(&host, &port).unwrap();
        let verdict = probe(guest.netns(), Probe::Icmp(port.gateway.into()), SOON);
        assert!(verdict.is_allowed(), "{verdict}");
    }
    assert!(host.ifindex("vm-a").is_ok());
}

#[test]
fn a_guest_gets_a_stream_in_frames_of_the_links_size() {
    let host = with_bridge();
    let port = port("a", 2);
    let guest = FakeGuest::attach_to_new_port(&host, &port).unwrap();
    let _services = guest.serve("a").unwrap();
    let mut reader = host.run(|| TcpStream::connect(at(port.address, 80))).unwrap();
    reader.set_read_timeout(Some(SOON)).unwrap();
    let sent: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let mut writer = reader.try_clone().unwrap();
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        received
    });
    let greeting = received.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    assert!(received[greeting..] == sent);
    assert!(guest.received().frames().iter().all(|frame| frame.len() <= 1514));
}

#[test]
fn a_guest_whose_gateway_lies_outside_its_prefix_reaches_it_on_link() {
    let host = with_bridge();
    let mut port = port("a", 2);
    (port.address, port.prefix) = (Ipv4Addr::new(10, 7, 9, 2), 32);
    if let Some(v6) = &mut port.v6 {
        (v6.address, v6.prefix) = ("fd00:7:0:9::2".parse().unwrap(), 128);
    }
    host.links(async |links| {
        for to in ["10.7.9.2/32", "fd00:7:0:9::2/128"] {
            links.add_route(Route { to: to.parse().unwrap(), via: None, dev: "br-t" }).await?;
        }
        Ok(())
    })
    .unwrap();
    let guest = FakeGuest::attach_to_new_port(&host, &port).unwrap();
    for gateway in ["10.7.0.1", "fd00:7::1"] {
        let verdict = probe(guest.netns(), Probe::Icmp(gateway.parse().unwrap()), SOON);
        assert!(verdict.is_allowed(), "{gateway}: {verdict}");
    }
}

#[test]
fn spoofed_frames_arrive_where_nothing_stops_them() {
    let host = with_bridge();
    let (a, b) = (port("a", 2), port("b", 3));
    let attacker = FakeGuest::attach_to_new_port(&host, &a).unwrap();
    let victim = FakeGuest::attach_to_new_port(&host, &b).unwrap();
    let capture = Capture::start(&host, "vm-b").unwrap();
    let link = Link { source: [2, 0xde, 0xad, 0, 0, 1], destination: b.mac.octets() };
    let marker = b"spoofed-but-delivered";
    let datagram = Udp { source: at([10, 7, 0, 99], 67), destination: at(b.address, 68), payload: marker };
    attacker.inject(&frames::udp(link, datagram)).unwrap();
    let is_marked = |frame: &[u8]| frames::contains(frame, marker);
    assert!(capture.wait_for(is_marked, SOON).is_some());
    assert!(victim.received().wait_for(is_marked, SOON).is_some());

    // Tags survive, on the wire and at the guest.
    let tagged = frames::double_tagged(&frames::udp(link, datagram), 7, 8);
    for log in [&*capture, victim.received()] {
        log.clear();
        attacker.inject(&tagged).unwrap();
        assert_eq!(log.wait_for(is_marked, SOON).as_ref(), Some(&tagged));
    }

    let gateway = Ipv4Addr::new(10, 7, 0, 1);
    let lie = Arp::reply(a.mac.octets(), gateway, b.mac.octets(), b.address);
    attacker.inject(&frames::arp(Link { source: a.mac.octets(), ..link }, lie)).unwrap();
    let is_lie = |frame: &[u8]| {
        frames::ethertype_of(frame) == Some(frames::ethertype::ARP)
            && frame.get(28..32) == Some(&[10, 7, 0, 1])
    };
    assert!(victim.received().wait_for(is_lie, SOON).is_some());

    // And where something does, their absence is provable.
    nft(
        &host,
        "table bridge t { chain p { type filter hook prerouting priority 0;
           iifname \"vm-a\" ether saddr != 02:00:00:00:07:02 drop; }; }",
    );
    capture.clear();
    attacker.inject(&frames::udp(link, datagram)).unwrap();
    capture.none_within(is_marked, Duration::from_millis(300)).unwrap();
}

#[test]
fn a_guest_reaches_the_world_when_the_host_routes_and_masquerades() {
    let world = World::new(Options::default()).unwrap();
    let host = &world.hypervisor;
    add_bridge(host);
    host.sysctl_set("net/ipv4/ip_forward", "1").unwrap();
    host.sysctl_set("net/ipv6/conf/all/forwarding", "1").unwrap();
    nft(
        host,
        "table inet t { chain p { type nat hook postrouting priority srcnat; oifname uplink0 masquerade; }; }",
    );
    let guest = FakeGuest::attach_to_new_port(host, &port("a", 2)).unwrap();
    for (far, us) in [(IpAddr::from(FAR), IpAddr::from(UPLINK)), (FAR6.into(), UPLINK6.into())] {
        let verdict = probe(guest.netns(), Probe::Udp(at(far, 7)), SOON);
        let seen: SocketAddr = allowed(&verdict).strip_prefix("internet peer=").unwrap().parse().unwrap();
        assert_eq!(seen.ip(), us);
    }
    let id = http_get(guest.netns(), at(METADATA, 80), "/latest/meta-data/instance-id", SOON);
    assert_eq!(id.unwrap(), "i-0123456789abcdef0");
    // The tailnet's subnet route leads to the guest, and its answers back.
    let _services = guest.serve("a").unwrap();
    for address in ["10.7.0.2", "fd00:7::2"] {
        let verdict = probe(&world.laptop, Probe::Tcp(at(address.parse::<IpAddr>().unwrap(), 22)), SOON);
        assert!(allowed(&verdict).starts_with("a peer="), "{verdict}");
    }
}

#[test]
fn dropping_ends_threads_services_and_descriptors() {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    // Tokio keeps a pair of descriptors for signals, for good.
    drop(World::new(Options::default()).unwrap());
    let (threads, descriptors) = (count("task"), count("fd"));
    {
        let world = World::new(Options::default()).unwrap();
        add_bridge(&world.hypervisor);
        let guest = FakeGuest::attach_to_new_port(&world.hypervisor, &port("a", 2)).unwrap();
        let _capture = Capture::start(&world.hypervisor, "vm-a").unwrap();
        let _flow = Connection::open(&world.hypervisor, at(FAR, 80), SOON).unwrap();
        assert!(probe(guest.netns(), Probe::Icmp(Ipv4Addr::new(10, 7, 0, 1).into()), SOON).is_allowed());
        assert!(count("task") > threads);
    }
    assert_eq!((count("task"), count("fd")), (threads, descriptors));
}

#[test]
fn a_service_tells_its_own_address_and_frees_it() {
    let netns = Netns::new().unwrap();
    let service = Service::tcp(&netns, "x", at(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = service.address();
    assert!(allowed(&probe(&netns, Probe::Tcp(address), SOON)).starts_with("x peer=127.0.0.1:"));
    assert_eq!(service.seen().len(), 1);
    drop(service);
    assert!(probe(&netns, Probe::Tcp(address), SOON).is_rejected());
}

#[test]
fn sysctls_outside_the_namespace_are_refused() {
    let netns = Netns::new().unwrap();
    for path in ["kernel/hostname", "net/../kernel/hostname", "/etc/passwd", "net", ""] {
        assert!(netns.sysctl_get(path).is_err(), "{path}");
    }
    assert_eq!(netns.sysctl_get("net/ipv4/ip_forward").unwrap(), "0");
}
