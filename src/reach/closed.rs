//! What isn't the public internet: guests reach it only where their network
//! says so.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

use crate::topology::Topology;

/// Addresses of one's own network, and such as nobody on the internet has
/// (IANA's special-purpose registries, RFC 6890): private use (RFC 1918), shared
/// (RFC 6598), benchmarks (RFC 2544), unique local (RFC 4193), and the private
/// ones of IPv4 in IPv6's clothes (RFC 6052, RFC 3056).
const PRIVATE: [&str; 22] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
    "64:ff9b::a00:0/104",
    "64:ff9b::6440:0/106",
    "64:ff9b::7f00:0/104",
    "64:ff9b::ac10:0/108",
    "64:ff9b::c0a8:0/112",
    "2002:a00::/24",
    "2002:6440::/26",
    "2002:7f00::/24",
    "2002:ac10::/28",
    "2002:c0a8::/32",
    "fc00::/7",
    "fec0::/10",
    "ff00::/8",
];

static PREFIXES: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| PRIVATE.iter().filter_map(|text| text.parse().ok()).collect());

/// The prefixes that are private wherever a host is.
pub fn private() -> &'static [IpNet] {
    &PREFIXES
}

/// Those of them in which people have machines.
pub(super) fn inhabited() -> impl Iterator<Item = &'static IpNet> {
    const INHABITED: [&str; 5] =
        ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
    private().iter().filter(|net| INHABITED.contains(&net.to_string().as_str()))
}

/// Whether an address is in one of [`private`]'s prefixes.
pub fn is_private(address: IpAddr) -> bool {
    PREFIXES.iter().any(|prefix| prefix.contains(&address))
}

/// All that no guest reaches by an uplink unless something says so: what is
/// private, the prefixes `on_link` of the uplinks themselves, the metadata
/// services, and what the host denies. Apart from each other, in order.
pub fn closed(topology: &Topology, on_link: &[IpNet]) -> Vec<IpNet> {
    let all = private().iter().chain(super::metadata()).chain(on_link).chain(&topology.deny);
    IpNet::aggregate(&all.copied().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefixes_parse() {
        assert_eq!(inhabited().count(), 5);
        assert_eq!(private().len(), PRIVATE.len());
        assert!(private().iter().all(|net| net.trunc() == *net));
    }

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
