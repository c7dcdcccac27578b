//! What is probed: every pair, at a sample of ports around those that random
//! policies name.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hostctl::reach::{Entry, Flow};
use hostctl::testbed::address;

use super::super::scene::{Scene, TAILNET, UPLINK, addresses_of, entry, interface};
use super::wire::EXPERIMENT;

const TCP: [u16; 6] = [19, 20, 22, 79, 80, 81];
const UDP: [u16; 7] = [7, 8, 68, 100, 200, 201, 546];

/// The probes of a host.
pub fn probes(scene: &Scene) -> Vec<Flow> {
    let topology = &scene.topology;
    let everywhere = everywhere(scene);
    let guests: Vec<IpAddr> = topology.ports().flat_map(addresses_of).collect();
    let mut flows = Vec::new();
    let mut send = |entry: &Entry, source: IpAddr, whole: bool| {
        let fits = |to: &&IpAddr| to.is_ipv4() == source.is_ipv4() && **to != source;
        for &destination in everywhere.iter().filter(fits) {
            let icmp = if source.is_ipv4() { 1 } else { 58 };
            // Connection tracking knows such a flow by its addresses alone: the
            // other way round it would be an answer.
            let experiment =
                guests.contains(&source) && guests.contains(&destination) && source < destination;
            let all = [(icmp, 0)]
                .into_iter()
                .chain(experiment.then_some((EXPERIMENT, 0)))
                .chain(TCP.map(|port| (6, port)))
                .chain(UDP.map(|port| (17, port)));
            let few = [(icmp, 0), (6, 80)];
            let services: Vec<(u8, u16)> = if whole { all.collect() } else { few.to_vec() };
            flows.extend(services.into_iter().map(|(protocol, port)| Flow {
                entry: entry.clone(),
                source,
                destination,
                protocol,
                port,
            }));
        }
    };
    for port in topology.ports() {
        let own: Vec<IpAddr> = addresses_of(port).collect();
        for &source in &own {
            send(&entry(port), source, true);
        }
        // In a neighbour's name, and in a stranger's.
        let neighbours = guests.iter().filter(|guest| !own.contains(guest)).take(2);
        for &source in neighbours.chain(&[address::FAR.into()]) {
            send(&entry(port), source, false);
        }
    }
    for network in &topology.networks {
        send(&Entry::Host, network.gateway.into(), false);
        network.gateway6.iter().for_each(|gateway| send(&Entry::Host, (*gateway).into(), false));
    }
    for source in [IpAddr::from(address::UPLINK), address::UPLINK6.into()] {
        send(&Entry::Host, source, true);
    }
    let outside: [(&str, [IpAddr; 2]); 2] = [
        (UPLINK, [address::FAR.into(), address::FAR6.into()]),
        (TAILNET, [address::LAPTOP.into(), address::LAPTOP6.into()]),
    ];
    for (name, sources) in outside {
        for source in sources {
            send(&Entry::Interface(interface(name)), source, true);
        }
        for &source in guests.iter().take(2) {
            send(&Entry::Interface(interface(name)), source, false);
        }
    }
    flows
}

/// Every address that somebody has, and one in each network that nobody has.
fn everywhere(scene: &Scene) -> BTreeSet<IpAddr> {
    let mut all: BTreeSet<IpAddr> = scene.topology.ports().flat_map(addresses_of).collect();
    all.extend(scene.vicinity.addresses.iter().map(|(_, address)| *address));
    for network in &scene.topology.networks {
        all.insert(network.gateway.into());
        all.extend(network.gateway6.map(IpAddr::from));
        all.insert(IpAddr::V4((u32::from(network.cidr.network()) + 250).into()));
        all.extend(network.cidr6.map(|net| IpAddr::V6((u128::from(net.network()) + 0xffff).into())));
    }
    all.extend([IpAddr::from(address::FAR), address::FAR6.into()]);
    all.extend([IpAddr::from(address::LAPTOP), address::LAPTOP6.into()]);
    all.extend([IpAddr::from(address::METADATA), address::METADATA6.into()]);
    all.insert(address::METADATA_TWINS[0].into());
    all
}
