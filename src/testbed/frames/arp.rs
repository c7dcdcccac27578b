//! ARP (RFC 826).

use std::net::Ipv4Addr;

use super::{Link, ethernet, ethertype};

/// An ARP packet; every field says what the sender likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1: request, 2: reply.
    pub operation: u16,
    /// Whose address is told.
    pub sender_mac: [u8; 6],
    /// The address told.
    pub sender: Ipv4Addr,
    /// Zero in a request.
    pub target_mac: [u8; 6],
    /// The address asked for.
    pub target: Ipv4Addr,
}

impl Arp {
    /// "Who has `target`? Tell `sender`."
    pub const fn request(sender_mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self { operation: 1, sender_mac, sender, target_mac: [0; 6], target }
    }

    /// "`sender` is at `sender_mac`."
    pub const fn reply(sender_mac: [u8; 6], sender: Ipv4Addr, target_mac: [u8; 6], target: Ipv4Addr) -> Self {
        Self { operation: 2, sender_mac, sender, target_mac, target }
    }
}

/// An ARP frame. The link's source needn't be the ARP sender's.
pub fn arp(link: Link, arp: Arp) -> Vec<u8> {
    // Ethernet, IPv4, and the lengths of their addresses.
    let fixed = [0, 1, 8, 0, 6, 4];
    let payload = [
        fixed.as_slice(),
        &arp.operation.to_be_bytes(),
        &arp.sender_mac,
        &arp.sender.octets(),
        &arp.target_mac,
        &arp.target.octets(),
    ]
    .concat();
    ethernet(link, ethertype::ARP, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{ArpEthIpv4Packet, NetSlice, SlicedPacket};

    #[test]
    fn a_parser_reads_it_back() {
        let mac = [2, 0, 0, 0, 0, 1];
        let frame = arp(Link::broadcast(mac), Arp::request(mac, [10, 1, 0, 2].into(), [10, 1, 0, 1].into()));
        let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Arp(packet)) = parsed.net else { panic!("no ARP in {parsed:?}") };
        let packet = ArpEthIpv4Packet::try_from(packet.to_packet()).unwrap();
        assert_eq!(packet.sender_ipv4, [10, 1, 0, 2]);
        assert_eq!(packet.target_ipv4, [10, 1, 0, 1]);
        assert_eq!(packet.sender_mac, mac);
    }
}
