//! What rules do with all packets of a space: each is followed to the rule that
//! decides.

use std::collections::HashMap;

use crate::reach::subject::Field;

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::{Header, truth};
use super::Unknown;
use super::expression::{Left, Read};
use super::listing::{Table, Tables};
use super::meaning::Meaning;
use super::statement::{Match, Right, Set, Statement, Verdict};

/// A chain was left by a return, or by its end.
const RETURNED: Diagram = Diagram::terminal(2);
/// A base chain's policy lets pass.
pub const ACCEPT: u32 = 3;
/// A base chain's policy drops.
pub const DROP: u32 = 4;
/// No chain of the hook takes a decision.
pub const PASSED_ON: u32 = 5;
/// Those of rules follow.
const RULES: u32 = 16;
/// Most rules of one set.
const MOST: u32 = 1 << 22;

/// Chains call each other no deeper (NFT_JUMP_STACK_SIZE).
const DEPTH: u32 = 16;

/// Kinds of changes of terminals: what a terminal stands for is the same as long
/// as a thread's diagrams live.
const DECIDED: u32 = 0;
const ENDS_DROPPED: u32 = 2;
const ENDS_ACCEPTED: u32 = 3;
/// What passes.
const PASSES: u32 = 4;
/// What comes of it; the source address is another matter.
pub const OUTCOME: u32 = 5;
/// What comes of it where flows leave.
pub const LEAVES: u32 = 6;

/// Which rule a terminal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub table: usize,
    pub chain: usize,
    pub rule: usize,
}

/// A rule that decided.
#[derive(Debug, Clone, Copy)]
pub struct Decided {
    pub place: Place,
    pub verdict: Verdict,
}

/// Every rule that decided about something, by its terminal.
#[derive(Debug)]
pub struct Deciders {
    /// The first one's terminal: those of two sets of rules are apart.
    first: u32,
    list: Vec<Decided>,
    places: HashMap<Place, u32>,
}

impl Deciders {
    /// None yet; `set` tells sets of rules apart.
    pub fn new(set: u32) -> Self {
        Self { first: RULES + set * MOST, list: Vec::new(), places: HashMap::new() }
    }

    /// The rule that a terminal stands for.
    pub fn by(&self, terminal: u32) -> Option<&Decided> {
        self.list.get(usize::try_from(terminal.checked_sub(self.first)?).ok()?)
    }

    /// Whether a terminal of a hook is one of packets that pass it.
    fn is_passed(&self, terminal: u32) -> bool {
        match terminal {
            ACCEPT | PASSED_ON => true,
            _ => self.by(terminal).is_some_and(|decided| !matches!(decided.verdict, Verdict::Drop)),
        }
    }

    /// What passes.
    pub fn passed(&self, diagrams: &mut Diagrams, rules: Diagram) -> Diagram {
        diagrams.change(PASSES, rules, &|terminal| truth(self.is_passed(terminal)))
    }

    fn terminal(&mut self, place: Place, verdict: Verdict) -> Result<Diagram, Unknown> {
        if let Some(number) = self.places.get(&place) {
            return Ok(Diagram::terminal(*number));
        }
        let count = u32::try_from(self.list.len()).ok().filter(|count| *count < MOST);
        let number = self.first + count.ok_or_else(|| Unknown("so many rules".into()))?;
        self.list.push(Decided { place, verdict });
        self.places.insert(place, number);
        Ok(Diagram::terminal(number))
    }
}

/// What is known of sets whose diagrams don't depend on who sends.
pub type Shared = HashMap<Asked, Diagram>;

/// Of which rules, which table's which set is asked about which fields.
type Asked = (u32, usize, usize, Vec<Field>);

/// Follows packets through the rules.
pub struct Run<'r> {
    pub tables: &'r Tables,
    pub header: &'r Header,
    pub shared: &'r mut Shared,
    pub deciders: &'r mut Deciders,
    /// What is asked of sets, where what they hold is left open.
    pub meaning: Option<&'r dyn Meaning>,
    own: Shared,
}

impl<'r> Run<'r> {
    pub fn new(
        tables: &'r Tables,
        header: &'r Header,
        shared: &'r mut Shared,
        deciders: &'r mut Deciders,
    ) -> Self {
        Self { tables, header, shared, deciders, meaning: None, own: Shared::new() }
    }

