//! Where packets go that are asked about.

use std::net::IpAddr;

use crate::packet::protocol::{TCP, UDP};
use crate::packet::{Family, number, range};
use crate::reach::subject::{Field, Kind};
use crate::reach::{Model, Service};
use crate::topology::IfName;

use super::diagram::{Diagram, Diagrams};
use super::ends::way_to;
use super::header::{Header, truth};
use super::links::LinkNumbers;
use super::slice::{Judged, Stop};

/// Whom packets are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The host itself, whatever address of its own.
    Host,
    /// These addresses: behind the bridge of their network, or where the host's
    /// routes lead; behind a link that guests' packets go out by, where no route
    /// is known.
    Addresses(Vec<IpAddr>),
    /// What is in no network, behind the links that guests' packets go out by;
    /// behind this one, where one is named.
    Internet(Option<IfName>),
    /// What is behind a link.
    Link(IfName),
}

impl Target {
    /// Whether something of a family can be for it.
    pub(super) fn has(&self, kind: Kind) -> bool {
        let family = match kind {
            Kind::Ipv4 => Family::V4,
            Kind::Ipv6 => Family::V6,
            Kind::Arp | Kind::Other => return false,
        };
        match self {
            Self::Addresses(addresses) => addresses.iter().any(|address| Family::of(*address) == family),
            Self::Host | Self::Internet(_) | Self::Link(_) => true,
        }
    }

    /// Whether it is several addresses, which are told apart.
    pub(super) fn is_many(&self) -> bool {
        match self {
            Self::Addresses(addresses) => Family::ALL
                .iter()
                .any(|family| addresses.iter().filter(|one| Family::of(**one) == *family).count() > 1),
            Self::Host | Self::Internet(_) | Self::Link(_) => true,
        }
    }

    /// What of all that may come to a stop is for it. At a guest's port nobody
    /// knows yet where a packet goes: there it is what has such an address.
    pub(super) fn space(
        &self,
        diagrams: &mut Diagrams,
        model: &Model<'_>,
        links: &LinkNumbers,
        judged: &Judged,
    ) -> Diagram {
        let header = &judged.header;
        let at_port = matches!(judged.stop, Stop::Port | Stop::PastPort);
        match (self, judged.stop) {
            (Self::Host, Stop::Host) => Diagram::ALWAYS,
            (Self::Host, Stop::Port | Stop::PastPort) => {
                let gateways = model.sets().networks.values().map(|network| &network.gateway);
                let ranges: Vec<_> =
                    gateways.flat_map(|gateway| gateway.ranges(header.family())).copied().collect();
                header.among(diagrams, Field::Destination, &ranges)
            }
            (Self::Host, Stop::Out) => Diagram::NEVER,
            (Self::Addresses(addresses), Stop::Out | Stop::Port | Stop::PastPort) => {
                let mut all = Diagram::NEVER;
                for address in addresses.iter().filter(|one| Family::of(**one) == header.family()) {
                    let to = header.range(diagrams, Field::Destination, (number(*address), number(*address)));
                    let out = if at_port {
                        Diagram::ALWAYS
                    } else {
                        behind(diagrams, header, model, links, *address)
                    };
                    let these = diagrams.and(to, out);
                    all = diagrams.or(all, these);
                }
                all
            }
            (Self::Internet(by), Stop::Out | Stop::Port | Stop::PastPort) => {
                let inside =
                    header.among(diagrams, Field::Destination, model.sets().prefixes.ranges(header.family()));
                let outside = diagrams.not(inside);
                let exits = match by {
                    _ if at_port => Diagram::ALWAYS,
                    Some(link) => by_link(diagrams, header, links, link.as_str()),
                    None => by_exits(diagrams, header, model, links),
                };
                diagrams.and(outside, exits)
            }
            (Self::Link(link), Stop::Out) => by_link(diagrams, header, links, link.as_str()),
            (Self::Link(_), Stop::Port | Stop::PastPort) => {
                let inside =
                    header.among(diagrams, Field::Destination, model.sets().prefixes.ranges(header.family()));
                diagrams.not(inside)
            }
            (Self::Addresses(_) | Self::Internet(_) | Self::Link(_), Stop::Host) => Diagram::NEVER,
        }
    }
}

/// Out by a link: that which the spec means.
fn by_link(diagrams: &mut Diagrams, header: &Header, links: &LinkNumbers, link: &str) -> Diagram {
    match links.known(link) {
        Some((first, _)) => header.range(diagrams, Field::Out, (first, first)),
        None => Diagram::NEVER,
    }
}

/// Out to where an address is.
fn behind(
    diagrams: &mut Diagrams,
    header: &Header,
    model: &Model<'_>,
    links: &LinkNumbers,
    address: IpAddr,
) -> Diagram {
    if let Some(bridge) = model.bridge_of(address) {
        return by_link(diagrams, header, links, bridge);
    }
    match way_to(model, address) {
        Some(link) => by_link(diagrams, header, links, link.as_str()),
        None => by_exits(diagrams, header, model, links),
    }
}

/// Out by a link that guests' packets go out by.
fn by_exits(diagrams: &mut Diagrams, header: &Header, model: &Model<'_>, links: &LinkNumbers) -> Diagram {
    let mut any = Diagram::NEVER;
    for exit in &model.sets().exits.names {
        let these = by_link(diagrams, header, links, exit.as_str());
        any = diagrams.or(any, these);
    }
    any
}

/// What is of a service; everything where none is named.
pub(super) fn of_service(diagrams: &mut Diagrams, header: &Header, service: Option<Service>) -> Diagram {
    let one = |diagrams: &mut Diagrams, field, value: u128| header.range(diagrams, field, (value, value));
    let (protocol, port) = match service {
        None => return truth(true),
        Some(Service::Tcp(port)) => (TCP, Some(port)),
        Some(Service::Udp(port)) => (UDP, Some(port)),
        Some(Service::Ping) => (header.family().icmp(), None),
    };
    let protocol = one(diagrams, Field::Protocol, protocol.into());
    let which = match port {
        Some(port) => one(diagrams, Field::DestinationPort, port.into()),
        None => one(diagrams, Field::MessageType, header.family().echo().0.into()),
    };
    diagrams.and(protocol, which)
}

/// What has an address of these prefixes for its source.
pub(super) fn from_addresses(diagrams: &mut Diagrams, header: &Header, addresses: &[IpAddr]) -> Diagram {
    let ranges: Vec<_> = addresses
        .iter()
        .filter(|address| Family::of(**address) == header.family())
        .map(|address| range(&(*address).into()))
        .collect();
    header.among(diagrams, Field::Source, &ranges)
}
