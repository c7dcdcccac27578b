//! What isn't the public internet: guests reach it only where their network
//! says so.

use ipnet::IpNet;

use crate::packet::prefix;
use crate::topology::Topology;

/// All that no guest reaches by an uplink unless something says so: what is
/// private, the prefixes `on_link` of the uplinks themselves, the metadata
/// services, and what the host denies. Apart from each other, in order.
pub fn closed(topology: &Topology, on_link: &[IpNet]) -> Vec<IpNet> {
    let all = prefix::private().iter().chain(prefix::metadata()).chain(on_link).chain(&topology.deny);
    IpNet::aggregate(&all.copied().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn what_is_closed_overlaps_nowhere() {
        let mut topology = Topology::empty();
        topology.deny = ["192.168.1.0/24", "8.8.8.0/24", "9.0.0.0/8"].map(|net| net.parse().unwrap()).into();
        let closed = closed(&topology, &["198.51.100.0/24".parse().unwrap()]);
        let covers = |address: &str| {
            closed.iter().filter(|net| net.contains(&address.parse::<IpAddr>().unwrap())).count()
        };
        for address in
            ["192.168.1.1", "8.8.8.8", "198.51.100.7", "169.254.169.254", "fd00:ec2::254", "9.1.2.3"]
        {
            assert_eq!(covers(address), 1, "{address}");
        }
        for address in ["203.0.113.1", "2001:db8::1", "1.1.1.1"] {
            assert_eq!(covers(address), 0, "{address}");
        }
    }
}
