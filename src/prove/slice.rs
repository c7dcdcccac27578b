//! Senders, one after the other: what the rules do with all that each may send.

use crate::reach::Model;
use crate::reach::subject::{Delivery, Field, Kind};
use crate::topology::Port;

use super::answer::{Outcome, RulePlace};
use super::diagram::{Diagram, Diagrams};
use super::grain::Starts;
use super::ground::Ground;
use super::header::Header;
use super::legal;
use super::links::{LinkNumbers, NOBODYS};
use super::rules::run::{Decided, Deciders, Place, Run};
use super::rules::{DROP, Meaning, Tables, Unknown, Verdict as Does};
use super::space::{Of, judge};

/// Hostctl's table of frames, and that of packets.
pub const BRIDGE: (&str, &str) = ("bridge", crate::ownership::TABLE);
pub const INET: (&str, &str) = ("inet", crate::ownership::TABLE);

/// In no link's place: the host sends it, or it goes nowhere.
pub const NO_LINK: u128 = u128::MAX;

/// Fields of a frame that are a guest's own.
const FRAMES: [Field; 4] = [Field::SourceMac, Field::Source, Field::SenderMac, Field::Target];

/// Fields that are compared with who sends.
const FLOWS: [Field; 2] = [Field::OpenedBy, Field::OpenedTo];

/// Who sends.
#[derive(Debug, Clone)]
pub enum Sender<'t> {
    /// A guest, at its port.
    Port(&'t Port),
    /// Whoever is behind a link: the guests of a network, by their bridge, an
    /// uplink, a stranger.
    Link(String),
    /// Any link that nobody names.
    AnyLink,
    /// The host.
    Host,
}

impl Sender<'_> {
    /// What it may send.
    pub const fn kinds(&self) -> &'static [Kind] {
        match self {
            Self::Port(_) => &[Kind::Ipv4, Kind::Ipv6, Kind::Arp, Kind::Other],
            Self::Link(_) | Self::AnyLink | Self::Host => &[Kind::Ipv4, Kind::Ipv6],
        }
    }

    /// The link that it comes in by.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Port(port) => Some(port.interface.as_str()),
            Self::Link(name) => Some(name),
            Self::AnyLink => Some(""),
            Self::Host => None,
        }
    }
}

/// Where packets of a sender are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At a guest's port.
    Port,
    /// Past it, as the kernel hands some frames to the host.
    PastPort,
    /// On the way to the host.
    Host,
    /// On the way out.
    Out,
}

impl Stop {
    /// Where packets go.
    pub const fn delivery(self) -> Delivery {
        match self {
            Self::Out => Delivery::Out,
            Self::Port | Self::PastPort | Self::Host => Delivery::Host,
        }
    }
}

/// What the rules do with what a sender sends, at one stop.
#[derive(Debug, Clone)]
pub struct Judged {
    pub stop: Stop,
    pub header: Header,
    /// All that may come here.
    pub space: Diagram,
    /// What becomes of it: terminals of rules.
    pub rules: Diagram,
    /// The addresses of each guest that may have sent it.
    pub senders: Vec<Vec<u128>>,
}

/// Follows packets through one set of rules.
pub struct Follow<'w, 't> {
    pub model: &'w Model<'t>,
    pub tables: &'w Tables,
    pub links: &'w LinkNumbers,
    /// What is asked of sets, where what they hold is left open.
    pub meaning: Option<&'w dyn Meaning>,
    deciders: Deciders,
    /// All rules that packets are told apart by: those of other sets too that are
    /// compared with these.
    apart: Vec<&'w Tables>,
}

impl<'w, 't> Follow<'w, 't> {
    pub fn new(model: &'w Model<'t>, tables: &'w Tables, links: &'w LinkNumbers) -> Self {
        let (deciders, apart) = (Deciders::new(0), vec![tables]);
        Self { model, tables, links, meaning: None, deciders, apart }
    }

