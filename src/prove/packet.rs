//! One packet of a space, for people and for those who send it.

use std::fmt;

use crate::packet::Family;
use crate::packet::protocol::{ICMP, ICMPV6, TCP, UDP};
use crate::reach::subject::{Field, Kind, fragment, state};
use crate::reach::{Entry, Flow};
use crate::topology::IfName;

use super::diagram::Path;
use super::header::{Header, ORDER};
use super::links::LinkNumbers;
use super::slice::Stop;

/// One packet: what is said of it, and what isn't is nothing to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What it is.
    pub kind: Kind,
    /// The link that it comes in by; none where the host sends it.
    pub link: Option<String>,
    /// The link that it goes out by, where it does.
    pub out: Option<String>,
    /// Where it is judged.
    pub stop: Stop,
    /// The fields that matter.
    pub fields: Vec<(Field, u128)>,
}

impl Packet {
    /// The packet at the end of a way through a diagram.
    pub(super) fn new(
        header: &Header,
        links: &LinkNumbers,
        path: &Path,
        link: Option<&str>,
        goes_out: bool,
    ) -> Self {
        let told = ORDER.into_iter().filter(|field| header.looks_at(path, *field));
        let fields = told.map(|field| (field, header.value(path, field))).collect();
        let stop = if goes_out { Stop::Out } else { Stop::Host };
        let out = goes_out.then(|| links.name(header.value(path, Field::Out)).to_string());
        Self { kind: header.kind, link: link.map(Into::into), out, stop, fields }
    }

    /// As it is judged at a stop.
    pub(super) fn at(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        if self.kind == Kind::Ipv6 { Family::V6 } else { Family::V4 }
    }

    /// A field's value; 0 where it doesn't matter.
    pub fn value(&self, field: Field) -> u128 {
        self.fields.iter().find(|(other, _)| *other == field).map_or(0, |(_, value)| *value)
    }

    /// Whether a field matters to what becomes of it.
    pub fn says(&self, field: Field) -> bool {
        self.fields.iter().any(|(other, _)| *other == field)
    }

    /// The flow that it is the first packet of, as far as a flow says it.
    pub fn flow(&self) -> Flow {
        let family = self.family();
        let entry = match self.link.as_deref().map(IfName::new) {
            Some(Ok(link)) => Entry::Interface(link),
            _ => Entry::Host,
        };
        let number = |field| self.value(field);
        Flow {
            entry,
            source: family.address(number(Field::Source)),
            destination: family.address(number(Field::Destination)),
            protocol: u8::try_from(number(Field::Protocol)).unwrap_or_default(),
            port: u16::try_from(number(Field::DestinationPort)).unwrap_or_default(),
        }
    }
}

/// Six octets.
fn mac(number: u128) -> String {
    let octets: Vec<String> =
        (0..6).rev().map(|place| format!("{:02x}", (number >> (8 * place)) & 0xff)).collect();
    octets.join(":")
}

fn protocol(number: u128) -> String {
    match u8::try_from(number) {
        Ok(TCP) => "TCP".into(),
        Ok(UDP) => "UDP".into(),
        Ok(ICMP) => "ICMP".into(),
        Ok(ICMPV6) => "ICMPv6".into(),
        _ => format!("protocol {number}"),
    }
}

const STATES: [(u128, &str); 5] = [
    (state::NEW, "of a new flow"),
    (state::ESTABLISHED, "of an established flow"),
    (state::RELATED, "about another flow"),
    (state::INVALID, "of no flow (invalid)"),
    (state::UNTRACKED, "not tracked"),
];

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Ipv4 => "IPv4",
            Kind::Ipv6 => "IPv6",
            Kind::Arp => "ARP",
            Kind::Other => "neither IP nor ARP",
        };
        write!(f, "{kind}")?;
        match &self.link {
            Some(link) => write!(f, " from {link}")?,
            None => write!(f, " from the host")?,
        }
        if let Some(out) = &self.out {
            write!(f, " to {out}")?;
        }
        let family = self.family();
        let is_message = [u128::from(ICMP), u128::from(ICMPV6), 2].contains(&self.value(Field::Protocol));
        let of_a_flow = [state::ESTABLISHED, state::RELATED].contains(&self.value(Field::State));
        for &(field, value) in &self.fields {
            let address = || family.address(value);
            let text = match field {
                Field::State => {
                    STATES.iter().find(|(number, _)| *number == value).map_or("", |(_, text)| text).into()
                }
                Field::Reply if value == 1 => "a reply".into(),
                Field::Confirmed if value == 1 => "tracked already".into(),
                Field::Translated if value == 1 => "translated by others".into(),
                Field::SourceMac => format!("MAC {}", mac(value)),
                Field::DestinationMac => format!("to MAC {}", mac(value)),
                Field::Source => format!("source {}", address()),
                Field::Destination => format!("destination {}", address()),
                Field::Fragment if value == fragment::FIRST => "a first fragment".into(),
                Field::Fragment if value == fragment::LATER => "a later fragment".into(),
                Field::Long if value == 1 => "longer than a frame".into(),
                Field::Protocol => protocol(value),
                Field::SourcePort if is_message => format!("type {}", value >> 8),
                Field::SourcePort => format!("source port {value}"),
                Field::DestinationPort if !is_message => format!("port {value}"),
                Field::HopLimit => format!("hop limit {value}"),
                Field::Target => format!("about {}", Family::V6.address(value)),
                Field::Operation => format!("operation {value}"),
                Field::Malformed if value != 0 => "malformed".into(),
                Field::SenderMac => format!("sender {}", mac(value)),
                // Of what belongs to no flow yet, tracking says nothing else.
                Field::OpenedBy | Field::OpenedTo if !of_a_flow => continue,
                Field::OpenedBy => format!("opened by {}", address()),
                Field::OpenedTo => format!("opened to {}", address()),
                Field::Limits if value != 0 => "beyond a limit".into(),
                Field::Depth if value < 3 => "cut off".into(),
                _ => continue,
            };
            write!(f, ", {text}")?;
        }
        Ok(())
    }
}
