//! A proof's packet as bytes. What a proof doesn't say is nothing to the rules, and
//! is chosen here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Unreplayed;
use crate::packet::Family;
use crate::packet::protocol::{FRAGMENT, ICMP, ICMPV6, TCP, UDP};
use crate::prove::{Packet, Stop};
use crate::reach::subject::{Field, Kind, depth, fragment, state};

/// A packet that is sent.
pub struct Sent {
    /// With its Ethernet header.
    pub frame: Vec<u8>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Whether the host sends it.
    pub by_host: bool,
}

const ETHERNET: usize = 14;

/// RFC 3376; RFC 3692.
const IGMP: u8 = 2;
const EXPERIMENT: u8 = 253;

/// Whom an address stands for that nothing is said of.
const SOURCE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77)),
];
const DESTINATION: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x77)),
];
const SOURCE_MAC: u128 = 0x0200_0000_0099;

/// Longer than a frame.
const LONG: usize = 1600;

impl Sent {
    /// Without the Ethernet header.
    pub fn packet(&self) -> &[u8] {
        self.frame.get(ETHERNET..).unwrap_or_default()
    }

    /// Its frame's source, as nft writes it.
    pub fn source_mac(&self) -> String {
        let octets = self.frame.get(6..12).unwrap_or_default();
        octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
    }
}

/// The bytes of a packet that comes in at a link with this MAC.
///
/// # Errors
/// Where it needs a flow, or more than one packet.
pub fn of(packet: &Packet, own: [u8; 6]) -> Result<Sent, Unreplayed> {
    let number = |field, otherwise: u128| if packet.says(field) { packet.value(field) } else { otherwise };
    let family = packet.family();
    let refuse = |refused: bool, why| if refused { Err(Unreplayed::Unsent(why)) } else { Ok(()) };
    refuse(number(Field::State, state::NEW) != state::NEW, "it is of no new flow")?;
    let flow = [Field::Reply, Field::Confirmed, Field::Translated];
    refuse(flow.iter().any(|field| number(*field, 0) != 0), "it is of a flow that is there")?;
    refuse(number(Field::Limits, 0) != 0, "it is beyond a limit")?;
    refuse(packet.link.as_deref() == Some("lo"), "what comes in by the loopback the host has sent")?;
    let hops = is_routed(packet) && packet.value(Field::HopLimit) == u128::from(u8::MAX);
    refuse(hops, "what is routed has no hop limit of 255")?;
    refuse(packet.stop == Stop::PastPort, "the kernel takes it off before any port")?;
    let other = |link: &Option<String>| link.as_deref().is_some_and(|link| link.starts_with("another link"));
    refuse(other(&packet.out) || other(&packet.link), "its link has taken another's name")?;
    let source = family.address(number(Field::Source, crate::packet::number(family.pick(SOURCE))));
    let to = family.pick(DESTINATION);
    let destination = family.address(number(Field::Destination, crate::packet::number(to)));
    let at_port = packet.stop == Stop::Port;
    let to_mac = if at_port { number(Field::DestinationMac, mac_number(own)) } else { mac_number(own) };
    let ether: u16 = match packet.kind {
        Kind::Ipv4 => 0x0800,
        Kind::Ipv6 => 0x86dd,
        Kind::Arp => 0x0806,
        // Local experiments (IEEE 802).
        Kind::Other => 0x88b5,
    };
    let payload = match packet.kind {
        Kind::Ipv4 | Kind::Ipv6 => ip(packet, source, destination)?,
        Kind::Arp => arp(packet, source, destination),
        Kind::Other => vec![0; 46],
    };
    let mut frame = mac(to_mac).to_vec();
    frame.extend(mac(number(Field::SourceMac, SOURCE_MAC)));
    frame.extend(ether.to_be_bytes());
    frame.extend(payload);
    Ok(Sent { frame, source, destination, by_host: packet.link.is_none() })
}

fn mac(number: u128) -> [u8; 6] {
    let [.., a, b, c, d, e, f] = number.to_be_bytes();
    [a, b, c, d, e, f]
}

