//! A flow's first packet and its fields.

use std::net::IpAddr;

use super::Unknown;
use super::value::{Type, index};

/// The first packet of a flow at one hook. Interfaces are [`super::name`]s.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// Where it came in; none for the host's own.
    pub iif: Option<u128>,
    /// Where it goes out, once that is known.
    pub oif: Option<u128>,
    /// Its frame's source and destination, where the bridge sees it.
    pub ether: Option<(u128, u128)>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub port: u16,
    /// Whether connection tracking has seen it (priority -200).
    pub tracked: bool,
}

impl Packet {
    /// The packet that a proof shows; none where it is of a kind that isn't known
    /// here: within a flow, in pieces, cut off, neither IPv4 nor IPv6, or with
    /// something else in a field that is fixed here. `iif` and `oif` are its links.
    pub fn of_proof(packet: &hostctl::prove::Packet, iif: Option<u128>, oif: Option<u128>) -> Option<Self> {
        use hostctl::prove::{Field as Said, Kind};
        let says = |field: Said, value: u128| !packet.says(field) || packet.value(field) == value;
        let echo: u128 = match packet.kind {
            Kind::Ipv4 => 8,
            Kind::Ipv6 => 128,
            Kind::Arp | Kind::Other => return None,
        };
        let fixed = [
            (Said::State, 0),
            (Said::Reply, 0),
            (Said::Confirmed, 0),
            (Said::Translated, 0),
            (Said::Addressed, 0),
            (Said::Fragment, 0),
            (Said::Long, 0),
            (Said::HopLimit, 64),
            (Said::Target, 0),
            (Said::Limits, 0),
        ];
        let protocol = u8::try_from(packet.value(Said::Protocol)).ok()?;
        let is_message = [1, 58, 2].contains(&protocol);
        let message = !is_message || says(Said::SourcePort, echo << 8);
        // Whether something can be read is all that a depth says.
        let whole = !packet.says(Said::Depth) || packet.value(Said::Depth) >= 3;
        if !fixed.iter().all(|(field, value)| says(*field, *value)) || !message || !whole {
            return None;
        }
        let (source, destination) = (packet.value(Said::Source), packet.value(Said::Destination));
        let family = packet.family();
        let number =
            |field, otherwise: u128| if packet.says(field) { packet.value(field) } else { otherwise };
        let port = |field, otherwise| u16::try_from(number(field, otherwise)).unwrap();
        Some(Self {
            iif,
            oif,
            ether: Some((packet.value(Said::SourceMac), packet.value(Said::DestinationMac))),
            source: family.address(source),
            destination: family.address(destination),
            protocol,
            source_port: port(Said::SourcePort, 40_000),
            port: port(Said::DestinationPort, 9),
            tracked: false,
        })
    }
}

/// An ICMP checksum stands where other protocols have a destination port.
const CHECKSUM: u128 = 0x1d5c;

/// A field of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Iif,
    Oif,
    OifIndex,
    Family,
    Protocol,
    PacketType,
    EtherSource,
    EtherDestination,
    EtherType,
    Source4,
    Destination4,
    Source6,
    Destination6,
    HopLimit,
    /// Of the packet, in bytes.
    Length,
    /// IPv4's, with its flags.
    FragmentOffset,
    /// Of the transport header with this protocol's number; none for any.
    SourcePort(Option<u8>),
    Port(Option<u8>),
    TcpFlags,
    IcmpType,
    Icmp6Type,
    /// What a first packet of IP has none of: ARP's and IGMP's fields, the
    /// body of a neighbour discovery message.
    Absent(Type),
    /// Whether it is a fragment.
    Fragmented,
    CtState,
    CtStatus,
    CtDirection,
    CtSource4,
    CtDestination4,
    CtSource6,
    CtDestination6,
}

