//! The host's routes to guests: the kernel makes them with the bridges'
//! addresses, and anybody may take them away or add others. Pure.

use ipnet::IpNet;

use crate::firewall::Severity;
use crate::link;
use crate::topology::Topology;

use super::{Finding, Kind};

/// Guests' prefixes that aren't routed to their bridges.
pub(super) fn routes(topology: &Topology, links: &link::Observed) -> Vec<Finding> {
    let mut findings = Vec::new();
    let finding = |object, found, expected, command| Finding {
        severity: Severity::Warning,
        kind: Kind::Foreign,
        object,
        found,
        expected,
        remedy:
            "guests' packets, or the answers to them, go elsewhere: find out who changes the host's routes"
                .into(),
        commands: vec![command],
    };
    for network in &topology.networks {
        let bridge = network.bridge.as_str();
        let Some(link) = links.links.get(bridge).filter(|link| link.is_ours() && link.up) else { continue };
        // Without its address, that is what is missing.
        for address in &link.addresses {
            let prefix = address.trunc();
            if is_guests(network, prefix) && !link.routes.contains(&prefix) {
                let source = match address {
                    IpNet::V4(address) => format!(" src {}", address.addr()),
                    IpNet::V6(_) => String::new(),
                };
                findings.push(finding(
                    format!("route to {prefix}"),
                    "not there".into(),
                    format!("by {bridge}"),
                    format!("ip route add {prefix} dev {bridge} proto kernel{source}"),
                ));
            }
        }
    }
    let foreign = links.links.iter().filter(|(_, link)| !link.is_ours());
    for (name, prefix) in
        foreign.flat_map(|(name, link)| link.routes.iter().map(move |prefix| (name, *prefix)))
    {
        if topology.networks.iter().any(|network| is_within(network, prefix)) {
            findings.push(finding(
                format!("route to {prefix}"),
                format!("by {name}"),
                "guests' addresses by their bridge alone".into(),
                format!("ip route del {prefix} dev {name}"),
            ));
        }
    }
    findings
}

fn is_guests(network: &crate::topology::Network, prefix: IpNet) -> bool {
    prefix == IpNet::V4(network.cidr) || network.cidr6.is_some_and(|cidr| prefix == IpNet::V6(cidr))
}

fn is_within(network: &crate::topology::Network, prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(prefix) => network.cidr.contains(&prefix),
        IpNet::V6(prefix) => network.cidr6.is_some_and(|cidr| cidr.contains(&prefix)),
    }
}
