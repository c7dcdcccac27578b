//! Who reaches whom by the rules, as boxes of headers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::packet::{Family, Range};
use crate::reach::Model;
use crate::reach::subject::{Field, Kind};

use super::diagram::{Diagram, Diagrams};
use super::ground::Ground;
use super::header::{Header, ORDER, truth};
use super::legal;
use super::links::LinkNumbers;
use super::rules::{Tables, Unknown};
use super::slice::{Follow, Judged, Sender, Stop};

/// Whom to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The host itself.
    Host,
    /// An address behind a bridge, or behind any link that isn't one.
    Address(std::net::IpAddr),
}

/// One sender, and what of it arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reacher {
    /// The link that it comes in by; none of the host's own.
    pub from: Option<String>,
    /// The family.
    pub family: Family,
    /// First packets that arrive, in boxes.
    pub boxes: Vec<HeaderBox>,
}

/// Packets whose fields are in these ranges, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeaderBox {
    /// Source addresses.
    pub sources: Vec<String>,
    /// The protocol's numbers.
    pub protocols: (u8, u8),
    /// Destination ports, where the protocol has them.
    pub ports: Option<(u16, u16)>,
    /// Types of ICMP messages, where it is that.
    pub types: Option<(u8, u8)>,
}

/// Who reaches a target, by all rules of `tables`.
pub(super) fn reaches(
    model: &Model<'_>,
    tables: &Tables,
    links: &LinkNumbers,
    senders: &[Sender<'_>],
    target: &Target,
) -> Result<Vec<Reacher>, Unknown> {
    let mut follow = Follow::new(model, tables, links);
    let mut found = Vec::new();
    let mut grounds: BTreeMap<Kind, Ground> = BTreeMap::new();
    for sender in senders {
        // What a port refuses, its bridge never sends.
        if matches!(sender, Sender::Port(_)) {
            continue;
        }
        for &kind in sender.kinds() {
            let ground = grounds.entry(kind).or_insert_with(|| Ground::new(kind, &[tables], links));
            let boxes = ground.settled(|ground| {
                let mut boxes = Vec::new();
                for judged in follow.all(ground, kind, sender)? {
                    let passed = follow.passed(&mut ground.diagrams, judged.rules);
                    let arrives = arriving(ground, &judged, links, model, passed, target);
                    boxes.extend(in_boxes(&mut ground.diagrams, &judged.header, arrives));
                }
                Ok(boxes)
            })?;
            if !boxes.is_empty() {
                let from = sender.link().map(|link| match link {
                    "" => "any other link".to_string(),
                    link => link.to_string(),
                });
                let family = if kind == Kind::Ipv6 { Family::V6 } else { Family::V4 };
                found.push(Reacher { from, family, boxes });
            }
        }
    }
    Ok(found)
}

/// First packets that arrive at the target.
fn arriving(
    ground: &mut Ground,
    judged: &Judged,
    links: &LinkNumbers,
    model: &Model<'_>,
    passed: Diagram,
    target: &Target,
) -> Diagram {
    let (diagrams, header) = (&mut ground.diagrams, &judged.header);
    let there = match (target, judged.stop) {
        (Target::Host, Stop::Host) => Diagram::ALWAYS,
        (Target::Address(address), Stop::Out) if Family::of(*address) == header.family() => {
            let number = crate::packet::number(*address);
            let to = header.range(diagrams, Field::Destination, (number, number));
            let behind = match model.bridge_of(*address) {
                Some(bridge) => {
                    let range = links.known(bridge).unwrap_or((1, 0));
                    header.range(diagrams, Field::Out, range)
                }
                None => {
                    let mut out = Diagram::ALWAYS;
                    for bridge in model.bridges() {
                        let these = header.range(diagrams, Field::Out, links.known(bridge).unwrap_or((1, 0)));
                        out = diagrams.minus(out, these);
                    }
                    out
                }
            };
            diagrams.and(to, behind)
        }
        _ => truth(false),
    };
    let first = legal::first(diagrams, header);
    let free = header.masked(diagrams, Field::Limits, u128::MAX, 0);
    let whole = header.range(diagrams, Field::Translated, (0, 0));
    [there, first, free, whole].into_iter().fold(passed, |all, these| diagrams.and(all, these))
}

/// A space as boxes: for each range of sources, protocols, and ports or types.
fn in_boxes(diagrams: &mut Diagrams, header: &Header, space: Diagram) -> Vec<HeaderBox> {
    const SHOWN: [Field; 4] = [Field::Source, Field::Protocol, Field::DestinationPort, Field::SourcePort];
    let mut left = space;
    for field in ORDER.into_iter().filter(|field| !SHOWN.contains(field)) {
        left = header.some(diagrams, left, field);
    }
    // Sources of which the same is left are one box's.
    let mut by_rest: Vec<(Diagram, Vec<Range>)> = Vec::new();
    for (sources, rest) in header.parts(diagrams, left, Field::Source) {
        if rest == Diagram::NEVER {
            continue;
        }
        match by_rest.iter_mut().find(|(other, _)| *other == rest) {
            Some((_, ranges)) => ranges.push(sources),
            None => by_rest.push((rest, vec![sources])),
        }
    }
    let mut found = Vec::new();
    for (rest, sources) in by_rest {
        let sources: Vec<String> = sources.iter().map(|range| header.family().text(*range)).collect();
        for (protocols, rest) in header.parts(diagrams, rest, Field::Protocol) {
            services(diagrams, header, &sources, protocols, rest, &mut found);
        }
    }
    found
}

/// By ports where the protocol has them, and by types where it is ICMP.
fn services(
    diagrams: &mut Diagrams,
    header: &Header,
    sources: &[String],
    protocols: Range,
    rest: Diagram,
    found: &mut Vec<HeaderBox>,
) {
    if rest == Diagram::NEVER {
        return;
    }
    let byte = |number: u128| u8::try_from(number).unwrap_or(u8::MAX);
    let protocols = (byte(protocols.0), byte(protocols.1));
    let add = |ports, types| HeaderBox { sources: sources.to_vec(), protocols, ports, types };
    if rest == Diagram::ALWAYS {
        found.push(add(None, None));
        return;
    }
    let icmp = header.family().icmp();
    if protocols == (icmp, icmp) {
        let by_type = header.some(diagrams, rest, Field::DestinationPort);
        for (types, rest) in header.parts(diagrams, by_type, Field::MessageType) {
            if header.some(diagrams, rest, Field::SourcePort) != Diagram::NEVER {
                found.push(add(None, Some((byte(types.0), byte(types.1)))));
            }
        }
        return;
    }
    let by_port = header.some(diagrams, rest, Field::SourcePort);
    for (ports, rest) in header.parts(diagrams, by_port, Field::DestinationPort) {
        if rest != Diagram::NEVER {
            let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
            found.push(add(Some((port(ports.0), port(ports.1))), None));
        }
    }
}
