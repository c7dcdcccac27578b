//! What the model judges: one flow, or a space of packets.
//!
//! The model asks a subject questions and goes by the answers. One flow knows
//! them all; of a space some packets answer yes and others no, and it is judged
//! once for each way of answering (`prove`). So there is one account of who may
//! reach whom, for both.

use crate::packet::{Family, Range};
use crate::topology::{Direction, IfName};

use super::Flow;
use super::sets::{Addresses, Attached, Links, NetworkSets, Sets};

/// What can be read of a frame, a packet and the flow that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// What connection tracking says of it: a [`state`].
    State,
    /// 1 for what goes against the direction in which its flow was opened.
    Reply,
    /// 1 once its flow is in the table of tracked flows.
    Confirmed,
    /// 1 where another program translates its flow's destination.
    Translated,
    /// To whom its frame was: 0 for the host.
    Addressed,
    /// A [`fragment`].
    Fragment,
    /// How much of what follows the network header can be read: a [`depth`].
    Depth,
    /// 1 where the packet is longer than a frame, 1500 bytes.
    Long,
    /// The frame's source.
    SourceMac,
    /// The packet's source address; an ARP message's sender.
    Source,
    /// Where it goes out.
    Out,
    /// The packet's destination address; an ARP message's target.
    Destination,
    /// The transport protocol's number (IANA).
    Protocol,
    /// The first two bytes of its transport header: a port, or ICMP's type and
    /// code.
    SourcePort,
    /// The next two.
    DestinationPort,
    /// The type of an ICMP, ICMPv6 or IGMP message: half of [`Self::SourcePort`].
    MessageType,
    /// IPv6's hop limit.
    HopLimit,
    /// The frame's destination.
    DestinationMac,
    /// The 16 bytes behind the first eight of the transport header: whom
    /// neighbour discovery is about (RFC 4861, 4.3).
    Target,
    /// An ARP message's operation.
    Operation,
    /// Which of the fields of an ARP message's head aren't those of Ethernet and
    /// IPv4: hardware, protocol, and the lengths of their addresses.
    Malformed,
    /// An ARP message's sender.
    SenderMac,
    /// Who opened its flow.
    OpenedBy,
    /// To whom.
    OpenedTo,
    /// Which of the limits that a guest has are used up, a bit each.
    Limits,
    /// Where it comes in.
    In,
    /// The number of what its frame carries (IEEE's EtherTypes).
    EtherType,
    /// The kernel's number of its family. The last field.
    Family,
}

/// Values of [`Field::State`].
pub mod state {
    /// The first packet of a flow, and what follows while nobody answered.
    pub const NEW: u128 = 0;
    /// Of a flow that was answered.
    pub const ESTABLISHED: u128 = 1;
    /// Belongs to another flow: an ICMP error, a connection that was announced.
    pub const RELATED: u128 = 2;
    /// Of no flow.
    pub const INVALID: u128 = 3;
    /// Not tracked.
    pub const UNTRACKED: u128 = 4;
}

/// Values of [`Field::Fragment`].
pub mod fragment {
    /// The whole packet.
    pub const NONE: u128 = 0;
    /// The first of several: more follow.
    pub const FIRST: u128 = 1;
    /// A later one.
    pub const LATER: u128 = 2;
}

/// Values of [`Field::Depth`].
pub mod depth {
    /// Not even the transport's number: a header chain that has no end.
    pub const NOTHING: u128 = 0;
    /// The transport's number alone.
    pub const PROTOCOL: u128 = 1;
    /// The first byte behind: an ICMP type.
    pub const TYPE: u128 = 2;
    /// Four bytes: both ports.
    pub const PORTS: u128 = 3;
    /// 24 bytes: neighbour discovery's target.
    pub const TARGET: u128 = 4;
}

