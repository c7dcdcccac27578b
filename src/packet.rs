//! What is in a packet's headers: families of addresses, ranges of them, and
//! the numbers and prefixes that are the same everywhere (IANA's registries).

pub mod prefix;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;

/// The numbers of protocols, which IPv6 calls next headers.
pub mod protocol {
    /// IPv6's hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4's listeners to groups.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6's fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6's destination options.
    pub const DESTINATION: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// Types of ICMP's messages (RFC 792, RFC 1256).
pub mod icmp {
    /// The destination can't be reached; also path MTU discovery's answer.
    pub const UNREACHABLE: u8 = 3;
    /// Another router is nearer.
    pub const REDIRECT: u8 = 5;
    /// An echo request.
    pub const ECHO: u8 = 8;
    /// A router advertises itself.
    pub const ROUTER_ADVERTISEMENT: u8 = 9;
    /// A packet went by too many hops, or its fragments came too late.
    pub const TIME_EXCEEDED: u8 = 11;
    /// A header is wrong.
    pub const PARAMETER: u8 = 12;
}

/// Types of ICMPv6's messages (RFC 4443; what isn't from there names its own).
pub mod icmpv6 {
    /// The destination can't be reached.
    pub const UNREACHABLE: u8 = 1;
    /// A packet is larger than a link: path MTU discovery's answer.
    pub const TOO_BIG: u8 = 2;
    /// A packet went by too many hops, or its fragments came too late.
    pub const TIME_EXCEEDED: u8 = 3;
    /// A header is wrong.
    pub const PARAMETER: u8 = 4;
    /// An echo request.
    pub const ECHO: u8 = 128;
    /// Who listens to a group? (RFC 2710)
    pub const LISTENER_QUERY: u8 = 130;
    /// Somebody listens (RFC 2710).
    pub const LISTENER_REPORT: u8 = 131;
    /// Somebody doesn't any more (RFC 2710).
    pub const LISTENER_DONE: u8 = 132;
    /// Which routers are there? (RFC 4861)
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// A router advertises itself (RFC 4861).
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Who has an address? (RFC 4861)
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// A neighbour has an address (RFC 4861).
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Another router is nearer (RFC 4861).
    pub const REDIRECT: u8 = 137;
    /// Routers get other prefixes (RFC 2894).
    pub const RENUMBERING: u8 = 138;
    /// A question to a node about itself, and its answer (RFC 4620).
    pub const NODE_INFORMATION: [u8; 2] = [139, 140];
    /// Whose link-layer address is that, and the answer (RFC 3122).
    pub const INVERSE_DISCOVERY: [u8; 2] = [141, 142];
    /// Somebody listens, and to what (RFC 3810).
    pub const LISTENER_REPORT_2: u8 = 143;
    /// A router's certificates are asked for, and sent (RFC 3971).
    pub const CERTIFICATION_PATH: [u8; 2] = [148, 149];
    /// Routers of groups: advertisement, solicitation, end (RFC 4286).
    pub const GROUP_ROUTERS: [u8; 3] = [151, 152, 153];
}

/// The type of IGMP's message by which routers ask who listens (RFC 3376).
pub const IGMP_QUERY: u8 = 0x11;

/// The ports that rules tell apart on every host.
pub mod port {
    /// DNS.
    pub const DNS: u16 = 53;
    /// Where DHCP's servers listen (RFC 2131).
    pub const DHCP_SERVER: u16 = 67;
    /// Where DHCP's clients listen (RFC 2131).
    pub const DHCP_CLIENT: u16 = 68;
    /// HTTP.
    pub const HTTP: u16 = 80;
    /// Where DHCPv6's clients listen (RFC 8415).
    pub const DHCPV6_CLIENT: u16 = 546;
    /// Where DHCPv6's servers listen (RFC 8415).
    pub const DHCPV6_SERVER: u16 = 547;
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "4")]
    V4,
    /// IPv6.
    #[serde(rename = "6")]
    V6,
}

/// Addresses as numbers of one family, both ends included.
pub type Range = (u128, u128);

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// What is IPv4's, or what is IPv6's.
    pub fn pick<T>(self, [v4, v6]: [T; 2]) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// How long an address is.
    pub const fn bits(self) -> u32 {
        match self {
            Self::V4 => Ipv4Addr::BITS,
            Self::V6 => Ipv6Addr::BITS,
        }
    }

    /// The highest address.
    pub const fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    /// The address of a number; the highest where it is none of the family's.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Self::V6 => Ipv6Addr::from(number).into(),
        }
    }

    /// A range as it is written: an address, a prefix, or both ends.
    pub fn text(self, (first, last): Range) -> String {
        if first == last {
            return self.address(first).to_string();
        }
        // A prefix's length in addresses is a power of two, and begins at a
        // multiple of it; the whole of IPv6 wraps to 0.
        let size = last.wrapping_sub(first).wrapping_add(1);
        let host_bits = if size == 0 { 128 } else { size.trailing_zeros() };
        let prefix = size == 0 || (size.is_power_of_two() && first.trailing_zeros() >= host_bits);
        if prefix {
            format!("{}/{}", self.address(first), self.bits().saturating_sub(host_bits))
        } else {
            format!("{}-{}", self.address(first), self.address(last))
        }
    }

    /// A prefix's addresses; none where it is the other family's.
    pub fn range(self, net: &IpNet) -> Option<Range> {
        (Self::of(net.addr()) == self).then(|| range(net))
    }

    /// The protocol of an echo request.
    pub const fn icmp(self) -> u8 {
        match self {
            Self::V4 => protocol::ICMP,
            Self::V6 => protocol::ICMPV6,
        }
    }

    /// The types of an echo request and its reply (RFC 792, RFC 4443).
    pub const fn echo(self) -> (u8, u8) {
        match self {
            Self::V4 => (8, 0),
            Self::V6 => (128, 129),
        }
    }

    /// The UDP port where clients of DHCP listen.
    pub const fn dhcp_client(self) -> u16 {
        match self {
            Self::V4 => port::DHCP_CLIENT,
            Self::V6 => port::DHCPV6_CLIENT,
        }
    }
}

/// An address as a number of its family.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// A prefix's addresses.
pub fn range(net: &IpNet) -> Range {
    (number(net.network()), number(net.broadcast()))
}

/// Whether an address is of one link alone (RFC 4291). IPv4's are ordinary ones
/// to a host: the clouds' metadata services are among them.
pub fn is_link_local6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_addresses_are_the_same_thing() {
        for text in ["0.0.0.0", "10.1.0.2", "255.255.255.255", "::", "fd00:0:0:1::2", "ffff::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(Family::of(address).address(number(address)), address);
        }
        assert_eq!(Family::V4.address(u128::MAX).to_string(), "255.255.255.255");
        for (family, all) in Family::ALL.into_iter().zip(["0.0.0.0/0", "::/0"]) {
            let all: IpNet = all.parse().unwrap();
            assert_eq!(family.range(&all), Some((0, family.last())));
            assert_eq!(family.last().count_ones(), family.bits());
        }
        assert_eq!(Family::V4.range(&"::/0".parse().unwrap()), None);
        assert_eq!(Family::V6.range(&"0.0.0.0/0".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn a_range_has_what_its_prefix_has(base: u32, length in 0u8..=32, other: u32) {
            let net = IpNet::new(Ipv4Addr::from(base).into(), length).unwrap();
            let (first, last) = range(&net);
            let other = IpAddr::from(Ipv4Addr::from(other));
            prop_assert_eq!((first..=last).contains(&number(other)), net.contains(&other));
        }
    }
}
