//! The flows that the rules are asked about: from everywhere to everywhere,
//! at every boundary that a spec draws.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hostctl::reach::{Entry, Flow};
use hostctl::testbed::address;
use hostctl::topology::Direction;
use ipnet::IpNet;

use super::scene::{Scene, TAILNET, UPLINK, addresses_of, entry, interface};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Addresses that mean something, or are next to one that does.
const PLACES: [&str; 49] = [
    "198.51.100.1",
    "203.0.113.1",
    "203.0.112.255",
    "203.0.114.0",
    "192.0.2.9",
    "10.9.0.9",
    "100.64.50.50",
    "100.128.0.1",
    "169.254.169.254",
    "169.254.1.1",
    "168.63.129.16",
    "168.63.129.17",
    "100.100.100.200",
    "2001:db8:51::1",
    "2001:db8:113::1",
    "2001:db8:9::9",
    "fd00:9::9",
    "fd7a:115c:a1e0::50",
    "fd00:ec2::254",
    "fd00:ec2::1",
    "fd20:ce::254",
    "fd00:42::42",
    "fd00:c1::a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::6464:64c8",
    "64:ff9b::a83f:8110",
    "::ffff:169.254.169.254",
    "::198.51.100.1",
    "::ffff:0:a9fe:a9fe",
    "192.0.0.9",
    "2002:7f00::1",
    "2002:a00::1",
    "2002:ac10::1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b::ac10:1",
    "fec0::7",
    "192.168.1.1",
    "192.168.7.7",
    "172.16.0.9",
    "198.18.0.9",
    "8.8.8.8",
    "fc00::7",
    "2002:c0a8:101::1",
    "64:ff9b::c0a8:101",
    "64:ff9b:1::7",
    "2002:a9fe:a9fe::1",
    "2002:6464:64c8::1",
    "2002:a83f:8110::1",
];

/// Every flow worth asking about.
pub fn flows(scene: &Scene) -> Vec<Flow> {
    let topology = &scene.topology;
    let everywhere = everywhere(scene);
    let ports = ports(scene);
    let mut flows = Vec::new();
    let guests: Vec<IpAddr> = topology.ports().flat_map(addresses_of).collect();
    for port in topology.ports() {
        let mut own: Vec<IpAddr> = addresses_of(port).collect();
        for &source in &own {
            every(&mut flows, &entry(port), source, &everywhere, &ports);
        }
        if let Some(v6) = &port.v6 {
            every(&mut flows, &entry(port), v6.link_local.into(), &everywhere, &[]);
            own.push(v6.link_local.into());
        }
        // In another's name.
        let gateways = topology.networks.iter().map(|network| network.gateway.into());
        let strangers = [address::FAR.into(), address::FAR6.into(), address::METADATA.into()];
        let forged = guests.iter().copied().chain(gateways).chain(strangers);
        for source in forged.filter(|source| !own.contains(source)) {
            every(&mut flows, &entry(port), source, &everywhere, &[]);
        }
    }
    let host: BTreeSet<IpAddr> = topology
        .networks
        .iter()
        .flat_map(|network| [Some(IpAddr::from(network.gateway)), network.gateway6.map(IpAddr::from)])
        .flatten()
        .chain([address::UPLINK.into(), address::UPLINK6.into()])
        .collect();
    for &source in &host {
        every(&mut flows, &Entry::Host, source, &everywhere, &ports);
    }
    let outside = [
        (UPLINK, address::FAR.into()),
        (UPLINK, address::FAR6.into()),
        (TAILNET, address::LAPTOP.into()),
        (TAILNET, address::LAPTOP6.into()),
        ("other0", "192.0.2.77".parse().unwrap()),
        ("other0", "2001:db8:77::77".parse().unwrap()),
    ];
    for (name, source) in outside {
        every(&mut flows, &Entry::Interface(interface(name)), source, &everywhere, &ports);
    }
    for name in [UPLINK, TAILNET, "other0"] {
        for &source in &guests {
            every(&mut flows, &Entry::Interface(interface(name)), source, &everywhere, &[]);
        }
    }
    flows
}

/// Flows of one sender to everybody of its family; to few ports where `ports`
/// is empty.
fn every(flows: &mut Vec<Flow>, entry: &Entry, source: IpAddr, to: &BTreeSet<IpAddr>, ports: &[u16]) {
    let (icmp, foreign) = if source.is_ipv4() { (ICMP, ICMPV6) } else { (ICMPV6, ICMP) };
    for &destination in to.iter().filter(|to| to.is_ipv4() == source.is_ipv4() && **to != source) {
        let mut push = |protocol, port| {
            flows.push(Flow { entry: entry.clone(), source, destination, protocol, port });
        };
        push(icmp, 0);
        if ports.is_empty() {
            push(TCP, 80);
            continue;
        }
        for protocol in [foreign, 2, 47, 132, 255] {
            push(protocol, 0);
        }
        for &port in ports {
            push(TCP, port);
            push(UDP, port);
        }
    }
}

/// Ports that the spec or the rules name, and their neighbours.
fn ports(scene: &Scene) -> Vec<u16> {
    let lists = scene.topology.policies.iter().flat_map(|policy| Direction::ALL.map(|d| policy.rules(d)));
    let ranges = lists.flatten().flat_map(|list| &list.rules).flat_map(|rule| &rule.ports);
    let mut ports: BTreeSet<u16> = ranges
        .flat_map(|range| [range.first() - 1, range.first(), range.last(), range.last().saturating_add(1)])
        .collect();
    ports.extend(scene.topology.allow_input.iter().map(|open| open.port));
    ports.extend([7, 53, 68, 80, 546, 65535]);
    ports.into_iter().collect()
}

fn everywhere(scene: &Scene) -> BTreeSet<IpAddr> {
    let topology = &scene.topology;
    let mut all: BTreeSet<IpAddr> = PLACES.iter().map(|place| place.parse().unwrap()).collect();
    all.extend(topology.ports().flat_map(addresses_of));
    all.extend(scene.vicinity.addresses.iter().map(|(_, address)| *address));
    for network in &topology.networks {
        all.insert(network.gateway.into());
        all.extend(network.gateway6.map(IpAddr::from));
        // Nobody's.
        all.insert(IpAddr::V4((u32::from(network.cidr.network()) + 250).into()));
        all.extend(network.cidr6.map(|net| IpAddr::V6((u128::from(net.network()) + 0xffff).into())));
    }
    let lists = topology.policies.iter().flat_map(|policy| Direction::ALL.map(|d| policy.rules(d)));
    let peers = lists.flatten().flat_map(|list| &list.rules).flat_map(|rule| &rule.peers).flatten();
    all.extend(peers.flat_map(edges));
    // The kernel has its own rules for these.
    let broadcasts: BTreeSet<IpAddr> = topology
        .networks
        .iter()
        .flat_map(|network| [network.cidr.network().into(), network.cidr.broadcast().into()])
        .collect();
    all.retain(|address| is_unicast(*address) && !broadcasts.contains(address));
    all
}

/// The first and the last address of a prefix, and those beside it.
fn edges(net: &IpNet) -> [IpAddr; 4] {
    match net {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            [first, last, first.saturating_sub(1), last.saturating_add(1)].map(|bits| IpAddr::V4(bits.into()))
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            [first, last, first.saturating_sub(1), last.saturating_add(1)].map(|bits| IpAddr::V6(bits.into()))
        }
    }
}

fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_loopback() && v4.octets()[0] < 224,
        IpAddr::V6(v6) => {
            !v6.is_multicast() && !v6.is_loopback() && !v6.is_unspecified() && !v6.is_unicast_link_local()
        }
    }
}
