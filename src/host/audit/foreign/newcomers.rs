//! Guests that may come: a network with none, or one, is judged as if it had
//! two. What would drop their packets is worth knowing before they are there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use crate::spec::MacAddr;
use crate::spec::NamespaceName;
use crate::topology::{IfName, Namespace, Network, Port, PortV6, Subnet, Topology};

/// The topology, with guests that may come.
pub(super) fn with_newcomers(topology: &Topology) -> Topology {
    let mut all = topology.clone();
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    for port in topology.ports() {
        taken.insert(port.address.into());
        taken.extend(port.v6.as_ref().map(|v6| IpAddr::V6(v6.address)));
    }
    for network in &topology.networks {
        let there = topology.ports().filter(|port| port.network == network.name).count();
        for subnet in network.subnets.iter().cycle().take(2_usize.saturating_sub(there)) {
            let number = u16::try_from(all.namespaces.len()).unwrap_or(u16::MAX);
            let Some(port) = newcomer(network, subnet, number, &mut taken) else { continue };
            let name = NamespaceName::of(&network.name, &subnet.name);
            all.namespaces.push(Namespace { name, port, routes: Vec::new() });
        }
    }
    all
}

fn newcomer(network: &Network, subnet: &Subnet, number: u16, taken: &mut BTreeSet<IpAddr>) -> Option<Port> {
    let address = subnet
        .cidr
        .hosts()
        .find(|address| *address != network.gateway && !taken.contains(&IpAddr::V4(*address)))?;
    taken.insert(address.into());
    let v6 = subnet.cidr6.zip(network.gateway6).and_then(|(net, gateway)| {
        let free = |address: &Ipv6Addr| *address != gateway && !taken.contains(&IpAddr::V6(*address));
        let address = net.hosts().skip(1).find(free)?;
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, number);
        Some(PortV6 { address, prefix: net.prefix_len(), gateway, link_local })
    });
    taken.extend(v6.as_ref().map(|v6| IpAddr::V6(v6.address)));
    let [high, low] = number.to_be_bytes();
    let mac = MacAddr::local([0, 0, 0, high, low]);
    Some(Port {
        interface: IfName::new(format!("guest{number}")).ok()?,
        altname: None,
        network: network.name.clone(),
        subnet: subnet.name.clone(),
        bridge: network.bridge.clone(),
        mac,
        address,
        prefix: subnet.cidr.prefix_len(),
        gateway: network.gateway,
        v6,
    })
}
