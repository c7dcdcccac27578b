//! What rules and model ask of packets and hosts, as yes or no. What the sets
//! of a host hold is nothing but which of these are true of which packet.

use strum::{EnumIter, IntoEnumIterator};

use crate::packet::{Family, Range, protocol};
use crate::reach::subject::Field;

use super::super::diagram::{Diagram, Diagrams, Path};
use super::super::header::{FACTS, Header, truth};
use super::super::slice::NO_LINK;

/// One such question; [`Fact::words`] say what is true where it is answered yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter)]
#[allow(missing_docs, reason = "each has words")]
pub enum Fact {
    FromPort,
    FromBridge,
    FromUplink,
    FromTailnet,
    FromUnforwarded,
    FromTailscaleNetwork,
    FromImdsNetwork,
    UnforwardedFamily,
    OwnMac,
    OwnSenderMac,
    OwnSource,
    OwnDestination,
    OwnTarget,
    FromGuest,
    FromGuestsMac,
    ToBridge,
    ToGuest,
    ToConnected,
    ToUplink,
    ToTailnet,
    ToTailscaleNetwork,
    ToExit,
    ToOwnExit,
    FromNetworks,
    FromPublic,
    ToNetworks,
    ToGateway,
    ToClosed,
    ToDenied,
    ToLan,
    ToResolver,
    ToMetadata,
    ToService,
    OpenedByItself,
    OpenedToItself,
    OpenPort,
    OpenPortToSome,
    HasEgress,
    EgressIsOpen,
    EgressNames,
    HasIngress,
    IngressIsOpen,
    IngressNames,
    ToReceivers,
    HasShare,
    ShareHigh,
    ShareLow,
}

impl Fact {
    /// What is true where it is answered yes.
    pub const fn words(self) -> &'static str {
        match self {
            Self::FromPort => "it comes in by a guest's port",
            Self::FromBridge => "it comes in by a network's bridge",
            Self::FromUplink => "it comes in by a link that bears an uplink's name",
            Self::FromTailnet => "it comes in by the tailnet's interface",
            Self::FromUnforwarded => "the host forwarded nothing from where it comes in before hostctl",
            Self::FromTailscaleNetwork => "the network that it comes from is open to the tailnet",
            Self::FromImdsNetwork => "the network that it comes from has imds = \"host\"",
            Self::UnforwardedFamily => "the host forwarded nothing of its family before hostctl",
            Self::OwnMac => "its frame is from the MAC of the port's guest",
            Self::OwnSenderMac => "its ARP sender is the MAC of the port's guest",
            Self::OwnSource => "its source is an address of the port's guest",
            Self::OwnDestination => "its ARP target is the address of the port's guest",
            Self::OwnTarget => "it is about an address of the port's guest",
            Self::FromGuest => "its source is a guest's of the network that it comes from",
            Self::FromGuestsMac => "its frame is from the MAC of a guest of the network that it comes from",
            Self::ToBridge => "it goes out by a network's bridge",
            Self::ToGuest => "its destination is a guest's of the network that it goes to",
            Self::ToConnected => {
                "the network that it goes to is the one that it comes from, or peered with it"
            }
            Self::ToUplink => "it goes out by a link that bears an uplink's name",
            Self::ToTailnet => "it goes out by the tailnet's interface",
            Self::ToTailscaleNetwork => "the network that it goes to is open to the tailnet",
            Self::ToExit => "it goes out by a link that guests' packets go out by",
            Self::ToOwnExit => "it goes out where the network that it comes from goes out",
            Self::FromNetworks => "its source is in a network's prefix",
            Self::FromPublic => "its source is in a public subnet of the network that it comes from",
            Self::ToNetworks => "its destination is in a network's prefix",
            Self::ToGateway => "its destination is the gateway of the network that it comes from",
            Self::ToClosed => "its destination isn't the public internet",
            Self::ToDenied => "its destination is in host.deny",
            Self::ToLan => "its destination is in the lan of the network that it comes from",
            Self::ToResolver => "its destination is in host.dns",
            Self::ToMetadata => "its destination is where clouds serve metadata, or the like",
            Self::ToService => "its destination is a metadata service",
            Self::OpenedByItself => "the guest that it is from opened its flow",
            Self::OpenedToItself => "its flow was opened to the guest that it is from",
            Self::OpenPort => "host.allow_input opens its port to everybody",
            Self::OpenPortToSome => "host.allow_input opens its port to its source",
            Self::HasEgress => "the guest that it is from has a policy for what it opens",
            Self::EgressIsOpen => "that policy of the sender allows what it doesn't name",
            Self::EgressNames => "that policy of the sender says of it other than its default",
            Self::HasIngress => "the guest that it goes to has a policy for what is opened to it",
            Self::IngressIsOpen => "that policy of the receiver allows what it doesn't name",
            Self::IngressNames => "that policy of the receiver says of it other than its default",
            Self::ToReceivers => {
                "a guest of the network that it goes to has a policy for what is opened to it"
            }
            Self::HasShare => "its source is a guest's that has a part of the ports of its own",
            Self::ShareHigh => "that part is the third or the fourth",
            Self::ShareLow => "that part is the second or the fourth",
        }
    }

    /// The link that it is about.
    const fn link(self) -> Option<Field> {
        match self {
            Self::FromPort
            | Self::FromBridge
            | Self::FromUplink
            | Self::FromTailnet
            | Self::FromUnforwarded
            | Self::FromTailscaleNetwork
            | Self::FromImdsNetwork => Some(Field::In),
            Self::ToBridge
            | Self::ToGuest
            | Self::ToConnected
            | Self::ToUplink
            | Self::ToTailnet
            | Self::ToTailscaleNetwork
            | Self::ToExit
            | Self::ToOwnExit
            | Self::HasIngress
            | Self::ToReceivers => Some(Field::Out),
            _ => None,
        }
    }

    /// Whether it depends on where a packet comes in.
    pub const fn is_of_way_in(self) -> bool {
        matches!(
            self,
            Self::FromPort
                | Self::FromBridge
                | Self::FromUplink
                | Self::FromTailnet
                | Self::FromUnforwarded
                | Self::FromTailscaleNetwork
                | Self::FromImdsNetwork
                | Self::OwnMac
                | Self::OwnSenderMac
                | Self::OwnSource
                | Self::OwnDestination
                | Self::OwnTarget
                | Self::FromGuest
                | Self::FromGuestsMac
                | Self::FromPublic
                | Self::ToConnected
                | Self::ToOwnExit
                | Self::ToGateway
                | Self::ToLan
                | Self::HasEgress
        )
    }

    /// Where it is true, if that is left open. Of a link that there isn't,
    /// nothing is.
    fn open(self, diagrams: &mut Diagrams, header: &Header) -> Diagram {
        if self.link().is_some_and(|link| header.constant(link) == Some(NO_LINK)) {
            return Diagram::NEVER;
        }
        diagrams.decide(self as u32, Diagram::NEVER, Diagram::ALWAYS)
    }

    /// What a way through a diagram says of facts.
    pub fn on(path: &Path) -> Vec<(Self, bool)> {
        let said = |fact: Self| path.iter().find(|(bit, _)| *bit == fact as u32);
        Self::iter().filter_map(|fact| said(fact).map(|(_, yes)| (fact, *yes))).collect()
    }
}

