//! All packets' way through the base chains of a hook, as the kernel takes each
//! (nft(8)): an accept ends the base chain that it is in, a drop ends all.

use std::collections::{BTreeMap, HashMap};

use crate::ownership::JUDGED;
use crate::reach::subject::{Field, state};

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::Header;
use super::action::{Effect, End, Step};
use super::condition::{At, Condition, Own};
use super::mark::{Computed, Marks, Whose};
use super::question;
use super::table::{Base, Rules, Table};

/// The kernel's own limit of jumps in jumps (NFT_JUMP_STACK_SIZE).
const DEPTH_MAX: usize = 16;

/// Rules looked at in one base chain. A ruleset that jumps to and fro would
/// otherwise take for ever.
const RULES_MAX: usize = 100_000;

/// Nodes after which nothing is followed further: some hundred megabytes.
const NODES_MAX: usize = 8_000_000;

/// In no link's place.
const NO_LINK: u128 = u128::MAX;

/// Where something happens: a rule, or the end of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Where {
    pub effect: Effect,
    pub table: usize,
    pub base: usize,
    pub chain: usize,
    /// None where it is the base chain's policy.
    pub rule: Option<usize>,
    /// More rules came than are followed.
    pub given_up: bool,
}

/// What of conditions is known: by their number, and whether it is known yet
/// where packets go.
pub type Known = HashMap<(usize, bool), Diagram>;

/// A part of a packet's way.
#[derive(Debug, Clone, Copy)]
pub struct Station<'s> {
    pub hook: &'s str,
    pub families: &'s [&'s str],
    /// Base chains of these priorities, both ends included.
    pub priorities: (i64, i64),
    /// Nobody knows yet where packets go out, or they don't.
    pub early: bool,
    pub own: Own,
}

/// Goes through base chains.
pub struct Walk<'w> {
    pub rules: &'w Rules,
    pub diagrams: &'w mut Diagrams,
    pub header: &'w Header,
    pub known: &'w mut Known,
    pub marks: &'w mut Marks,
    pub events: BTreeMap<Where, Diagram>,
    /// Whose packets bear hostctl's mark from prerouting on.
    pub judged: Diagram,
    /// Which of them are routed by it.
    pub by_mark: Diagram,
    early: Option<Header>,
    own: Own,
    /// Whether packets are routed next, which goes by their marks.
    routes: bool,
    count: usize,
}

/// What a chain doesn't end.
struct Left {
    returned: Diagram,
    accepted: Diagram,
}

impl<'w> Walk<'w> {
    pub fn new(
        rules: &'w Rules,
        diagrams: &'w mut Diagrams,
        header: &'w Header,
        known: &'w mut Known,
        marks: &'w mut Marks,
    ) -> Self {
        let (events, judged, by_mark) = (BTreeMap::new(), Diagram::NEVER, Diagram::NEVER);
        Self {
            rules,
            diagrams,
            header,
            known,
            marks,
            events,
            judged,
            by_mark,
            early: None,
            own: Own::default(),
            routes: false,
            count: 0,
        }
    }

    /// What of `space` passes a station.
    pub fn station(&mut self, station: &Station<'_>, space: Diagram) -> Diagram {
        self.own = station.own;
        self.early = station.early.then(|| {
            let mut header = self.header.clone();
            header.fix(Field::Out, NO_LINK);
            header
        });
        let rules = self.rules;
        let mut alive = space;
        self.routes = station.hook == "prerouting";
        if self.routes {
            let judged = self.marks.computed(self.diagrams, &Computed::Number(JUDGED));
            self.marks.set(self.diagrams, Whose::Packet, self.judged, &judged);
        }
        for (table, chain, base) in rules.at(station.families, station.hook) {
            let (first, last) = station.priorities;
            if !(first..=last).contains(&base.priority) {
                continue;
            }
            let enters = self.entering(base, station.hook, alive);
            self.count = 0;
            let Some(of) = rules.tables.get(table) else { continue };
            let left = self.chain((table, of, chain), chain, enters, 0);
            if base.drops {
                let event = self.here((table, chain, chain), None, Effect::Drop);
                self.event(event, left.returned);
            }
            let passes =
                if base.drops { left.accepted } else { self.diagrams.or(left.accepted, left.returned) };
            let past = self.diagrams.minus(alive, enters);
            alive = self.diagrams.or(past, passes);
        }
        if self.routes {
            self.unmarked();
        }
        alive
    }

    /// Of those that a rule took hostctl's mark from, some may have got it back.
    fn unmarked(&mut self) {
        let marked = self.marks.within(self.diagrams, (Whose::Packet, JUDGED), (JUDGED, JUDGED));
        let lost = self.diagrams.minus(self.judged, marked);
        for (_, hit) in self.events.iter_mut().filter(|(event, _)| event.effect == Effect::Unmark) {
            *hit = self.diagrams.and(*hit, lost);
        }
    }

    /// What of it comes to a base chain.
    fn entering(&mut self, base: &Base, hook: &str, alive: Diagram) -> Diagram {
        let mut enters = alive;
        if let Some(devices) = &base.devices {
            let field = if hook == "egress" { Field::Out } else { Field::In };
            let ranges: Vec<_> = devices.iter().map(|device| (*device, *device)).collect();
            let by = self.header.among(self.diagrams, field, &ranges);
            enters = self.diagrams.and(enters, by);
        }
        if let Some(bit) = base.on {
            let on = question::yes(self.diagrams, bit);
            enters = self.diagrams.and(enters, on);
        }
        if base.nat {
            let new = self.header.range(self.diagrams, Field::State, (state::NEW, state::NEW));
            enters = self.diagrams.and(enters, new);
        }
        enters
    }

