//! What a rogue DHCP server says (RFC 2131, RFC 8415): payloads for UDP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BROADCAST, Link, Udp, udp};

/// A DHCPOFFER from a server that isn't one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dhcp4Offer {
    /// Server and router to be.
    pub server: Ipv4Addr,
    /// The address offered.
    pub offered: Ipv4Addr,
    /// Whom it is offered to.
    pub client_mac: [u8; 6],
    /// The transaction it claims to answer.
    pub transaction: u32,
}

impl Dhcp4Offer {
    /// As a broadcast frame, UDP port 67 to 68.
    pub fn frame(&self, source_mac: [u8; 6]) -> Vec<u8> {
        let payload = [
            [2, 1, 6, 0].as_slice(), // BOOTREPLY, Ethernet, six bytes of MAC
            &self.transaction.to_be_bytes(),
            &[0, 0, 0x80, 0], // no seconds; broadcast
            &[0; 4],
            &self.offered.octets(),
            &self.server.octets(),
            &[0; 4],
            &self.client_mac,
            &[0; 10 + 64 + 128],
            &[0x63, 0x82, 0x53, 0x63], // the magic cookie
            &[53, 1, 2],               // DHCPOFFER
            &[54, 4],
            &self.server.octets(),
            &[51, 4, 0, 0, 0x0e, 0x10], // lease of an hour
            &[1, 4, 255, 255, 255, 0],
            &[3, 4],
            &self.server.octets(),
            &[255],
        ]
        .concat();
        let datagram = Udp {
            source: SocketAddr::new(self.server.into(), 67),
            destination: SocketAddr::new(Ipv4Addr::BROADCAST.into(), 68),
            payload: &payload,
        };
        udp(Link { source: source_mac, destination: BROADCAST }, datagram)
    }
}

/// A DHCPv6 REPLY from a server that isn't one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dhcp6Reply {
    /// The server's link-local address.
    pub server: Ipv6Addr,
    /// The client's.
    pub client: Ipv6Addr,
    /// The address it is given.
    pub address: Ipv6Addr,
    /// The transaction it claims to answer; the low 24 bits count.
    pub transaction: u32,
}

impl Dhcp6Reply {
    /// As a frame, UDP port 547 to 546.
    pub fn frame(&self, link: Link) -> Vec<u8> {
        let [_, transaction @ ..] = self.transaction.to_be_bytes();
        let hour = 3600u32.to_be_bytes();
        // A DUID of type 3: Ethernet, MAC.
        let duid = |mac: [u8; 6]| [[0, 3, 0, 1].as_slice(), &mac].concat();
        let lease = option(5, &[self.address.octets().as_slice(), &hour, &hour].concat());
        let payload = [
            [7].as_slice(), // REPLY
            &transaction,
            &option(1, &duid(link.destination)),
            &option(2, &duid(link.source)),
            &option(3, &[[0, 0, 0, 1].as_slice(), &hour, &hour, &lease].concat()),
        ]
        .concat();
        let datagram = Udp {
            source: SocketAddr::new(self.server.into(), 547),
            destination: SocketAddr::new(self.client.into(), 546),
            payload: &payload,
        };
        udp(link, datagram)
    }
}

fn option(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    [kind.to_be_bytes().as_slice(), &length.to_be_bytes(), value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketHeaders, TransportHeader};

    fn ports(frame: &[u8]) -> (u16, u16, usize) {
        let parsed = PacketHeaders::from_ethernet_slice(frame).unwrap();
        let Some(TransportHeader::Udp(udp)) = parsed.transport else { panic!("no UDP") };
        (udp.source_port, udp.destination_port, parsed.payload.slice().len())
    }

    #[test]
    fn an_offer_has_the_cookie_where_bootp_ends() {
        let mac = [2, 0, 0, 0, 0, 9];
        let offer = Dhcp4Offer {
            server: [10, 1, 0, 9].into(),
            offered: [10, 1, 0, 77].into(),
            client_mac: mac,
            transaction: 7,
        };
        let frame = offer.frame(mac);
        let (source, destination, length) = ports(&frame);
        assert_eq!((source, destination), (67, 68));
        let payload = &frame[frame.len() - length..];
        assert_eq!(payload[236..240], [0x63, 0x82, 0x53, 0x63]);
        assert_eq!(payload[16..20], [10, 1, 0, 77]);
        assert_eq!(payload[28..34], mac);
    }

    #[test]
    fn a_reply_goes_from_server_to_client_port() {
        let link = Link { source: [2, 0, 0, 0, 0, 9], destination: [2, 0, 0, 0, 0, 1] };
        let reply = Dhcp6Reply {
            server: "fe80::9".parse().unwrap(),
            client: "fe80::1".parse().unwrap(),
            address: "fd00:1::77".parse().unwrap(),
            transaction: 0x0012_3456,
        };
        let frame = reply.frame(link);
        let (source, destination, length) = ports(&frame);
        assert_eq!((source, destination), (547, 546));
        assert_eq!(frame[frame.len() - length..][..4], [7, 0x12, 0x34, 0x56]);
    }
}
