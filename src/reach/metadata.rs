//! The addresses at which clouds serve their metadata, the host's credentials
//! among it.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

/// What no guest reaches but where `imds` says so: the clouds' services (AWS,
/// Google, Azure, Oracle, Alibaba, Scaleway), what else of link-local is
/// nobody's business, and IPv4 addresses in IPv6's clothes (RFC 4291, 2.5.5,
/// and RFC 2765; of NAT64's, RFC 6052, and 6to4's, RFC 3056, those of the same
/// services; of NAT64's own, RFC 8215, all: where the address is in it, is the
/// operator's choice).
const METADATA: [&str; 16] = [
    "169.254.0.0/16",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "fd00:42::42/128",
    "fd00:c1::a9fe:a9fe/128",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
    "fe80::/10",
    "::/64",
    "64:ff9b::6464:64c8/128",
    "64:ff9b::a83f:8110/128",
    "64:ff9b::a9fe:0/112",
    "64:ff9b:1::/48",
    "2002:6464:64c8::/48",
    "2002:a83f:8110::/48",
    "2002:a9fe::/32",
];

/// The services themselves, which `imds = "host"` lets guests reach.
const SERVICES: [&str; 6] = [
    "169.254.169.254/32",
    "100.100.100.200/32",
    "fd00:42::42/128",
    "fd00:c1::a9fe:a9fe/128",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
];

static PREFIXES: LazyLock<Vec<IpNet>> = LazyLock::new(|| nets(&METADATA));
static SERVED: LazyLock<Vec<IpNet>> = LazyLock::new(|| nets(&SERVICES));

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// The prefixes that no guest reaches but where `imds` says so.
pub fn metadata() -> &'static [IpNet] {
    &PREFIXES
}

/// Whether an address is in one of [`metadata`]'s prefixes.
pub fn is_metadata(address: IpAddr) -> bool {
    PREFIXES.iter().any(|prefix| prefix.contains(&address))
}

/// Whether a metadata service answers at an address.
pub fn is_metadata_service(address: IpAddr) -> bool {
    SERVED.iter().any(|prefix| prefix.contains(&address))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The elements of a set that is the same on every host.
    fn elements(set: &str) -> BTreeSet<IpNet> {
        let template = include_str!("../../templates/ruleset.nft.hbs");
        let set = template.split(&format!("set {set} {{")).nth(1).unwrap();
        let list = set.split("elements = {").nth(1).unwrap().split('}').next().unwrap();
        let net = |text: &str| text.parse().unwrap_or_else(|_| IpNet::from(text.parse::<IpAddr>().unwrap()));
        list.split(',').map(|element| net(element.trim())).collect()
    }

    #[test]
    fn the_ruleset_says_the_same() {
        let both = |a, b| elements(a).into_iter().chain(elements(b)).collect::<BTreeSet<_>>();
        assert_eq!(metadata().iter().copied().collect::<BTreeSet<_>>(), both("metadata4", "metadata6"));
        assert_eq!(SERVED.iter().copied().collect::<BTreeSet<_>>(), both("imds4", "imds6"));
        assert_eq!((metadata().len(), SERVED.len()), (METADATA.len(), SERVICES.len()));
    }
}