    /// As [`Self::new`], of two sets of rules that are compared.
    pub fn both(model: &'w Model<'t>, sets: [&'w Tables; 2], links: &'w LinkNumbers) -> [Self; 2] {
        let [old, new] = sets;
        [(old, 0), (new, 1)].map(|(tables, set)| {
            let (deciders, apart) = (Deciders::new(set), sets.to_vec());
            Self { model, tables, links, meaning: None, deciders, apart }
        })
    }

    /// What becomes of `space` at a hook of a table; the terminal 0 elsewhere.
    ///
    /// # Errors
    /// Where something isn't known.
    pub fn hook(
        &mut self,
        ground: &mut Ground,
        header: &Header,
        table: (&str, &str),
        hook: &str,
        space: Diagram,
    ) -> Result<Diagram, Unknown> {
        let mut run = Run::new(self.tables, header, &mut ground.shared, &mut self.deciders);
        run.meaning = self.meaning;
        run.hook(&mut ground.diagrams, table, hook, space)
    }

    /// What becomes of all that a sender may send of one kind.
    ///
    /// # Errors
    /// Where something isn't known.
    pub fn all(
        &mut self,
        ground: &mut Ground,
        kind: Kind,
        sender: &Sender<'t>,
    ) -> Result<Vec<Judged>, Unknown> {
        let mut judged = match sender {
            Sender::Host => return Ok(vec![self.host_sends(ground)?]),
            Sender::Port(port) => self.at_port(ground, port.interface.as_str())?,
            Sender::Link(_) | Sender::AnyLink => Vec::new(),
        };
        // A port that left its bridge is a link as others are.
        if matches!(kind, Kind::Ipv4 | Kind::Ipv6) {
            self.routed(ground, sender.link().unwrap_or_default(), &mut judged)?;
        }
        Ok(judged)
    }

    /// Frames at a guest's port, and what of them the kernel hands to the host
    /// past it.
    ///
    /// # Errors
    /// Where something isn't known.
    pub fn at_port(&mut self, ground: &mut Ground, port: &str) -> Result<Vec<Judged>, Unknown> {
        let mut header = ground.header();
        header.fix(Field::In, self.number(port));
        self.narrow(ground, &mut header, (BRIDGE, &FRAMES), &[]);
        let space = legal::frames(&mut ground.diagrams, &header);
        let mut found = Vec::new();
        for (stop, hook) in [(Stop::Port, "prerouting"), (Stop::PastPort, "input")] {
            let rules = self.hook(ground, &header, BRIDGE, hook, space)?;
            found.push(Judged { stop, header: header.clone(), space, rules, senders: Vec::new() });
        }
        Ok(found)
    }

    /// Packets that come in by a link: to the host, or through it.
    fn routed(&mut self, ground: &mut Ground, link: &str, found: &mut Vec<Judged>) -> Result<(), Unknown> {
        let mut header = ground.header();
        header.fix(Field::In, self.number(link));
        let Some(network) = self.model.network_of_bridge(link) else {
            return self.routed_from(ground, &header, (Diagram::ALWAYS, &[]), found);
        };
        // A guest's address comes with its MAC: that is what ports are compared
        // for. What is the same in all packets needs no bits: what one guest may
        // do is for the most part what another may.
        let mut strangers = Diagram::ALWAYS;
        for (mac, addresses) in self.model.senders(network, header.family()) {
            let ranges: Vec<_> = addresses.iter().map(|address| (*address, *address)).collect();
            self.in_own_name(ground, &header, (mac, addresses), found)?;
            let own = header.among(&mut ground.diagrams, Field::Source, &ranges);
            strangers = ground.diagrams.minus(strangers, own);
        }
        // Who has no address yet, and everybody else.
        let nobody = header.range(&mut ground.diagrams, Field::Source, (0, 0));
        let strangers = ground.diagrams.minus(strangers, nobody);
        self.routed_from(ground, &header, (strangers, &[]), found)?;
        header.fix(Field::Source, 0);
        self.routed_from(ground, &header, (Diagram::ALWAYS, &[]), found)
    }

    /// What a guest sends in its own name, that comes in with this header.
    fn in_own_name(
        &mut self,
        ground: &mut Ground,
        header: &Header,
        (mac, addresses): (u128, Vec<u128>),
        found: &mut Vec<Judged>,
    ) -> Result<(), Unknown> {
        let guest = [addresses];
        let [addresses] = &guest;
        for address in addresses {
            let mut header = header.clone();
            header.fix(Field::SourceMac, mac);
            header.fix(Field::Source, *address);
            self.narrow(ground, &mut header, (INET, &FLOWS), addresses);
            self.routed_from(ground, &header, (Diagram::ALWAYS, &guest), found)?;
        }
        Ok(())
    }

    /// What one guest may send: at its port, and behind it in its own name.
    ///
    /// # Errors
    /// Where something isn't known.
    pub fn of_guest(&mut self, ground: &mut Ground, port: &Port) -> Result<Vec<Judged>, Unknown> {
        let mut found = self.at_port(ground, port.interface.as_str())?;
        let Some(network) = self.model.sets().networks.get(&port.network) else { return Ok(found) };
        let mut header = ground.header();
        header.fix(Field::In, self.number(network.network.bridge.as_str()));
        let senders = self.model.senders(network, header.family());
        for guest in senders.into_iter().filter(|(mac, _)| *mac == port.mac.number()) {
            self.in_own_name(ground, &header, guest, &mut found)?;
        }
        Ok(found)
    }

    /// Those of one header; `of` are whose packets, and the addresses of the
    /// guest that they are of.
    pub fn routed_from(
        &mut self,
        ground: &mut Ground,
        header: &Header,
        (of, senders): (Diagram, &[Vec<u128>]),
        found: &mut Vec<Judged>,
    ) -> Result<(), Unknown> {
        let space = legal::packets(&mut ground.diagrams, header);
        let space = ground.diagrams.and(space, of);
        let early = self.hook(ground, header, INET, "prerouting", space)?;
        let passed = self.passed(&mut ground.diagrams, early);
        for (stop, hook) in [(Stop::Host, "input"), (Stop::Out, "forward")] {
            let mut header = header.clone();
            let mut space = space;
            match stop {
                Stop::Out => space = self.forwarded(&mut ground.diagrams, &header, space),
                _ => header.fix(Field::Out, NO_LINK),
            }
            let passed = ground.diagrams.and(passed, space);
            let late = self.hook(ground, &header, INET, hook, passed)?;
            let early = ground.diagrams.choose(space, early, Diagram::NEVER);
            let rules = ground.diagrams.choose(passed, late, early);
            found.push(Judged { stop, header, space, rules, senders: senders.to_vec() });
        }
        Ok(())
    }

    /// Packets of the host's own.
    fn host_sends(&mut self, ground: &mut Ground) -> Result<Judged, Unknown> {
        let mut header = ground.header();
        header.fix(Field::In, NO_LINK);
        let all = legal::packets(&mut ground.diagrams, &header);
        let there = header.range(&mut ground.diagrams, Field::Out, (0, self.links.last()));
        let all = ground.diagrams.and(all, there);
        // What nobody has reaches nobody: the rules let the host look for it.
        let of = Of { header: &header, links: self.links, delivery: Delivery::Out, senders: &[], flow: None };
        let model = self.model;
        let mut space = Diagram::NEVER;
        for (these, nobodys) in judge(&mut ground.diagrams, &mut ground.known, of, all, &mut |subject| {
            model.is_for_nobody(subject)
        }) {
            if !nobodys {
                space = ground.diagrams.or(space, these);
            }
        }
        let rules = self.hook(ground, &header, INET, "output", space)?;
        Ok(Judged { stop: Stop::Out, header, space, rules, senders: Vec::new() })
    }

    /// Where the first packets of flows leave that pass a stop: what becomes of
    /// their source address.
    pub fn leaving(&mut self, ground: &mut Ground, judged: &Judged) -> Result<(Diagram, Diagram), Unknown> {
        let first = legal::first(&mut ground.diagrams, &judged.header);
        let passed = self.passed(&mut ground.diagrams, judged.rules);
        let space = ground.diagrams.and(passed, first);
        let rules = self.hook(ground, &judged.header, INET, "postrouting", space)?;
        Ok((space, rules))
    }

    /// Tells apart of some fields what rules tell apart of this sender's, and its
    /// own addresses.
    fn narrow(
        &self,
        ground: &Ground,
        header: &mut Header,
        (table, fields): ((&str, &str), &[Field]),
        addresses: &[u128],
    ) {
        let mut starts = Starts::default();
        for field in fields {
            addresses.iter().for_each(|address| starts.divide(*field, (*address, *address)));
        }
        self.apart.iter().for_each(|tables| tables.divide_of(table, header, fields, &mut starts));
        ground.narrow(header, &starts, fields);
    }

    fn number(&self, link: &str) -> u128 {
        self.links.known(link).map_or(NOBODYS, |range| range.0)
    }

    /// What passes.
    pub fn passed(&self, diagrams: &mut Diagrams, rules: Diagram) -> Diagram {
        self.deciders.passed(diagrams, rules)
    }

    /// What may be routed out: by a link that there is, and from somebody (the
    /// kernel routes nothing from the unspecified address: `ip6_forward`,
    /// `ip_route_input_slow`).
    pub fn forwarded(&self, diagrams: &mut Diagrams, header: &Header, space: Diagram) -> Diagram {
        let there = header.range(diagrams, Field::Out, (0, self.links.last()));
        let space = diagrams.and(space, there);
        let nobody = header.range(diagrams, Field::Source, (0, 0));
        diagrams.minus(space, nobody)
    }

    /// What a terminal of the rules does; a source address is changed only where
    /// flows leave.
    pub fn outcome(&self, terminal: u32, leaves: bool) -> Outcome {
        match self.deciders.by(terminal).map(|decided| decided.verdict) {
            Some(Does::Drop) => Outcome::Dropped,
            Some(Does::Masquerade(_)) if leaves => Outcome::Masqueraded,
            None if terminal == DROP => Outcome::Dropped,
            _ => Outcome::Passed,
        }
    }

    /// The rule that a terminal stands for.
    pub fn rule(&self, terminal: u32) -> Option<RulePlace> {
        let Decided { place, .. } = self.deciders.by(terminal)?;
        place_of(self.tables, place)
    }
}

/// Every rule that decides about what comes to it.
pub fn deciding(tables: &Tables) -> Vec<RulePlace> {
    let mut found = Vec::new();
    for (table, of) in tables.tables.iter().enumerate() {
        for (chain, rules) in of.chains.iter().enumerate() {
            for (rule, decides) in rules.rules.iter().enumerate() {
                let verdict = decides.verdict();
                if matches!(verdict, Some(Does::Accept | Does::Drop | Does::Masquerade(_))) {
                    found.extend(place_of(tables, &Place { table, chain, rule }));
                }
            }
        }
    }
    found
}

/// A rule, as people find it.
pub fn place_of(tables: &Tables, place: &Place) -> Option<RulePlace> {
    let table = tables.tables.get(place.table)?;
    let chain = table.chains.get(place.chain)?;
    let rule = chain.rules.get(place.rule)?;
    Some(RulePlace {
        table: format!("{} {}", table.family, table.name),
        chain: chain.name.clone(),
        number: place.rule + 1,
        comment: rule.comment.clone(),
    })
}
