//! To whom something happens, how sure that is, and a packet that shows it.

use std::collections::BTreeMap;
use std::thread;

use crate::packet::protocol::{ICMP, ICMPV6, TCP, UDP};
use crate::packet::{Family, prefix, range};
use crate::reach::Model;
use crate::reach::subject::{Field, Kind, state};
use crate::topology::Port;

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::Header;
use super::super::links::LinkNumbers;
use super::super::packet::Packet;
use super::super::space::Known as KnownSets;
use super::OwnAddresses;
use super::action::Effect;
use super::mark::Marks;
use super::question;
use super::question::Questions;
use super::table::Rules;
use super::traffic::{Collect, NOWHERE, Stretch, Traffic, Way, header};
use super::walk::{Known, Walk, Where};

const HOOKS: [&str; 7] = ["ingress", "prerouting", "input", "forward", "output", "postrouting", "egress"];

/// Where something happens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The table's family.
    pub family: String,
    /// Its name.
    pub table: String,
    /// The base chain by which the packet got there.
    pub base: String,
    /// Its hook.
    pub hook: String,
    /// The chain that it is in.
    pub chain: String,
    /// The rule's place in its chain, from 0; none where it is the base chain's
    /// policy.
    pub rule: Option<usize>,
    /// The rule's number.
    pub handle: Option<u64>,
}

/// How sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sureness {
    /// It may happen: that depends on what isn't known.
    Perhaps,
    /// It happens to some of the packets.
    Some,
    /// It happens to all that some guest sends or gets so, of TCP, UDP or ICMP; at
    /// most a condition that isn't known saves them.
    All,
}

/// Something that happens to packets which the spec lets pass.
#[derive(Debug, Clone)]
pub struct Happening {
    /// What.
    pub effect: Effect,
    /// Where.
    pub place: Place,
    /// More rules follow each other than are looked at: what they do isn't known.
    pub given_up: bool,
    /// Whose packets.
    pub traffic: Traffic,
    /// How sure it is.
    pub sureness: Sureness,
    /// One of them.
    pub packet: Packet,
    /// What it depends on that isn't known, in short.
    pub depends: Vec<String>,
}

/// Everything that happens.
pub fn all(model: &Model<'_>, own: &OwnAddresses, rules: &Rules, links: &LinkNumbers) -> Vec<Happening> {
    let has =
        |families: &[&str], hooks: &[&str]| hooks.iter().any(|hook| !rules.at(families, hook).is_empty());
    let devices =
        [rules.at(&["netdev", "inet"], "ingress"), rules.at(&["netdev", "inet"], "egress")].concat();
    let at_devices = |port: &&Port| {
        let number = links.known(port.interface.as_str()).map(|(first, _)| first);
        let is = |devices: &Vec<u128>| number.is_some_and(|number| devices.contains(&number));
        devices.iter().any(|(.., base)| base.devices.as_ref().is_none_or(is))
    };
    let bridged = has(&["bridge"], &HOOKS);
    let ports: Vec<&Port> = model.topology().ports().filter(|port| bridged || at_devices(port)).collect();
    let of_kind = |kind: Kind| {
        let header = header(kind);
        let mut ground = Ground::new(rules, links, &header);
        let (mut traffic, mut sets) = (Vec::new(), KnownSets::default());
        let (diagrams, known) = (&mut ground.diagrams, &mut sets);
        let header = &header;
        let mut collect = Collect { model, own, links, diagrams, known, header, traffic: &mut traffic };
        let mut ways: Vec<Way> = Vec::new();
        match kind {
            Kind::Ipv4 if has(&["ip", "inet", "netdev"], &HOOKS) => ways.extend(collect.packets()),
            Kind::Ipv6 if has(&["ip6", "inet", "netdev"], &HOOKS) => ways.extend(collect.packets()),
            Kind::Arp if has(&["arp"], &HOOKS) => ways.extend(collect.arp()),
            _ => {}
        }
        if !ports.is_empty() {
            ways.extend(collect.frames(&ports));
        }
        let bridges: Vec<_> =
            model.sets().bridges.names.iter().filter_map(|bridge| links.known(bridge.as_str())).collect();
        let judged = header.among(&mut ground.diagrams, Field::In, &bridges);
        // Whatever the spec lets pass to these is routed by the mark (`link::apart`).
        let metadata = prefix::metadata().iter().filter(|net| Family::of(net.addr()) == header.family());
        let metadata: Vec<_> = metadata.map(range).collect();
        let metadata = header.among(&mut ground.diagrams, Field::Destination, &metadata);
        let by_mark = ground.diagrams.and(judged, metadata);
        let mut found = Vec::new();
        for way in &ways {
            ground.follow(way, &traffic, (judged, by_mark), &mut found);
        }
        found
    };
    let of_kind = &of_kind;
    thread::scope(|scope| {
        let kinds = [Kind::Ipv6, Kind::Ipv4, Kind::Arp].map(|kind| scope.spawn(move || of_kind(kind)));
        let done = kinds.map(|kind| kind.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let [v6, v4, arp] = done;
        [v4, v6, arp].concat()
    })
}

/// What following packets of one kind needs.
struct Ground<'g> {
    rules: &'g Rules,
    links: &'g LinkNumbers,
    header: &'g Header,
    diagrams: Diagrams,
    known: Known,
    questions: Questions,
}