/// One thing that is asked of a packet.
#[derive(Debug, Clone, Copy)]
pub enum Condition<'a> {
    /// A field has one of these values; both ends included.
    Is(Field, &'a [Range]),
    /// A field is one of these addresses.
    Among(Field, &'a Addresses),
    /// It goes out by one of these links.
    By(&'a Links),
    /// It goes out to one of these.
    To(&'a Attached),
    /// One guest has both addresses.
    SameGuest(Field, Field),
    /// Anything.
    Any,
}

/// Where routing sends a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// To the host itself, or to a group that the host is in.
    Host,
    /// Out by a link.
    Out,
    /// There is no way.
    Nowhere,
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// ARP.
    Arp,
    /// Anything else: VLAN tags, LLDP, the unknown.
    Other,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ipv4, Self::Ipv6, Self::Arp, Self::Other];
}

/// Whose policies are asked, and for which direction.
#[derive(Debug, Clone, Copy)]
pub enum Judges<'a, 't> {
    /// That of the sender, a guest of this network, about the destination.
    Senders(&'a NetworkSets<'t>),
    /// That of the receiver, a guest of whatever network, about the source.
    Receivers,
}

impl Judges<'_, '_> {
    /// Which of a policy's lists they go by.
    pub const fn direction(&self) -> Direction {
        match self {
            Self::Senders(_) => Direction::Egress,
            Self::Receivers => Direction::Ingress,
        }
    }

    /// The field that says who the other end is.
    pub const fn far(&self) -> Field {
        match self {
            Self::Senders(_) => Field::Destination,
            Self::Receivers => Field::Source,
        }
    }
}

/// A flow, or a space of packets.
pub trait Subject<'t> {
    /// Of which family.
    fn family(&self) -> Family;

    /// What its frames carry.
    fn kind(&self) -> Kind {
        match self.family() {
            Family::V4 => Kind::Ipv4,
            Family::V6 => Kind::Ipv6,
        }
    }

    /// Where it goes.
    fn delivery(&self) -> Delivery;

    /// Whether all of that holds of it. A packet without a field that is asked
    /// for answers no.
    fn has(&mut self, conditions: &[Condition<'_>]) -> bool;

    /// Whether a policy denies it.
    fn denied(&mut self, sets: &Sets<'t>, judges: Judges<'_, 't>) -> bool;

    /// The flow, where it is one, and the link that it goes out by: for reasons.
    fn flow(&self) -> Option<(&Flow, Option<&IfName>)> {
        None
    }

    /// Whether a field has one of these values.
    fn is(&mut self, field: Field, values: &[u128]) -> bool {
        let ranges: Vec<Range> = values.iter().map(|value| (*value, *value)).collect();
        self.has(&[Condition::Is(field, &ranges)])
    }

    /// Whether a field is one of these addresses.
    fn among(&mut self, field: Field, addresses: &Addresses) -> bool {
        self.has(&[Condition::Among(field, addresses)])
    }

    /// Whether it goes out by one of these links.
    fn goes_by(&mut self, links: &Links) -> bool {
        self.has(&[Condition::By(links)])
    }

    /// Whether it is of one protocol and to one of these ports.
    fn is_to(&mut self, protocols: &[u128], port: u16) -> bool {
        let protocols: Vec<Range> = protocols.iter().map(|number| (*number, *number)).collect();
        let port = [(port.into(), port.into())];
        self.has(&[Condition::Is(Field::Protocol, &protocols), Condition::Is(Field::DestinationPort, &port)])
    }

    /// Whether it is an ICMP message, of the packet's family, of one of these
    /// types.
    fn is_message(&mut self, types: [&[u8]; 2]) -> bool {
        let [v4, v6] = types;
        let family = self.family();
        let (protocol, types) = (family.icmp().into(), family.pick([v4, v6]));
        let types: Vec<Range> = types.iter().map(|kind| (u128::from(*kind), u128::from(*kind))).collect();
        self.has(&[
            Condition::Is(Field::Protocol, &[(protocol, protocol)]),
            Condition::Is(Field::MessageType, &types),
        ])
    }
}