impl Field {
    pub fn kind(self) -> Type {
        match self {
            Self::Iif | Self::Oif => Type::Name,
            Self::OifIndex => Type::Index,
            Self::Family => Type::Family,
            Self::Protocol => Type::Protocol,
            Self::PacketType => Type::Addressed,
            Self::EtherSource | Self::EtherDestination => Type::Ether,
            Self::EtherType => Type::Payload,
            Self::Source4 | Self::Destination4 | Self::CtSource4 | Self::CtDestination4 => Type::Ipv4,
            Self::Source6 | Self::Destination6 | Self::CtSource6 | Self::CtDestination6 => Type::Ipv6,
            Self::HopLimit | Self::Length | Self::FragmentOffset => Type::Integer,
            Self::SourcePort(_) | Self::Port(_) => Type::Service,
            Self::TcpFlags => Type::TcpFlags,
            Self::IcmpType => Type::Icmp,
            Self::Icmp6Type => Type::Icmpv6,
            Self::Absent(kind) => kind,
            Self::Fragmented => Type::Boolean,
            Self::CtState => Type::CtState,
            Self::CtStatus => Type::CtStatus,
            Self::CtDirection => Type::CtDirection,
        }
    }

    /// Its value; none where the packet has no such field, so that a rule that
    /// asks for it doesn't match, whatever it compares with.
    pub fn of(self, packet: &Packet) -> Result<Option<u128>, Unknown> {
        let v4 = |address| match address {
            IpAddr::V4(address) => Some(u128::from(u32::from(address))),
            IpAddr::V6(_) => None,
        };
        let v6 = |address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(u128::from(address)),
        };
        let tracked = |value: Option<u128>| {
            let early = || Unknown("connection tracking asked before there is any".into());
            packet.tracked.then_some(value).ok_or_else(early)
        };
        let is_v4 = packet.source.is_ipv4();
        Ok(match self {
            // Of an interface that isn't there the name is empty.
            Self::Iif => Some(packet.iif.unwrap_or(0)),
            Self::Oif => Some(packet.oif.unwrap_or(0)),
            Self::OifIndex => packet.oif.map(index),
            Self::Family => Some(if is_v4 { 2 } else { 10 }),
            Self::Protocol => Some(packet.protocol.into()),
            Self::PacketType => Some(0),
            Self::EtherSource => packet.ether.map(|(source, _)| source),
            Self::EtherDestination => packet.ether.map(|(_, destination)| destination),
            Self::EtherType => packet.ether.map(|_| if is_v4 { 0x0800 } else { 0x86dd }),
            Self::Source4 => v4(packet.source),
            Self::Destination4 => v4(packet.destination),
            Self::Source6 => v6(packet.source),
            Self::Destination6 => v6(packet.destination),
            Self::HopLimit => (!is_v4).then_some(64),
            Self::Length => Some(60),
            Self::FragmentOffset => is_v4.then_some(0),
            Self::SourcePort(only) => packet.transport(only).then_some(packet.source_port.into()),
            Self::Port(only) if packet.transport(only) => {
                Some(if packet.is_icmp() { CHECKSUM } else { packet.port.into() })
            }
            Self::TcpFlags => packet.transport(Some(6)).then_some(2),
            Self::IcmpType => (is_v4 && packet.protocol == 1).then_some(8),
            Self::Icmp6Type => (!is_v4 && packet.protocol == 58).then_some(128),
            Self::Port(_) | Self::Absent(_) => None,
            Self::Fragmented => Some(0),
            Self::CtState => tracked(Some(8))?,
            Self::CtStatus | Self::CtDirection => tracked(Some(0))?,
            Self::CtSource4 => tracked(v4(packet.source))?,
            Self::CtDestination4 => tracked(v4(packet.destination))?,
            Self::CtSource6 => tracked(v6(packet.source))?,
            Self::CtDestination6 => tracked(v6(packet.destination))?,
        })
    }
}

impl Packet {
    fn transport(&self, only: Option<u8>) -> bool {
        only.is_none_or(|only| only == self.protocol)
    }

    fn is_icmp(&self) -> bool {
        matches!(self.protocol, 1 | 58)
    }
}
