//! Which address is whose, and which prefixes can't be a network's.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::packet::prefix;

/// Addresses that a guest can't have, with the reason; a network that
/// overlaps one is refused (IANA's special-purpose registries, RFC 6890). So is
/// one that overlaps [`prefix::metadata`]'s.
const RESERVED: [(&str, &str); 13] = [
    ("0.0.0.0/8", "\"this network\" (RFC 791)"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, where the clouds' metadata services are"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/96", "the unspecified and loopback addresses"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("64:ff9b::/96", "NAT64, another way to an IPv4 address"),
    ("64:ff9b:1::/48", "NAT64, another way to an IPv4 address"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local, deprecated"),
    ("ff00::/8", "multicast"),
    ("fd00:ec2::/32", "where a cloud's metadata services are"),
];

/// The prefixes, in the order of the list.
static RESERVED_NETS: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| RESERVED.iter().filter_map(|(text, _)| text.parse().ok()).collect());

/// Why `net` can't be a network's prefix, if it can't.
pub(super) fn reserved(net: IpNet, tailscale: bool) -> Option<String> {
    let overlaps = |other: &IpNet| net.contains(other) || other.contains(&net);
    if let Some((_, (text, what))) = RESERVED_NETS.iter().zip(RESERVED).find(|(other, _)| overlaps(other)) {
        return Some(format!("{text} is {what}"));
    }
    let metadata = prefix::metadata().iter().map(|other| (*other, "a cloud's metadata address"));
    let tailnet = tailscale.then_some(prefix::TAILNET).into_iter().flatten();
    let mut others = metadata.chain(tailnet.map(|other| (other, "the tailnet's")));
    others.find(|(other, _)| overlaps(other)).map(|(other, what)| format!("{other} is {what}"))
}

/// Whether a resolver's address can be handed to a guest.
pub(super) fn usable_resolver(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}

/// The first host address of a network: the gateway's.
pub(super) fn gateway4(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).saturating_add(1))
}

/// The first host address of a network: the gateway's. `::0` of a prefix is
/// the routers' anycast address (RFC 4291, section 2.6.1).
pub(super) fn gateway6(net: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(net.network()).saturating_add(1))
}

/// The first host address of `net`, neither its first nor below `from`, that
/// isn't taken. Bounded by the number of addresses taken, not by the prefix.
pub(super) fn first_free4(net: Ipv4Net, from: Ipv4Addr, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let start = u32::from(net.network()).checked_add(2)?.max(from.into());
    (start..u32::from(net.broadcast())).map(Ipv4Addr::from).find(|address| !taken.contains(address))
}

/// As [`first_free4`]; IPv6 has no broadcast address.
pub(super) fn first_free6(net: Ipv6Net, from: Ipv6Addr, taken: &BTreeSet<Ipv6Addr>) -> Option<Ipv6Addr> {
    let start = u128::from(net.network()).checked_add(2)?.max(from.into());
    (start..=u128::from(net.broadcast())).map(Ipv6Addr::from).find(|address| !taken.contains(address))
}

/// Why `address` can't be a guest's in `net`, if it can't: outside, network
/// or broadcast address, or the gateway's.
pub(super) fn unusable4(address: Ipv4Addr, net: Ipv4Net, gateway: Ipv4Addr) -> Option<String> {
    if !net.contains(&address) {
        Some(format!("{address} isn't in {net}"))
    } else if address == net.network() {
        Some(format!("{address} is the address of {net} itself"))
    } else if address == net.broadcast() {
        Some(format!("{address} is the broadcast address of {net}"))
    } else if address == gateway {
        Some(format!("{address} is the gateway's address"))
    } else {
        None
    }
}

/// As [`unusable4`].
pub(super) fn unusable6(address: Ipv6Addr, net: Ipv6Net, gateway: Ipv6Addr) -> Option<String> {
    if !net.contains(&address) {
        Some(format!("{address} isn't in {net}"))
    } else if address == net.network() {
        Some(format!("{address} is the routers' anycast address of {net}"))
    } else if address == gateway {
        Some(format!("{address} is the gateway's address"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_tables_parse() {
        for (text, _) in RESERVED {
            assert!(text.parse::<IpNet>().is_ok_and(|net| net.trunc() == net), "{text}");
        }
    }

    #[test]
    fn the_reserved_prefixes_parse() {
        assert_eq!(*RESERVED_NETS, RESERVED.map(|(text, _)| text.parse::<IpNet>().unwrap()));
    }

    #[test]
    fn a_network_can_neither_lie_in_nor_cover_a_reserved_prefix() {
        let reserved = |text: &str, tailscale| reserved(text.parse().unwrap(), tailscale);
        assert_eq!(reserved("127.1.0.0/16", false).as_deref(), Some("127.0.0.0/8 is loopback"));
        assert!(reserved("160.0.0.0/4", false).is_some());
        assert!(reserved("100.100.0.0/16", false).is_some());
        assert_eq!(reserved("100.64.0.0/24", true).as_deref(), Some("100.64.0.0/10 is the tailnet's"));
        assert_eq!(reserved("100.64.0.0/24", false), None);
        assert_eq!(reserved("10.0.0.0/8", true), None);
        assert!(reserved("fd00::/16", false).is_some());
        assert!(reserved("::/0", false).is_some());
        for services in
            ["fd00:c1::/64", "fd20:ce::/64", "fd00:42::42/127", "168.63.129.0/24", "100.100.100.0/24"]
        {
            assert!(reserved(services, false).is_some_and(|why| why.ends_with("a cloud's metadata address")));
        }
        assert_eq!(reserved("fd00:0:0:1::/64", true), None);
    }

    proptest! {
        #[test]
        fn free_addresses_are_usable_and_distinct(base: u32, length in 8u8..=30, count in 1usize..12) {
            let net = Ipv4Net::new(base.into(), length).unwrap().trunc();
            let mut taken = BTreeSet::new();
            for _ in 0..count {
                let Some(address) = first_free4(net, net.network(), &taken) else {
                    prop_assert_eq!(taken.len() as u32, (1u32 << (32 - length)) - 3);
                    break;
                };
                prop_assert_eq!(unusable4(address, net, gateway4(net)), None);
                prop_assert!(taken.insert(address));
            }
        }
    }
}
