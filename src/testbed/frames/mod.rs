//! Raw frames, honest and otherwise, with correct checksums unless a test
//! breaks them itself.
//!
//! The layers nest: `ethernet(link, IPV4, &ipv4(source, destination, UDP,
//! &udp(…)))`. What is made whole are the frames that a hostile guest sends.

mod arp;
mod bridging;
mod dhcp;
mod ip;
mod neighbour;
mod transport;

pub use crate::packet::protocol;
pub use arp::{Arp, arp};
pub use bridging::{bpdu, double_tagged, lldp, tagged, unknown_ethertype};
pub use dhcp::{Dhcp4Offer, Dhcp6Reply};
pub use ip::{ExtensionHeader, Ipv4Fragment, ipv4, ipv4_fragments, ipv6, ipv6_behind, ipv6_hop_limit};
pub use neighbour::{
    NdOption, neighbor_advertisement, neighbor_solicitation, redirect, router_advertisement,
    router_solicitation, solicited_node, solicited_node_mac,
};
pub use transport::{Udp, icmp_echo, tcp_syn, udp};

use etherparse::{EtherType, Ethernet2Header};

/// EtherTypes (IEEE 802's registry).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// A VLAN tag, 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// An outer VLAN tag, 802.1ad.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// Local experiments (IEEE 802): means nothing to anyone.
    pub const EXPERIMENTAL: u16 = 0x88b5;
    /// LLDP.
    pub const LLDP: u16 = 0x88cc;
}

/// The group address of everyone.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Who sends a frame to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its source MAC.
    pub source: [u8; 6],
    /// Its destination MAC.
    pub destination: [u8; 6],
}

impl Link {
    /// A frame from `source` to everyone.
    pub const fn broadcast(source: [u8; 6]) -> Self {
        Self { source, destination: BROADCAST }
    }
}

/// An Ethernet II frame.
pub fn ethernet(link: Link, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let Link { source, destination } = link;
    let header = Ethernet2Header { source, destination, ether_type: EtherType(ethertype) };
    [&header.to_bytes(), payload].concat()
}

/// The EtherType of a frame, behind its VLAN tags.
pub fn ethertype_of(frame: &[u8]) -> Option<u16> {
    let mut rest = frame.get(12..)?;
    loop {
        let (&[high, low], after) = rest.split_first_chunk::<2>()?;
        match u16::from_be_bytes([high, low]) {
            ethertype::VLAN | ethertype::SERVICE_VLAN => rest = after.get(2..)?,
            other => return Some(other),
        }
    }
}

/// Whether `needle` occurs anywhere in a frame: a payload no one else sends.
pub fn contains(frame: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && frame.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ethertype_is_behind_the_tags() {
        let link = Link::broadcast([2, 0, 0, 0, 0, 1]);
        let frame = ethernet(link, ethertype::IPV4, &[0; 20]);
        assert_eq!(ethertype_of(&frame), Some(ethertype::IPV4));
        assert_eq!(ethertype_of(&double_tagged(&frame, 5, 6)), Some(ethertype::IPV4));
        assert_eq!(ethertype_of(&frame[..13]), None);
    }

    #[test]
    fn an_empty_needle_is_nowhere() {
        assert!(!contains(b"abc", b""));
        assert!(contains(b"abc", b"bc"));
        assert!(!contains(b"abc", b"abcd"));
    }
}
