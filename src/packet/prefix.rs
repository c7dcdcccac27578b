//! Prefixes and addresses that mean the same on every host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The tailnet's addresses: shared ones (RFC 6598), and Tailscale's of the
/// unique local ones.
pub const TAILNET4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
/// As [`TAILNET4`].
pub const TAILNET6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0), 48);
/// Both.
pub const TAILNET: [IpNet; 2] = [IpNet::V4(TAILNET4), IpNet::V6(TAILNET6)];

/// Where most clouds serve their metadata.
pub const IMDS4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where AWS does for IPv6.
pub const IMDS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// What else the clouds' metadata services are called by (Azure's and
/// Alibaba's; Google's and Scaleway's).
pub const OTHER_IMDS4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
/// As [`OTHER_IMDS4`].
pub const OTHER_IMDS6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)];

/// IPv6 addresses that nobody has who is reached by them: IETF's own (RFC 4291).
pub const RESERVED6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 8);

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
const METADATA_SERVICES: [&str; 6] = [
    "169.254.169.254/32",
    "100.100.100.200/32",
    "fd00:42::42/128",
    "fd00:c1::a9fe:a9fe/128",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
];

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

/// Those of them in which people have machines.
const INHABITED: [&str; 5] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// What examples are written with (RFC 5737, RFC 3849).
const DOCUMENTATION: [&str; 4] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"];

static METADATA_NETS: LazyLock<Vec<IpNet>> = LazyLock::new(|| nets(&METADATA));
static SERVICE_NETS: LazyLock<Vec<IpNet>> = LazyLock::new(|| nets(&METADATA_SERVICES));
static PRIVATE_NETS: LazyLock<Vec<IpNet>> = LazyLock::new(|| nets(&PRIVATE));
static INHABITED_NETS: LazyLock<Vec<IpNet>> = LazyLock::new(|| nets(&INHABITED));
static DOCUMENTATION_NETS: LazyLock<Vec<IpNet>> = LazyLock::new(|| nets(&DOCUMENTATION));

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// The prefixes that no guest reaches but where `imds` says so.
pub fn metadata() -> &'static [IpNet] {
    &METADATA_NETS
}

/// Where metadata services answer, which `imds = "host"` lets guests reach.
pub fn metadata_services() -> &'static [IpNet] {
    &SERVICE_NETS
}

/// The prefixes that are private wherever a host is.
pub fn private() -> &'static [IpNet] {
    &PRIVATE_NETS
}

/// Those of [`private`] in which people have machines.
pub fn inhabited() -> &'static [IpNet] {
    &INHABITED_NETS
}

/// The prefixes of examples.
pub fn documentation() -> &'static [IpNet] {
    &DOCUMENTATION_NETS
}

/// Whether an address is in one of [`metadata`]'s prefixes.
pub fn is_metadata(address: IpAddr) -> bool {
    holds(metadata(), address)
}

/// Whether a metadata service answers at an address.
pub fn is_metadata_service(address: IpAddr) -> bool {
    holds(metadata_services(), address)
}

/// Whether an address is in one of [`private`]'s prefixes.
pub fn is_private(address: IpAddr) -> bool {
    holds(private(), address)
}

fn holds(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_prefixes_parse() {
        let lists = [
            (metadata(), &METADATA as &[&str]),
            (metadata_services(), &METADATA_SERVICES),
            (private(), &PRIVATE),
            (inhabited(), &INHABITED),
            (documentation(), &DOCUMENTATION),
        ];
        for (parsed, texts) in lists {
            assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
            assert!(parsed.iter().all(|net| net.trunc() == *net));
        }
        assert!(inhabited().iter().all(|net| private().contains(net)));
        assert!(metadata_services().iter().all(|net| is_metadata(net.addr())));
        for address in [IpAddr::V4(IMDS4), IpAddr::V6(IMDS6)] {
            assert!(is_metadata_service(address), "{address}");
        }
        let others = OTHER_IMDS4.map(IpAddr::V4).into_iter().chain(OTHER_IMDS6.map(IpAddr::V6));
        assert!(others.into_iter().all(is_metadata));
        assert!(TAILNET.iter().all(|net| private().iter().any(|private| private.contains(net))));
    }

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
        assert_eq!(metadata_services().iter().copied().collect::<BTreeSet<_>>(), both("imds4", "imds6"));
    }
}