fn mac_number(mac: [u8; 6]) -> u128 {
    mac.into_iter().fold(0, |sum, octet| (sum << 8) | u128::from(octet))
}

/// The last two bytes of a number.
fn short(number: u128) -> [u8; 2] {
    let [.., high, low] = number.to_be_bytes();
    [high, low]
}

fn low(number: u128) -> u8 {
    let [.., low] = number.to_be_bytes();
    low
}

/// RFC 826.
fn arp(packet: &Packet, source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let malformed = packet.value(Field::Malformed);
    let wrong = |bit: u128| malformed & bit != 0;
    let number = |field, otherwise: u128| if packet.says(field) { packet.value(field) } else { otherwise };
    let mut bytes = vec![0, if wrong(1) { 9 } else { 1 }];
    bytes.extend(if wrong(2) { [0x86, 0xdd] } else { [8, 0] });
    bytes.extend([if wrong(4) { 8 } else { 6 }, if wrong(8) { 16 } else { 4 }]);
    bytes.extend(short(number(Field::Operation, 1)));
    bytes.extend(mac(number(Field::SenderMac, SOURCE_MAC)));
    bytes.extend(octets(source));
    bytes.extend([0; 6]);
    bytes.extend(octets(destination));
    bytes.resize(46, 0);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn ip(packet: &Packet, source: IpAddr, destination: IpAddr) -> Result<Vec<u8>, Unreplayed> {
    let number = |field, otherwise: u128| if packet.says(field) { packet.value(field) } else { otherwise };
    let depth = number(Field::Depth, depth::TARGET);
    // Of a protocol that has no ports nobody reads any.
    let any = if depth < self::depth::PORTS { EXPERIMENT } else { UDP };
    let protocol = low(number(Field::Protocol, any.into()));
    let piece = number(Field::Fragment, fragment::NONE);
    // RFC 8200, 4.1; RFC 4302.
    let goes_on = packet.kind == Kind::Ipv6 && [0, 43, FRAGMENT, 51, 60].contains(&protocol);
    if depth == self::depth::NOTHING || goes_on {
        return Err(Unreplayed::Unsent("its headers have no end"));
    }
    let reads = [Field::Depth, Field::SourcePort, Field::DestinationPort, Field::Target];
    if packet.kind == Kind::Ipv6 && piece == fragment::LATER && reads.iter().any(|field| packet.says(*field))
    {
        return Err(Unreplayed::Unsent("of IPv6's later fragments rules read the packet's first bytes"));
    }
    let mut segment = segment(packet, protocol);
    // What nobody reads needn't be cut off.
    let kind = segment.first().copied().unwrap_or(0);
    let read = match protocol {
        TCP | UDP => self::depth::PORTS,
        ICMPV6 if [135, 136].contains(&kind) => self::depth::TARGET,
        ICMP | ICMPV6 | IGMP => self::depth::TYPE,
        _ => self::depth::PROTOCOL,
    };
    let is_cut = depth < read;
    if is_cut && packet.stop != Stop::Port {
        return Err(Unreplayed::Unsent("what is cut off is of no flow to the kernel"));
    }
    if is_cut {
        segment.truncate(match depth {
            self::depth::PROTOCOL => 0,
            self::depth::TYPE => 2,
            _ => 8,
        });
    }
    if number(Field::Long, 0) != 0 {
        segment.resize(LONG, 0);
    }
    if !is_cut && piece != fragment::LATER && segment.len() < LONG {
        checksum(&mut segment, protocol, source, destination);
    }
    match Family::of(source) {
        Family::V4 => Ok(ipv4((source, destination), protocol, piece, &segment)),
        Family::V6 => Ok(ipv6(packet, (source, destination), protocol, piece, &segment)),
    }
}

/// A transport segment: its ports, or its type and code, and what follows.
fn segment(packet: &Packet, protocol: u8) -> Vec<u8> {
    let number = |field, otherwise: u128| if packet.says(field) { packet.value(field) } else { otherwise };
    let is_message = [ICMP, ICMPV6, IGMP].contains(&protocol);
    // An echo request, where no type is said.
    let echo: u128 = if protocol == ICMPV6 { 128 << 8 } else { 8 << 8 };
    let first = if is_message { echo } else { 40_000 };
    let mut bytes = short(number(Field::SourcePort, first)).to_vec();
    let second = if is_message { 0 } else { number(Field::DestinationPort, 9) };
    bytes.extend(short(second));
    match protocol {
        TCP => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]),
        UDP => bytes.extend([0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        // Neighbour discovery: whom it is about follows four bytes.
        _ => {
            bytes.extend([0; 4]);
            bytes.extend(number(Field::Target, 0).to_be_bytes());
        }
    }
    bytes
}

/// RFC 1071, over the pseudo-header where the protocol has one.
fn checksum(segment: &mut [u8], protocol: u8, source: IpAddr, destination: IpAddr) {
    let place = match protocol {
        TCP => 16,
        UDP => 6,
        ICMP | ICMPV6 | IGMP => 2,
        _ => return,
    };
    let mut words = Vec::new();
    if ![ICMP, IGMP].contains(&protocol) {
        words.extend(octets(source));
        words.extend(octets(destination));
        words.extend([0, protocol]);
        words.extend(short(segment.len() as u128));
    }
    if let Some([high, low]) = segment.get_mut(place..place + 2) {
        (*high, *low) = (0, 0);
    }
    words.extend(&*segment);
    let sum = sum(&words);
    // UDP says with 0 that there is none.
    let sum = if protocol == UDP && sum == 0 { u16::MAX } else { sum };
    if let Some(bytes) = segment.get_mut(place..place + 2) {
        bytes.copy_from_slice(&sum.to_be_bytes());
    }
}

fn sum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2).map(|pair| {
        let (high, low) = (pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0));
        u32::from(u16::from_be_bytes([high, low]))
    });
    let mut sum: u32 = pairs.sum();
    while sum > u32::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// Where a piece lies, in units of eight bytes, and whether more follow.