/// Where each fact is true.
#[derive(Debug, Clone)]
pub struct Facts(Vec<Diagram>);

impl Facts {
    /// Of all hosts: whatever is true or isn't.
    pub fn open(diagrams: &mut Diagrams, header: &Header) -> Self {
        Self(Fact::iter().map(|fact| fact.open(diagrams, header)).collect())
    }

    /// Of one host, by what is known of each.
    pub fn of(known: impl FnMut(Fact) -> Diagram) -> Self {
        Self(Fact::iter().map(known).collect())
    }

    /// Where one is true.
    pub fn is(&self, fact: Fact) -> Diagram {
        self.0.get(fact as usize).copied().unwrap_or(Diagram::NEVER)
    }
}

const _: () = assert!((Fact::ShareLow as u32) < FACTS, "each fact has a bit");

/// A part of what something means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// It is so.
    Yes(Fact),
    /// It isn't.
    No(Fact),
    /// It is TCP or UDP.
    HasPorts,
    /// It is neither.
    HasNoPorts,
    /// The source is link-local (RFC 4291, 2.5.6).
    FromLinkLocal,
    /// It is IPv4.
    Ipv4,
}

/// fe80::/10.
const LINK_LOCAL: Range = (0xfe80 << 112, (0xfec0 << 112) - 1);

impl Term {
    /// Where it holds.
    pub fn diagram(self, diagrams: &mut Diagrams, header: &Header, facts: &Facts) -> Diagram {
        match self {
            Self::Yes(fact) => facts.is(fact),
            Self::No(fact) => diagrams.not(facts.is(fact)),
            Self::HasPorts => with_ports(diagrams, header),
            Self::HasNoPorts => {
                let with = with_ports(diagrams, header);
                diagrams.not(with)
            }
            Self::FromLinkLocal if header.family() == Family::V6 => {
                header.range(diagrams, Field::Source, LINK_LOCAL)
            }
            Self::FromLinkLocal => Diagram::NEVER,
            Self::Ipv4 => truth(header.family() == Family::V4),
        }
    }

    /// Where all of them hold.
    pub fn all(terms: &[Self], diagrams: &mut Diagrams, header: &Header, facts: &Facts) -> Diagram {
        terms.iter().fold(Diagram::ALWAYS, |all, term| {
            let one = term.diagram(diagrams, header, facts);
            diagrams.and(all, one)
        })
    }
}

/// Where it is TCP or UDP.
pub fn with_ports(diagrams: &mut Diagrams, header: &Header) -> Diagram {
    let numbers = [protocol::TCP, protocol::UDP].map(|number| (number.into(), number.into()));
    header.among(diagrams, Field::Protocol, &numbers)
}
