//! Everything that one may send to another, by what is done with it and why.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::packet::{Family, Range, number};
use crate::reach::subject::{Field, Judges, Kind, depth, state};
use crate::reach::{Model, Service, Stage};
use crate::topology::{IfName, Port};

use super::answer::{Claimed, Outcome, RulePlace};
use super::boxes::{HeaderBox, Told, Tracked, boxes};
use super::claim::Asked;
use super::diagram::{Diagram, Diagrams};
use super::ground::Ground;
use super::header::{Header, truth};
use super::links::LinkNumbers;
use super::packet::Packet;
use super::rules::{Tables, Unknown};
use super::slice::{Follow, Judged, Sender, Stop};
use super::space::{Space, judge};
use super::target::{Target, from_addresses, of_service};

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// A guest, at its port and behind it.
    Guest(&'a Port),
    /// The host.
    Host,
    /// Whoever is behind a link, with this address where one is named.
    Link(&'a IfName, Option<IpAddr>),
}

/// Packets with which the same is done for the same reason.
#[derive(Debug, Clone)]
pub struct Class {
    /// Whether it is decided at the sender's own port already.
    pub at_port: bool,
    /// The family.
    pub family: Family,
    /// Which packets: of those at a port none are told, and no destinations where
    /// these are all of whom they are for.
    pub boxes: Vec<HeaderBox>,
    /// Whether it is so only beyond a limit.
    pub beyond_limits: bool,
    /// What the rules do.
    pub rules: Outcome,
    /// Which of them.
    pub rule: Option<RulePlace>,
    /// What the model says.
    pub model: Claimed,
    /// One of them.
    pub example: Packet,
}

impl Class {
    /// Whether rules and model say the same. Beyond a limit rules drop what may
    /// pass otherwise.
    pub fn agrees(&self) -> bool {
        let (rules, model) = (self.rules == Outcome::Dropped, self.model.outcome() == Outcome::Dropped);
        rules == model || (self.beyond_limits && rules)
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Who sends.
    pub from: From<'a>,
    /// To whom.
    pub to: &'a Target,
    /// What, where one service is asked about.
    pub service: Option<Service>,
    /// Which families.
    pub families: &'a [Family],
    /// Addresses that stand for those who are many, in examples.
    pub usual: &'a [IpAddr],
}

/// One way of judging, before those for the same reason are together.
struct Found {
    class: Class,
    space: Diagram,
    /// How far its example is from what people think of.
    rank: usize,
}

/// Every class of a pair's packets.
pub(super) fn why(
    model: &Model<'_>,
    tables: &Tables,
    links: &LinkNumbers,
    pair: Pair<'_>,
) -> Result<Vec<Class>, Unknown> {
    let mut follow = Follow::new(model, tables, links);
    let mut classes = Vec::new();
    for family in pair.families {
        let kind = family.pick([Kind::Ipv4, Kind::Ipv6]);
        if !pair.to.has(kind) {
            continue;
        }
        let mut ground = Ground::new(kind, &[tables], links);
        let found = ground.settled(|ground| of_family(&mut follow, ground, (kind, links), pair))?;
        classes.extend(found);
    }
    // What passes first; what the port decides is about what nobody means.
    let opens = |class: &Class| class.boxes.iter().any(|one| one.tracked.contains(&Tracked::New));
    classes.sort_by_key(|class| {
        (class.at_port, class.rules == Outcome::Dropped, class.beyond_limits, !opens(class))
    });
    Ok(classes)
}

/// Every class of one family.
fn of_family(
    follow: &mut Follow<'_, '_>,
    ground: &mut Ground,
    (kind, links): (Kind, &LinkNumbers),
    pair: Pair<'_>,
) -> Result<Vec<Class>, Unknown> {
    let (model, mut classes) = (follow.model, Vec::new());
    let (judged, link, port) = match pair.from {
        From::Guest(port) => {
            let bridge = model.topology().network(&port.network).map(|network| network.bridge.as_str());
            (follow.of_guest(ground, port)?, bridge, model.port(port.interface.as_str()))
        }
        From::Host => (follow.all(ground, kind, &Sender::Host)?, None, None),
        From::Link(link, _) => {
            let sender = Sender::Link(link.to_string());
            (follow.all(ground, kind, &sender)?, Some(link.as_str()), None)
        }
    };
    for judged in judged.iter().filter(|judged| judged.stop != Stop::PastPort) {
        let link = match (judged.stop, port) {
            (Stop::Port, Some(port)) => Some(port.interface.as_str()),
            _ => link,
        };
        let asked = Asked { model, links, judged, link, port };
        for class in classes_of(follow, ground, asked, pair)? {
            add(&mut classes, class);
        }
    }
    Ok(classes)
}

/// Adds a class; what a guest sends from its other address is told with it.
fn add(classes: &mut Vec<Class>, class: Class) {
    let same = |known: &Class| {
        (known.at_port, known.family) == (class.at_port, class.family)
            && known.boxes == class.boxes
            && is_same(known, &class)
    };
    if !classes.iter().any(same) {
        classes.push(class);
    }
}

/// Those of what comes to one stop.
fn classes_of(
    follow: &Follow<'_, '_>,
    ground: &mut Ground,
    asked: Asked<'_, '_>,
    pair: Pair<'_>,
) -> Result<Vec<Class>, Unknown> {
    let Judged { header, stop, .. } = asked.judged;
    let space = space(ground, asked, pair);
    let cells = cells(ground, asked, pair, space);
    let diagrams = &mut ground.diagrams;
    let rules = diagrams.choose(space, asked.judged.rules, Diagram::NEVER);
    let limits = header.limits();
    let within = diagrams.pairs(rules, cells, limits);
    let everywhere = diagrams.pairs(rules, cells, u32::MAX);
    let examples: Vec<_> = preferred(diagrams, asked, pair)
        .into_iter()
        .map(|these| {
            let near = diagrams.choose(these, rules, Diagram::NEVER);
            diagrams.pairs(near, cells, limits)
        })
        .collect();
    let free = header.masked(diagrams, Field::Limits, u128::MAX, 0);
    let mut found: Vec<Found> = Vec::new();
    for (&(terminal, cell), path) in &everywhere {
        if terminal == 0 || cell == 0 {
            continue;
        }
        let beyond_limits = !within.contains_key(&(terminal, cell));
        let choices = examples.iter().chain([&within]).enumerate();
        let near = choices.filter_map(|(rank, paths)| Some((rank, paths.get(&(terminal, cell))?))).next();
        let (rank, path) = near.unwrap_or((usize::MAX, path));
        let (example, model) = asked.claim(ground, path)?;
        let rules_do = follow.outcome(terminal, false);
        // What a port lets in is followed further.
        let passes = rules_do != Outcome::Dropped && model.outcome() != Outcome::Dropped;
        if *stop == Stop::Port && passes {
            continue;
        }
        let diagrams = &mut ground.diagrams;
        let by_rule = diagrams.rename(rules, &|other| truth(other == terminal));
        let by_model = diagrams.rename(cells, &|other| truth(other == cell));
        let mut these = diagrams.and(by_rule, by_model);
        if !beyond_limits {
            these = diagrams.and(these, free);
        }
        let class = Class {
            at_port: *stop == Stop::Port,
            family: header.family(),
            boxes: Vec::new(),
            beyond_limits,
            rules: rules_do,
            rule: follow.rule(terminal),
            model,
            example,
        };
        match found.iter_mut().find(|known| is_same(&known.class, &class)) {
            Some(known) => {
                known.space = diagrams.or(known.space, these);
                if rank < known.rank {
                    (known.class, known.rank) = (class, rank);
                }
            }
            None => found.push(Found { class, space: these, rank }),
        }
    }
    let destinations = everything(&mut ground.diagrams, header, rules);
    let told = Told {
        sources: matches!(pair.from, From::Link(_, None)),
        destinations: pair.to.is_many(),
        tracking: true,
    };
    let mut classes = Vec::new();
    for Found { mut class, space, .. } in found {
        if !class.at_port {
            class.boxes = boxes(&mut ground.diagrams, header, space, told);
            let all = class.boxes.iter_mut().filter(|one| one.destinations == destinations);
            all.for_each(|one| one.destinations.clear());
        }
        classes.push(class);
    }
    Ok(classes)
}

/// Every destination of a space.
fn everything(diagrams: &mut Diagrams, header: &Header, rules: Diagram) -> Vec<Range> {
    let there = diagrams.rename(rules, &|terminal| truth(terminal != 0));
    let told = Told { destinations: true, ..Told::default() };
    let boxes = boxes(diagrams, header, there, told);
    let mut ranges: Vec<Range> = boxes.into_iter().flat_map(|one| one.destinations).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

/// For the same reason, by the same rule. At a port a rule is reason enough.
fn is_same(a: &Class, b: &Class) -> bool {
    let of = |class: &Class| (class.beyond_limits, class.rules, class.agrees());
    of(a) == of(b) && a.rule == b.rule && (says_the_same(a, b) || (a.at_port && a.agrees()))
}

/// Whether the model has the same reasons, whichever of a guest's addresses it
/// is that sends.
fn says_the_same(a: &Class, b: &Class) -> bool {
    let (Claimed::Judged(one), Claimed::Judged(other)) = (&a.model, &b.model) else {
        return a.model == b.model;
    };
    let what = |class: &Class, what: &str| what.replace(&class.example.flow().source.to_string(), "");
    let same = |(mine, yours): (&Stage, &Stage)| {
        (mine.place, mine.passes, &mine.decided_by) == (yours.place, yours.passes, &yours.decided_by)
            && what(a, &mine.what) == what(b, &yours.what)
    };
    (one.verdict, one.masqueraded, one.way.len()) == (other.verdict, other.masqueraded, other.way.len())
        && one.way.iter().zip(&other.way).all(same)
}

/// All packets of a pair that come to a stop.
fn space(ground: &mut Ground, asked: Asked<'_, '_>, pair: Pair<'_>) -> Diagram {
    let (diagrams, judged) = (&mut ground.diagrams, asked.judged);
    let to = pair.to.space(diagrams, asked.model, asked.links, judged);
    let service = of_service(diagrams, &judged.header, pair.service);
    let from = match pair.from {
        From::Link(_, Some(address)) => from_addresses(diagrams, &judged.header, &[address]),
        _ => Diagram::ALWAYS,
    };
    let rest = diagrams.and(service, from);
    let rest = diagrams.and(rest, to);
    diagrams.and(rest, judged.space)
}

/// The first way of judging's terminal.
const CELLS: u32 = 16;

/// Each way of the model's of judging them, by a terminal of its own; what
/// policies judge by different rules is apart.
fn cells(ground: &mut Ground, asked: Asked<'_, '_>, pair: Pair<'_>, space: Diagram) -> Diagram {
    let mut said = |subject: &mut Space<'_>| asked.said(subject).outcome();
    let ways = judge(&mut ground.diagrams, &mut ground.known, asked.of(None), space, &mut said);
    let mut parts: Vec<Diagram> = ways.into_iter().map(|(these, _)| these).collect();
    if asked.judged.stop != Stop::Port {
        for rules in by_policies(ground, asked, pair) {
            let diagrams = &mut ground.diagrams;
            let split = |part: &Diagram| -> Vec<Diagram> {
                rules.iter().map(|these| diagrams.and(*part, *these)).collect()
            };
            parts = parts.iter().flat_map(split).filter(|part| *part != Diagram::NEVER).collect();
        }
    }
    let mut cells = Diagram::NEVER;
    for (number, these) in (CELLS..).zip(parts) {
        cells = ground.diagrams.choose(these, Diagram::terminal(number), cells);
    }
    cells
}

/// For the policy of each end: the packets that each of its rules decides about.
fn by_policies(ground: &mut Ground, asked: Asked<'_, '_>, pair: Pair<'_>) -> Vec<Vec<Diagram>> {
    let model = asked.model;
    let sender = match pair.from {
        From::Guest(port) => model.port(port.interface.as_str()),
        From::Host | From::Link(..) => None,
    };
    let receivers = match pair.to {
        Target::Addresses(addresses) => addresses.as_slice(),
        Target::Host | Target::Internet(_) | Target::Link(_) => &[],
    };
    let network = sender.and_then(|port| model.sets().networks.get(&port.network));
    let sender = sender.zip(network).map(|(port, network)| (port, Judges::Senders(network)));
    let receiver = receivers.iter().find_map(|address| model.guest_at(*address));
    let receiver = receiver.map(|port| (port, Judges::Receivers));
    let mut found = Vec::new();
    for (port, judges) in sender.into_iter().chain(receiver) {
        let policy = model.topology().policy(port);
        let list = policy.and_then(|policy| model.sets().list(&policy.id, judges.direction()));
        let Some(list) = list else { continue };
        let (mut by_rule, far) = (BTreeMap::new(), judges.far());
        let mut decide = |subject: &mut Space<'_>| {
            let (action, rule) = list.decide(subject, far);
            (action as u8, rule.map(|rule| (rule.policy.clone(), rule.index)))
        };
        let (diagrams, known) = (&mut ground.diagrams, &mut ground.known);
        for (these, rule) in judge(diagrams, known, asked.of(None), Diagram::ALWAYS, &mut decide) {
            let known = by_rule.entry(rule).or_insert(Diagram::NEVER);
            *known = diagrams.or(*known, these);
        }
        found.push(by_rule.into_values().collect());
    }
    found
}

/// Packets that people think of, the first choice first: whole first packets,
/// with addresses that stand for those who are many.
fn preferred(diagrams: &mut Diagrams, asked: Asked<'_, '_>, pair: Pair<'_>) -> Vec<Diagram> {
    let header = &asked.judged.header;
    let of_family = pair.usual.iter().filter(|address| Family::of(**address) == header.family());
    let numbers: Vec<_> = of_family.map(|address| (number(*address), number(*address))).collect();
    let mut usual = Diagram::ALWAYS;
    if matches!(pair.from, From::Link(_, None)) {
        let from = header.among(diagrams, Field::Source, &numbers);
        usual = diagrams.and(usual, from);
    }
    if matches!(pair.to, Target::Internet(_) | Target::Link(_)) {
        let to = header.among(diagrams, Field::Destination, &numbers);
        usual = diagrams.and(usual, to);
    }
    let whole = header.range(diagrams, Field::Depth, (depth::TARGET, depth::TARGET));
    let new = header.range(diagrams, Field::State, (state::NEW, state::NEW));
    let first = diagrams.and(whole, new);
    vec![diagrams.and(usual, first), first, diagrams.and(usual, whole), whole, usual]
}