    /// What becomes of `space` at a hook of a table; the terminal 0 elsewhere.
    ///
    /// # Errors
    /// Where something isn't known.
    pub fn hook(
        &mut self,
        diagrams: &mut Diagrams,
        (family, name): (&str, &str),
        hook: &str,
        space: Diagram,
    ) -> Result<Diagram, Unknown> {
        let index = self.tables.tables.iter().position(|table| table.family == family && table.name == name);
        let passed = Diagram::terminal(PASSED_ON);
        let Some(index) = index else { return Ok(diagrams.choose(space, passed, Diagram::NEVER)) };
        let Some(table) = self.tables.tables.get(index) else { return Err(Unknown("a table".into())) };
        let (mut rest, mut out) = (space, Diagram::NEVER);
        for (chain, base) in table.at(hook) {
            let done = self.chain(diagrams, (index, table, chain), rest, 0)?;
            let policy = Diagram::terminal(if base.drops { DROP } else { ACCEPT });
            let kind = if base.drops { ENDS_DROPPED } else { ENDS_ACCEPTED };
            let done = diagrams.change(kind, done, &|terminal| {
                let own = Diagram::terminal(terminal);
                if own == RETURNED { policy } else { own }
            });
            out = diagrams.choose(rest, done, out);
            // Another chain judges what this one let pass.
            let passes = self.deciders.passed(diagrams, done);
            rest = diagrams.and(rest, passes);
        }
        if out == Diagram::NEVER { Ok(diagrams.choose(space, passed, Diagram::NEVER)) } else { Ok(out) }
    }