    fn here(
        &self,
        (table, base, chain): (usize, usize, usize),
        rule: Option<usize>,
        effect: Effect,
    ) -> Where {
        Where { effect, table, base, chain, rule, given_up: false }
    }

    fn event(&mut self, event: Where, hit: Diagram) {
        if hit != Diagram::NEVER {
            let before = self.events.get(&event).copied().unwrap_or(Diagram::NEVER);
            let both = self.diagrams.or(before, hit);
            self.events.insert(event, both);
        }
    }

    fn holds(&mut self, number: usize, condition: &Condition) -> Diagram {
        let key = (number, self.early.is_some());
        let fixed = condition.is_fixed();
        if let Some(known) = self.known.get(&key).filter(|_| fixed) {
            return *known;
        }
        let holds = self.asked(condition);
        if fixed {
            self.known.insert(key, holds);
        }
        holds
    }

    fn asked(&mut self, condition: &Condition) -> Diagram {
        let header = self.early.as_ref().unwrap_or(self.header);
        condition.holds(&mut At { diagrams: self.diagrams, header, marks: self.marks, own: self.own })
    }

    fn chain(
        &mut self,
        (table, of, base): (usize, &'w Table, usize),
        chain: usize,
        space: Diagram,
        depth: usize,
    ) -> Left {
        let (mut rest, mut left) = (space, Left { returned: Diagram::NEVER, accepted: Diagram::NEVER });
        let rules = of.chains.get(chain).map(|chain| chain.rules.as_slice()).unwrap_or_default();
        for (number, rule) in rules.iter().enumerate() {
            if rest == Diagram::NEVER {
                break;
            }
            self.count += 1;
            if self.count > RULES_MAX || depth > DEPTH_MAX || self.diagrams.len() > NODES_MAX {
                let given_up = self.here((table, base, chain), Some(number), Effect::Unknown);
                self.event(Where { given_up: true, ..given_up }, rest);
                break;
            }
            let place = (table, of, base, chain, number);
            let mut hit = rest;
            for step in &rule.steps {
                if hit == Diagram::NEVER {
                    break;
                }
                match step {
                    Step::If(number, condition) => {
                        let holds = self.holds(*number, condition);
                        hit = self.diagrams.and(hit, holds);
                    }
                    Step::Mark(whose, value) => {
                        let bits = self.marks.computed(self.diagrams, value);
                        self.marks.set(self.diagrams, *whose, hit, &bits);
                        if *whose == Whose::Packet && self.routes {
                            let judged = self.diagrams.and(hit, self.by_mark);
                            let event = self.here((table, base, chain), Some(number), Effect::Unmark);
                            self.event(event, judged);
                        }
                    }
                    Step::Does(effect, of_which) => {
                        let holds = self.asked(of_which);
                        let these = self.diagrams.and(hit, holds);
                        let event = self.here((table, base, chain), Some(number), *effect);
                        self.event(event, these);
                    }
                    Step::Ends(end) => hit = self.end(place, end, hit, (&mut rest, &mut left), depth),
                    Step::Case(cases) => {
                        for (number, condition, end) in cases {
                            let holds = self.holds(*number, condition);
                            let these = self.diagrams.and(hit, holds);
                            if these != Diagram::NEVER {
                                hit = self.diagrams.minus(hit, these);
                                let back = self.end(place, end, these, (&mut rest, &mut left), depth);
                                hit = self.diagrams.or(hit, back);
                            }
                        }
                    }
                }
            }
        }
        left.returned = self.diagrams.or(left.returned, rest);
        left
    }

    /// Ends a rule for `hit`; what of it goes on in the rule. What comes back from
    /// a jump goes on with the next.
    fn end(
        &mut self,
        (table, of, base, chain, rule): (usize, &'w Table, usize, usize, usize),
        end: &End,
        hit: Diagram,
        (rest, left): (&mut Diagram, &mut Left),
        depth: usize,
    ) -> Diagram {
        if *end == End::Next {
            return hit;
        }
        *rest = self.diagrams.minus(*rest, hit);
        let happens = |effect: &Effect| Where {
            effect: *effect,
            table,
            base,
            chain,
            rule: Some(rule),
            given_up: false,
        };
        match end {
            End::Next => {}
            End::Accept => left.accepted = self.diagrams.or(left.accepted, hit),
            End::Return => left.returned = self.diagrams.or(left.returned, hit),
            End::Gone(effect) => self.event(happens(effect), hit),
            End::Changed(effect) => {
                self.event(happens(effect), hit);
                left.accepted = self.diagrams.or(left.accepted, hit);
            }
            End::Jump(to) | End::Goto(to) => {
                let inner = self.chain((table, of, base), *to, hit, depth + 1);
                left.accepted = self.diagrams.or(left.accepted, inner.accepted);
                let back = if matches!(end, End::Jump(_)) { rest } else { &mut left.returned };
                *back = self.diagrams.or(*back, inner.returned);
            }
        }
        Diagram::NEVER
    }
}
