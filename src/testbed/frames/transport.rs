//! UDP, TCP's first segment, ICMP echo: whole frames of either family.

use std::net::{IpAddr, SocketAddr};

use super::ip::{put_checksum, put_plain_checksum};
use crate::packet::Family;

use super::{Link, ethernet, ethertype, ipv4, ipv6, protocol};

/// A UDP datagram's two ends and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp<'a> {
    /// Where it says it comes from.
    pub source: SocketAddr,
    /// Where it goes; of the same family.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

impl Udp<'_> {
    /// The datagram with its header, without IP's.
    pub fn segment(&self) -> Vec<u8> {
        let length = u16::try_from(8 + self.payload.len()).unwrap_or(u16::MAX);
        let mut segment = [
            self.source.port().to_be_bytes().as_slice(),
            &self.destination.port().to_be_bytes(),
            &length.to_be_bytes(),
            &[0, 0],
            self.payload,
        ]
        .concat();
        put_checksum(&mut segment, 6, self.source.ip(), self.destination.ip(), protocol::UDP);
        segment
    }
}

/// A frame with a UDP datagram.
pub fn udp(link: Link, datagram: Udp<'_>) -> Vec<u8> {
    let (source, destination) = (datagram.source.ip(), datagram.destination.ip());
    packet(link, source, destination, protocol::UDP, &datagram.segment())
}

/// A frame with a TCP SYN.
pub fn tcp_syn(link: Link, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut segment = [
        source.port().to_be_bytes().as_slice(),
        &destination.port().to_be_bytes(),
        &[0x42, 0x42, 0x42, 0x42, 0, 0, 0, 0], // sequence and acknowledgement
        &[0x50, 0x02],                         // five words of header, SYN
        &[0xff, 0xff, 0, 0, 0, 0],             // window, checksum, urgent pointer
    ]
    .concat();
    put_checksum(&mut segment, 16, source.ip(), destination.ip(), protocol::TCP);
    packet(link, source.ip(), destination.ip(), protocol::TCP, &segment)
}

/// A frame with an ICMP or ICMPv6 echo request. `source` and `destination`
/// are of the same family.
pub fn icmp_echo(link: Link, source: IpAddr, destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    let (kind, _) = Family::of(source).echo();
    let mut message = [[kind, 0, 0, 0, 0x42, 0x42, 0, 1].as_slice(), payload].concat();
    if source.is_ipv4() {
        put_plain_checksum(&mut message, 2);
        packet(link, source, destination, protocol::ICMP, &message)
    } else {
        put_checksum(&mut message, 2, source, destination, protocol::ICMPV6);
        packet(link, source, destination, protocol::ICMPV6, &message)
    }
}

/// IPv4 where both ends are; else IPv6, an IPv4 end as a mapped address.
fn packet(link: Link, source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let v6 = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet(link, ethertype::IPV4, &ipv4(source, destination, protocol, payload))
        }
        _ => ethernet(link, ethertype::IPV6, &ipv6(v6(source), v6(destination), protocol, payload)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv6Header, PacketHeaders, TransportHeader};

    const LINK: Link = Link::broadcast([2, 0, 0, 0, 0, 1]);

    /// The transport header of a frame, and its checksum computed by the
    /// parser's own crate from the parsed addresses.
    fn checksums(frame: &[u8]) -> (u16, u16) {
        let parsed = PacketHeaders::from_ethernet_slice(frame).unwrap();
        let payload = parsed.payload.slice();
        let net = parsed.net.unwrap();
        let (v4, v6) = (net.ipv4_ref().map(|ip| ip.0.clone()), net.ipv6_ref().map(|ip| ip.0.clone()));
        if let Some(ip) = &v4 {
            assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
        }
        match (parsed.transport.unwrap(), v4, v6) {
            (TransportHeader::Udp(udp), Some(ip), _) => {
                (udp.checksum, udp.calc_checksum_ipv4(&ip, payload).unwrap())
            }
            (TransportHeader::Udp(udp), _, Some(ip)) => {
                (udp.checksum, udp.calc_checksum_ipv6(&ip, payload).unwrap())
            }
            (TransportHeader::Tcp(tcp), Some(ip), _) => {
                (tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).unwrap())
            }
            (TransportHeader::Tcp(tcp), _, Some(ip)) => {
                (tcp.checksum, tcp.calc_checksum_ipv6(&ip, payload).unwrap())
            }
            (TransportHeader::Icmpv4(icmp), ..) => (icmp.checksum, icmp.icmp_type.calc_checksum(payload)),
            (TransportHeader::Icmpv6(icmp), _, Some(ip)) => {
                let again = Icmpv6Header::with_checksum(icmp.icmp_type, ip.source, ip.destination, payload);
                (icmp.checksum, again.unwrap().checksum)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_implementation_agrees_on_every_checksum() {
        let ends: [(IpAddr, IpAddr); 2] = [
            ("10.1.0.2".parse().unwrap(), "203.0.113.1".parse().unwrap()),
            ("fd00:1::2".parse().unwrap(), "2001:db8::1".parse().unwrap()),
        ];
        for (source, destination) in ends {
            for payload in [b"".as_slice(), b"odd", b"even"] {
                let (from, to) = (SocketAddr::new(source, 4000), SocketAddr::new(destination, 53));
                for frame in [
                    udp(LINK, Udp { source: from, destination: to, payload }),
                    tcp_syn(LINK, from, to),
                    icmp_echo(LINK, source, destination, payload),
                ] {
                    let (ours, theirs) = checksums(&frame);
                    assert_eq!(ours, theirs, "{source} {payload:?}");
                    assert_ne!(ours, 0);
                }
            }
        }
    }
}