const LATER: u16 = 100;

fn ipv4((source, destination): (IpAddr, IpAddr), protocol: u8, piece: u128, segment: &[u8]) -> Vec<u8> {
    let place: u16 = match piece {
        fragment::FIRST => 0x2000,
        fragment::LATER => LATER,
        _ => 0,
    };
    let mut header = vec![0x45, 0];
    header.extend(short(20 + segment.len() as u128));
    header.extend([0x42, 0x42]);
    header.extend(place.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(octets(source));
    header.extend(octets(destination));
    let sum = sum(&header).to_be_bytes();
    if let Some(bytes) = header.get_mut(10..12) {
        bytes.copy_from_slice(&sum);
    }
    header.extend(segment);
    header
}

/// The hop limit with which it is judged; one less than that with which it came,
/// where it is routed (`ip6_forward`).
fn hops(packet: &Packet) -> u8 {
    let judged = if packet.says(Field::HopLimit) { low(packet.value(Field::HopLimit)) } else { 64 };
    judged.saturating_add(u8::from(is_routed(packet)))
}

fn is_routed(packet: &Packet) -> bool {
    packet.stop == Stop::Out && packet.link.is_some()
}

fn ipv6(
    packet: &Packet,
    (source, destination): (IpAddr, IpAddr),
    protocol: u8,
    piece: u128,
    segment: &[u8],
) -> Vec<u8> {
    let hops = hops(packet);
    let mut payload = Vec::new();
    let mut next = protocol;
    if piece != fragment::NONE {
        let place: u16 = if piece == fragment::FIRST { 1 } else { LATER << 3 };
        payload.extend([protocol, 0]);
        payload.extend(place.to_be_bytes());
        payload.extend([0, 0, 0x42, 0x42]);
        next = FRAGMENT;
    }
    payload.extend(segment);
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(short(payload.len() as u128));
    bytes.extend([next, hops]);
    bytes.extend(octets(source));
    bytes.extend(octets(destination));
    bytes.extend(payload);
    bytes
}