/// What happens to one kind of traffic at one place.
struct Hit {
    event: Where,
    /// All that there is of it.
    space: Diagram,
    /// To whom it may happen, to whom it does unless what isn't known saves them,
    /// and to whom it does whatever that is.
    perhaps: Diagram,
    unless: Diagram,
    sure: Diagram,
}

impl<'g> Ground<'g> {
    fn new(rules: &'g Rules, links: &'g LinkNumbers, header: &'g Header) -> Self {
        let (diagrams, known, questions) = (Diagrams::default(), Known::new(), rules.questions.clone());
        Self { rules, links, header, diagrams, known, questions }
    }

    fn follow(
        &mut self,
        way: &Way,
        traffic: &[Traffic],
        (judged, by_mark): (Diagram, Diagram),
        found: &mut Vec<Happening>,
    ) {
        let new = self.header.range(&mut self.diagrams, Field::State, (state::NEW, state::NEW));
        let tracked = self.diagrams.not(new);
        let mut marks = Marks::new(&mut self.diagrams, tracked, &mut self.questions);
        for stretch in way {
            let header = self.header;
            if !stretch.forgotten.is_empty() {
                marks.without(&mut self.diagrams, &mut self.questions, &|diagrams, bit| {
                    stretch.forgotten.iter().fold(bit, |bit, field| header.some(diagrams, bit, *field))
                });
            }
            let mut alive = Diagram::NEVER;
            for (_, space) in &stretch.flows {
                alive = self.diagrams.or(alive, *space);
            }
            let mut walk = Walk::new(self.rules, &mut self.diagrams, header, &mut self.known, &mut marks);
            (walk.judged, walk.by_mark) = (judged, by_mark);
            for station in &stretch.stations {
                alive = walk.station(station, alive);
            }
            let events = walk.events;
            self.tell(stretch, events, traffic, found);
        }
    }

    fn tell(
        &mut self,
        stretch: &Stretch,
        events: BTreeMap<Where, Diagram>,
        traffic: &[Traffic],
        found: &mut Vec<Happening>,
    ) {
        let mut hits: BTreeMap<(usize, Effect), Vec<Hit>> = BTreeMap::new();
        for (event, happens) in events {
            for &(class, space) in &stretch.flows {
                let perhaps = self.diagrams.and(happens, space);
                if perhaps == Diagram::NEVER {
                    continue;
                }
                let sure = self.sure(space, perhaps);
                let unless = self.diagrams.at_zero(perhaps, question::BITS.start);
                let hit = Hit { event, space, perhaps, unless, sure };
                hits.entry((class, event.effect)).or_default().push(hit);
            }
        }
        for ((class, _), hits) in hits {
            let Some(of) = traffic.get(class) else { continue };
            let mut whole = Vec::new();
            for hit in &hits {
                whole.push(self.whole(stretch, of, hit.space, hit.unless));
            }
            // Several rules may do together what none does alone.
            if whole.iter().all(|whole| *whole == Diagram::NEVER)
                && let [first, _, ..] = hits.as_slice()
            {
                let all = hits.iter().fold(Diagram::NEVER, |all, hit| self.diagrams.or(all, hit.unless));
                let together = self.whole(stretch, of, first.space, all);
                whole.fill(together);
            }
            for (hit, whole) in hits.iter().zip(whole) {
                found.extend(self.happening(hit, of, whole));
            }
        }
    }

    /// To which of `space` it happens whatever the answers are.
    fn sure(&mut self, space: Diagram, perhaps: Diagram) -> Diagram {
        let spared = self.diagrams.minus(space, perhaps);
        let spared = self.diagrams.some(spared, question::BITS);
        self.diagrams.minus(space, spared)
    }

