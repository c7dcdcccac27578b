//! What the spec lets pass of what guests live on, by the model's own word; and
//! the hooks that it passes.
//!
//! Flows' first packets are asked of the model; answers are these the other way
//! round, with the errors that routers send about them. They are whole packets
//! without extension headers.

use crate::packet::protocol::{SCTP, TCP, UDP};
use crate::packet::{Family, Range, number};
use crate::reach::sets::NetworkSets;
use crate::reach::subject::{Delivery, Field, Kind, depth, state};
use crate::reach::{Model, Verdict};

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::{Boxes, Header};
use super::super::links::LinkNumbers;
use super::super::space::{Known, Of, judge};
use super::OwnAddresses;
use super::walk::Station;

/// Where packets come in and go out, by number.
pub type Links = (u128, u128);

/// One kind of packets, of one network or port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Traffic {
    /// Who speaks to whom, for people.
    pub who: String,
    /// The bridge or port of hostctl's that it comes from or goes to.
    pub ours: String,
    /// Whether it comes from there.
    pub outbound: bool,
    /// Whether it answers, or begins a flow.
    pub reply: bool,
    /// Whether another source than the sender's own misleads somebody.
    pub keeps_source: bool,
}

/// Packets of which the same can be read on all of a part of their way.
pub struct Stretch {
    /// By the place of its [`Traffic`].
    pub flows: Vec<(usize, Diagram)>,
    pub stations: Vec<Station<'static>>,
    /// The field with the guest's address; none where the host's stands for it.
    pub guest: [Option<Field>; 2],
    /// What of the stretch before can't be read any more.
    pub forgotten: &'static [Field],
}

/// The way of some packets.
pub type Way = Vec<Stretch>;

/// No link: what the host sends comes in by it, what it gets goes out.
pub const NOWHERE: u128 = 0xffff;

/// What carries ports.
const WITH_PORTS: [u8; 5] = [TCP, UDP, SCTP, 33, 136];

/// Gives each link a number that the model names.
pub fn number_links(model: &Model<'_>, links: &mut LinkNumbers) {
    links.number("any other link");
    let topology = model.topology();
    for bridge in &model.sets().bridges.names {
        links.number(bridge.as_str());
    }
    for port in topology.ports() {
        links.number(port.interface.as_str());
    }
    for name in model.sets().exits.names.iter().chain(&topology.tailscale) {
        links.number(name.as_str());
    }
}

/// The header of what is looked at.
pub fn header(kind: Kind) -> Header {
    let mut header = Header::with_entry(kind);
    for field in [Field::Translated, Field::Addressed, Field::Fragment, Field::Long, Field::Limits] {
        header.fix(field, 0);
    }
    header.fix(Field::Depth, depth::TARGET);
    header
}

/// A box of a diagram's.
pub fn boxed(boxes: &mut Boxes, ranges: &[Range]) {
    boxes.push(ranges, Diagram::ALWAYS);
}

/// What comes in by these, and its answers.
pub type Flows = Vec<(usize, Diagram)>;

/// Collects what packets of one kind there are.
pub struct Collect<'c, 't> {
    pub model: &'c Model<'t>,
    pub own: &'c OwnAddresses,
    pub links: &'c LinkNumbers,
    pub diagrams: &'c mut Diagrams,
    pub known: &'c mut Known,
    pub header: &'c Header,
    pub traffic: &'c mut Vec<Traffic>,
}