    /// What a chain does with `space`; 0 elsewhere.
    fn chain(
        &mut self,
        diagrams: &mut Diagrams,
        (index, table, chain): (usize, &'r Table, usize),
        space: Diagram,
        depth: u32,
    ) -> Result<Diagram, Unknown> {
        if depth > DEPTH {
            return Err(Unknown("chains that call each other without end".into()));
        }
        let Some(rules) = table.chains.get(chain) else { return Err(Unknown("a chain".into())) };
        let (mut rest, mut out) = (space, Diagram::NEVER);
        for (number, rule) in rules.rules.iter().enumerate() {
            if rest == Diagram::NEVER {
                break;
            }
            let Some(statements) = &rule.statements else { continue };
            let mut hit = rest;
            for statement in statements {
                if hit == Diagram::NEVER {
                    break;
                }
                match statement {
                    Statement::Aside => {}
                    Statement::Match(comparison) => {
                        let matches = self.matches(diagrams, index, comparison)?;
                        hit = diagrams.and(hit, matches);
                    }
                    Statement::Verdict(verdict) => {
                        let place = Place { table: index, chain, rule: number };
                        let done = self.verdict(diagrams, (index, table, place), *verdict, hit, depth)?;
                        (rest, out) = settle(diagrams, rest, out, done);
                    }
                    Statement::Map(left, right) => {
                        let (Left::Fields(reads), Right::Named(set)) = (left, right) else {
                            return Err(Unknown("a map".into()));
                        };
                        let map = table.sets.get(*set).filter(|map| !map.filled);
                        let map = map.ok_or_else(|| Unknown("a map that rules fill".into()))?;
                        let there = self.present(diagrams, left);
                        if there == Diagram::NEVER {
                            continue;
                        }
                        let looked_up = self.look_up(diagrams, (index, *set), map, reads)?;
                        let at = diagrams.and(hit, there);
                        let found = diagrams.choose(at, looked_up, Diagram::NEVER);
                        for terminal in diagrams.terminals(found) {
                            let Some(verdict) = map.verdict(terminal) else { continue };
                            let these = diagrams.rename(found, &|other| truth(other == terminal));
                            let place = Place { table: index, chain, rule: number };
                            let done =
                                self.verdict(diagrams, (index, table, place), verdict, these, depth)?;
                            (rest, out) = settle(diagrams, rest, out, done);
                        }
                    }
                }
            }
        }
        Ok(diagrams.choose(rest, RETURNED, out))
    }

    /// What of `hit` is decided by one verdict, and how; the rest goes on in the
    /// chain.
    fn verdict(
        &mut self,
        diagrams: &mut Diagrams,
        (index, table, place): (usize, &'r Table, Place),
        verdict: Verdict,
        hit: Diagram,
        depth: u32,
    ) -> Result<(Diagram, Diagram), Unknown> {
        Ok(match verdict {
            Verdict::Accept | Verdict::Drop | Verdict::Masquerade(_) => {
                (hit, self.deciders.terminal(place, verdict)?)
            }
            Verdict::Return => (hit, RETURNED),
            Verdict::Goto(chain) => (hit, self.chain(diagrams, (index, table, chain), hit, depth + 1)?),
            Verdict::Jump(chain) => {
                let done = self.chain(diagrams, (index, table, chain), hit, depth + 1)?;
                let decides = |terminal| truth(terminal != 0 && Diagram::terminal(terminal) != RETURNED);
                (diagrams.change(DECIDED, done, &decides), done)
            }
        })
    }

    fn present(&self, diagrams: &mut Diagrams, left: &Left) -> Diagram {
        let reads: &[Read] = match left {
            Left::Fields(reads) => reads,
            Left::Masked(read, _) => std::slice::from_ref(read),
            Left::Meaning(_) => &[],
        };
        reads.iter().fold(Diagram::ALWAYS, |all, read| {
            let there = read.present(self.header, diagrams);
            diagrams.and(all, there)
        })
    }

    fn matches(
        &mut self,
        diagrams: &mut Diagrams,
        table: usize,
        comparison: &Match,
    ) -> Result<Diagram, Unknown> {
        let Match { left, right, not } = comparison;
        if let (Left::Meaning(meaning), Right::Meaning(operator, value)) = (left, right) {
            return meaning.holds(self.header, diagrams, operator, value);
        }
        let there = self.present(diagrams, left);
        let found = match (left, right) {
            // Nothing of the kind is asked about sets of another.
            (Left::Fields(_), Right::Boxes(_)) if there == Diagram::NEVER => Diagram::NEVER,
            (_, Right::Bits(fields)) => {
                let mut any = Diagram::NEVER;
                for field in fields {
                    let one = self.header.range(diagrams, *field, (1, 1));
                    any = diagrams.or(any, one);
                }
                any
            }
            (Left::Fields(reads), Right::Named(number)) => {
                let set = self.tables.tables.get(table).and_then(|table| table.sets.get(*number));
                let set = set.ok_or_else(|| Unknown("a set".into()))?;
                if set.filled {
                    return Err(Unknown(format!("what is in {} by now: rules fill it", set.name)));
                }
                if there == Diagram::NEVER {
                    return Ok(there);
                }
                let found = self.look_up(diagrams, (table, *number), set, reads)?;
                match set.limit {
                    None => found,
                    Some(_) if *not => {
                        return Err(Unknown(format!("what isn't in {}, which limits", set.name)));
                    }
                    Some(limit) => {
                        let bit = 1 << limit.bit;
                        let is = self.header.masked(
                            diagrams,
                            Field::Limits,
                            bit,
                            if limit.over { bit } else { 0 },
                        );
                        diagrams.and(found, is)
                    }
                }
            }
            (Left::Fields(reads), Right::Boxes(boxes)) => {
                let fields: Vec<Field> = reads.iter().map(|read| read.field).collect();
                self.header.boxes(diagrams, &fields, boxes)
            }
            (Left::Masked(read, mask), Right::Boxes(boxes)) => match boxes.ranges.as_slice() {
                [(first, last)] if first == last && self.header.takes_mask(read.field, *mask) => {
                    self.header.masked(diagrams, read.field, *mask, *first)
                }
                _ => {
                    return Err(Unknown("a mask with many holes, or compared with more than a value".into()));
                }
            },
            _ => return Err(Unknown(format!("the comparison {comparison:?}"))),
        };
        let found = if *not { diagrams.not(found) } else { found };
        Ok(diagrams.and(found, there))
    }

    /// Where a set or map has an element, and its value there.
    fn look_up(
        &mut self,
        diagrams: &mut Diagrams,
        place: (usize, usize),
        set: &Set,
        reads: &[Read],
    ) -> Result<Diagram, Unknown> {
        let fields: Vec<Field> = reads.iter().map(|read| read.field).collect();
        if let (Some(meaning), Some(table)) = (self.meaning, self.tables.tables.get(place.0))
            && let Some(found) = meaning.look_up(diagrams, self.header, (table, set), &fields)?
        {
            return Ok(found);
        }
        let key = (self.deciders.first, place.0, place.1, fields.clone());
        // A field that is a constant of this header makes it this header's.
        let here = fields.iter().any(|field| self.header.is_own(*field));
        let known = if here { &self.own } else { &*self.shared };
        if let Some(known) = known.get(&key) {
            return Ok(*known);
        }
        let first = fields.first().and_then(|first| self.header.constant(*first));
        let boxes = first.map(|value| set.with_first(value));
        let found = self.header.boxes(diagrams, &fields, boxes.as_ref().unwrap_or(&set.boxes));
        if here {
            self.own.insert(key, found)
        } else {
            self.shared.insert(key, found)
        };
        Ok(found)
    }
}

/// Takes what is decided out of `rest`, and adds it to `out`.
fn settle(
    diagrams: &mut Diagrams,
    rest: Diagram,
    out: Diagram,
    (decided, done): (Diagram, Diagram),
) -> (Diagram, Diagram) {
    (diagrams.minus(rest, decided), diagrams.choose(decided, done, out))
}