    /// The guests and protocols of which nothing is spared.
    fn whole(&mut self, stretch: &Stretch, of: &Traffic, space: Diagram, sure: Diagram) -> Diagram {
        let [source, destination] = stretch.guest;
        let mut fields = vec![Field::Protocol];
        fields.extend(if of.outbound { source } else { destination });
        // Errors about flows are of another protocol than these.
        let errors = (state::RELATED, state::RELATED);
        let errors = self.header.range(&mut self.diagrams, Field::State, errors);
        let space = self.diagrams.minus(space, errors);
        let spared = self.diagrams.minus(space, sure);
        let all = self.header.only(&mut self.diagrams, space, &fields);
        let spared = self.header.only(&mut self.diagrams, spared, &fields);
        let whole = self.diagrams.minus(all, spared);
        if self.header.kind == Kind::Arp {
            return whole;
        }
        let usual: Vec<_> =
            [ICMP, TCP, UDP, ICMPV6].map(|number| (u128::from(number), u128::from(number))).into();
        let usual = self.header.among(&mut self.diagrams, Field::Protocol, &usual);
        self.diagrams.and(whole, usual)
    }

    fn happening(&mut self, hit: &Hit, of: &Traffic, whole: Diagram) -> Option<Happening> {
        let mut shown = (Sureness::Perhaps, hit.perhaps);
        if hit.sure != Diagram::NEVER {
            shown = (Sureness::Some, hit.sure);
        }
        for all in [hit.unless, hit.sure] {
            let all = self.diagrams.and(all, whole);
            if all != Diagram::NEVER {
                shown = (Sureness::All, self.diagrams.and(all, hit.perhaps));
            }
        }
        let (sureness, shown) = shown;
        let shown = self.usual(shown);
        let path = self.diagrams.example(shown)?;
        let header = self.header;
        let link = Some(header.value(&path, Field::In)).filter(|link| *link != NOWHERE);
        let link = link.map(|link| self.links.name(link));
        let goes_out = header.value(&path, Field::Out) != NOWHERE;
        let packet = Packet::new(header, self.links, &path, link, goes_out);
        let depends = path.iter().filter_map(|(bit, _)| self.questions.text(*bit));
        let mut depends: Vec<String> = depends.map(Into::into).collect();
        depends.dedup();
        let table = self.rules.tables.get(hit.event.table)?;
        let (base, chain) = (table.chains.get(hit.event.base)?, table.chains.get(hit.event.chain)?);
        let rule = hit.event.rule.and_then(|rule| chain.rules.get(rule));
        let place = Place {
            family: table.family.clone(),
            table: table.name.clone(),
            base: base.name.clone(),
            hook: base.base.as_ref()?.hook.clone(),
            chain: chain.name.clone(),
            rule: hit.event.rule,
            handle: rule.and_then(|rule| rule.handle),
        };
        let (effect, given_up) = (hit.event.effect, hit.event.given_up);
        Some(Happening { effect, place, given_up, traffic: of.clone(), sureness, packet, depends })
    }

    /// Of these packets the ones that people know best.
    fn usual(&mut self, mut these: Diagram) -> Diagram {
        let one = |field, number: u128| (field, (number, number));
        let port = |number| one(Field::DestinationPort, number);
        let protocol = |number: u8| one(Field::Protocol, number.into());
        let ports = [
            &[port(443), port(80), port(22), port(53), (Field::DestinationPort, (1, u128::MAX))][..],
            &[(Field::SourcePort, (0xc000, u128::MAX)), (Field::SourcePort, (1, u128::MAX))],
        ];
        let types = [&[one(Field::MessageType, 8), one(Field::MessageType, 128)][..]];
        let with_ports = self.header.among(
            &mut self.diagrams,
            Field::Protocol,
            &[TCP, UDP].map(|number| (number.into(), number.into())),
        );
        let has_ports = self.diagrams.and(these, with_ports) != Diagram::NEVER;
        let protocols = [&[protocol(TCP), protocol(UDP), protocol(ICMP), protocol(ICMPV6)][..]];
        for wishes in protocols.iter().chain(if has_ports { &ports[..] } else { &types }) {
            for (field, range) in *wishes {
                let wished = self.header.range(&mut self.diagrams, *field, *range);
                let wished = self.diagrams.and(these, wished);
                if wished != Diagram::NEVER {
                    these = wished;
                    break;
                }
            }
        }
        these
    }
}