impl<'t> Collect<'_, 't> {
    pub(super) fn family(&self) -> Family {
        self.header.family()
    }

    pub(super) fn is(&mut self, field: Field, ranges: &[Range]) -> Diagram {
        self.header.among(self.diagrams, field, ranges)
    }

    pub(super) fn one(&mut self, field: Field, value: u128) -> Diagram {
        self.is(field, &[(value, value)])
    }

    /// Where all hold. The first is the largest: it is the last to be met, so that
    /// it is copied once.
    pub(super) fn all(&mut self, all: &[Diagram]) -> Diagram {
        all.iter().rev().fold(Diagram::ALWAYS, |sum, next| self.diagrams.and(sum, *next))
    }

    pub(super) fn without(&mut self, space: Diagram, fields: &[Field]) -> Diagram {
        fields.iter().fold(space, |space, field| self.header.some(self.diagrams, space, *field))
    }

    pub(super) fn link(&self, name: &str) -> Range {
        self.links.known(name).unwrap_or((1, 0))
    }

    pub(super) fn links(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Range> {
        names.into_iter().map(|name| self.link(name.as_ref())).collect()
    }

    /// As tracking says it: a state, and whether it answers.
    pub(super) fn tracked(&mut self, state: u128, reply: bool) -> Diagram {
        let state_is = self.one(Field::State, state);
        let reply_is = self.one(Field::Reply, reply.into());
        let known = matches!(state, state::ESTABLISHED | state::RELATED);
        let confirmed = self.one(Field::Confirmed, known.into());
        self.all(&[state_is, reply_is, confirmed])
    }

    /// What the model lets pass of packets of a state that come in by a link,
    /// which isn't in it, nor what tracking says.
    pub(super) fn passed(
        &mut self,
        link: Option<&str>,
        delivery: Delivery,
        state: u128,
        space: Diagram,
    ) -> Diagram {
        let mut header = self.header.clone();
        header.fix(Field::In, link.map_or(NOWHERE, |link| self.link(link).0));
        for (field, value) in [(Field::State, state), (Field::Reply, 0), (Field::Confirmed, 0)] {
            header.fix(field, value);
        }
        let of = Of { header: &header, links: self.links, delivery, senders: &[], flow: None };
        let model = self.model;
        let judged = judge(self.diagrams, self.known, of, space, &mut |subject| {
            model.decide(subject, link).verdict == Verdict::Allowed
        });
        let passed = judged.into_iter().filter(|(_, passes)| *passes);
        passed.fold(Diagram::NEVER, |all, (these, _)| self.diagrams.or(all, these))
    }

    /// What is from a network's guests. Their MACs go with their addresses, and
    /// aren't looked at but of frames: that saves most of the diagrams.
    pub(super) fn guests(&mut self, network: &NetworkSets<'t>) -> Diagram {
        self.is(Field::Source, network.sources.ranges(self.family()))
    }

    /// What one guest sends to its own addresses, which nobody else sees.
    pub(super) fn sent_to_itself(&mut self, network: &NetworkSets<'t>) -> Diagram {
        let mut boxes = Boxes::new(2);
        for (_, addresses) in self.model.senders(network, self.family()) {
            for from in &addresses {
                for to in &addresses {
                    boxed(&mut boxes, &[(*from, *from), (*to, *to)]);
                }
            }
        }
        self.header.boxes(self.diagrams, &[Field::Source, Field::Destination], &boxes)
    }

    /// Packets that come in and go out by these, as tracking says.
    pub(super) fn first(&mut self, passed: Diagram, (from, to): Links) -> Diagram {
        let (comes, goes) = (self.one(Field::In, from), self.one(Field::Out, to));
        let new = self.tracked(state::NEW, false);
        self.all(&[passed, comes, goes, new])
    }

    /// Answers to what goes from one link to another: of established flows, and
    /// errors about them. Senders that may send the same are turned together: a
    /// diagram whose fields change places at once would grow.
    pub(super) fn answers(&mut self, passed: Diagram, (from, to): Links) -> Diagram {
        let mut alike: Vec<(Diagram, Vec<Range>)> = Vec::new();
        for (senders, rest) in self.header.parts(self.diagrams, passed, Field::Source) {
            match alike.iter_mut().find(|(other, _)| *other == rest) {
                _ if rest == Diagram::NEVER => {}
                Some((_, all)) => all.push(senders),
                None => alike.push((rest, vec![senders])),
            }
        }
        let (comes, goes) = (self.one(Field::In, to), self.one(Field::Out, from));
        let mut answers = Diagram::NEVER;
        for (rest, senders) in alike {
            let rest = self.turned(rest);
            let receivers = self.is(Field::Destination, &senders);
            let these = self.all(&[rest, comes, goes, receivers]);
            answers = self.diagrams.or(answers, these);
        }
        answers
    }

    /// From those who were asked, and from the ports that were: types of messages
    /// stand where ports do, and have answers of their own.
    fn turned(&mut self, space: Diagram) -> Diagram {
        let ports = WITH_PORTS.map(|number| (u128::from(number), u128::from(number)));
        let ports = self.is(Field::Protocol, &ports);
        let with_ports = self.diagrams.and(space, ports);
        let others = self.diagrams.minus(space, ports);
        let icmp = self.one(Field::Protocol, self.family().icmp().into());
        let kept = [Field::Destination, Field::Protocol];
        let mut answers = self.diagrams.minus(others, icmp);
        answers = self.header.only(self.diagrams, answers, &kept);
        let answered: &[(u128, u128)] = self.family().pick([&[(8, 0), (13, 14)], &[(128, 129)]]);
        for (question, answer) in answered {
            let question = self.one(Field::MessageType, *question);
            let asked = self.all(&[others, icmp, question]);
            let asked = self.header.only(self.diagrams, asked, &kept);
            let answer = self.one(Field::MessageType, *answer);
            let these = self.diagrams.and(asked, answer);
            answers = self.diagrams.or(answers, these);
        }
        let (header, ends) = (self.header, (Field::Source, Field::Destination));
        let exchanged = (Field::SourcePort, Field::DestinationPort);
        let with_ports = self.diagrams.moved(with_ports, &|bit| header.exchanged(&[ends, exchanged], bit));
        let asked = self.header.only(self.diagrams, space, &[Field::Destination]);
        let [answers, asked] =
            [answers, asked].map(|these| self.diagrams.moved(these, &|bit| header.exchanged(&[ends], bit)));
        let answers = self.diagrams.or(with_ports, answers);
        let established = self.tracked(state::ESTABLISHED, true);
        let answers = self.diagrams.and(answers, established);
        // Those on the way there have the same addresses as far as is known.
        let types: &[Range] = self.family().pick([&[(3, 3), (11, 12)], &[(1, 4)]]);
        let types = self.is(Field::MessageType, types);
        let related = self.tracked(state::RELATED, true);
        let errors = self.all(&[asked, icmp, types, related]);
        self.diagrams.or(answers, errors)
    }

    pub(super) fn add(&mut self, flows: &mut Vec<(usize, Diagram)>, traffic: Traffic, space: Diagram) {
        if space != Diagram::NEVER {
            flows.push((self.traffic.len(), space));
            self.traffic.push(traffic);
        }
    }

    /// What the hooks see of it where the host's addresses stand for guests'.
    pub(super) fn as_the_hosts(
        &mut self,
        flows: &[(usize, Diagram)],
        link: Field,
        address: Field,
        port: Field,
    ) -> Vec<(usize, Diagram)> {
        let mut boxes = Boxes::new(2);
        for exit in &self.model.sets().exits.names {
            let own = self.own.get(exit.as_str()).into_iter().flatten();
            let own: Vec<Range> = own
                .filter(|own| Family::of(**own) == self.family())
                .map(|own| (number(*own), number(*own)))
                .collect();
            let any = [(0, u128::MAX)];
            for range in if own.is_empty() { &any[..] } else { &own } {
                boxed(&mut boxes, &[self.link(exit.as_str()), *range]);
            }
        }
        let own = self.header.boxes(self.diagrams, &[link, address], &boxes);
        let mut found = Vec::new();
        for (class, space) in flows {
            let space = self.without(*space, &[address, port]);
            found.push((*class, self.diagrams.and(space, own)));
        }
        found
    }

    /// A flow's first packets, and their answers.
    pub(super) fn both(&mut self, flows: [&mut Flows; 2], traffic: Traffic, passed: Diagram, links: Links) {
        let [there, back] = flows;
        let first = self.first(passed, links);
        let answers = self.answers(passed, links);
        let who = format!("answers to {}", traffic.who);
        let answering = Traffic { who, outbound: !traffic.outbound, reply: true, ..traffic.clone() };
        self.add(there, traffic, first);
        self.add(back, answering, answers);
    }
}
