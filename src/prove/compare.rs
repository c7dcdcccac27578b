//! What the rules do with all that a sender may send, held against what the
//! model says of it.

use std::collections::BTreeSet;

use crate::reach::subject::Kind;
use crate::reach::{Decision, Model};

use super::answer::{Counterexample, Extent, Outcome};
use super::claim::Asked;
use super::diagram::{Diagram, Path};
use super::ground::Ground;
use super::links::LinkNumbers;
use super::rules::run::{LEAVES, OUTCOME};
use super::rules::{Tables, Unknown};
use super::slice::{Follow, Sender, Stop};
use super::space::{Space, judge};

/// One thread's work.
pub struct Worker<'w, 't> {
    follow: Follow<'w, 't>,
    reached: BTreeSet<u32>,
    extent: Extent,
    found: Vec<Counterexample>,
}

/// What came of one sender's packets of one kind.
#[derive(Default)]
struct Seen {
    cases: usize,
    reached: Vec<u32>,
    found: Vec<Counterexample>,
}

/// What is compared.
#[derive(Clone, Copy)]
struct Case<'c, 't> {
    asked: Asked<'c, 't>,
    /// Where a flow's first packet leaves: its source address.
    leaves: bool,
}

/// The model's terminals.
const CLAIMS: [Outcome; 3] = [Outcome::Dropped, Outcome::Passed, Outcome::Masqueraded];
const FIRST: u32 = 16;

/// The terminal that an outcome is.
pub(super) fn terminal(outcome: Outcome) -> Diagram {
    let index = CLAIMS.iter().position(|other| *other == outcome).unwrap_or(0);
    Diagram::terminal(FIRST + u32::try_from(index).unwrap_or(0))
}

/// The outcome that a terminal is.
pub(super) fn claim(terminal: u32) -> Option<Outcome> {
    CLAIMS.get(usize::try_from(terminal.checked_sub(FIRST)?).ok()?).copied()
}

impl<'w, 't> Worker<'w, 't> {
    pub fn new(model: &'w Model<'t>, tables: &'w Tables, links: &'w LinkNumbers) -> Self {
        Self {
            follow: Follow::new(model, tables, links),
            reached: BTreeSet::new(),
            extent: Extent::default(),
            found: Vec::new(),
        }
    }

    /// Compares all that senders may send of one kind; whether they differ in
    /// something, which is asked no further where `one_is_enough`.
    ///
    /// # Errors
    /// Where something isn't known.
    pub fn compare(
        &mut self,
        kind: Kind,
        senders: impl Iterator<Item = &'w Sender<'t>>,
        one_is_enough: bool,
    ) -> Result<bool, Unknown>
    where
        't: 'w,
    {
        let Follow { tables, links, .. } = self.follow;
        let mut ground = Ground::new(kind, &[tables], links);
        for sender in senders.filter(|sender| sender.kinds().contains(&kind)) {
            let seen = ground.settled(|ground| self.compare_kind(ground, kind, sender))?;
            self.extent.slices += 1;
            self.extent.cases += seen.cases;
            self.reached.extend(seen.reached);
            self.found.extend(seen.found);
            if one_is_enough && !self.found.is_empty() {
                break;
            }
        }
        Ok(!self.found.is_empty())
    }

    fn compare_kind(
        &mut self,
        ground: &mut Ground,
        kind: Kind,
        sender: &Sender<'t>,
    ) -> Result<Seen, Unknown> {
        let port = match sender {
            Sender::Port(port) => Some(*port),
            _ => None,
        };
        let mut seen = Seen::default();
        for judged in self.follow.all(ground, kind, sender)? {
            let Follow { model, links, .. } = self.follow;
            let asked = Asked { model, links, judged: &judged, link: sender.link(), port };
            let claims = self.claims(ground, asked);
            // Most ways of answering end in a drop: it is what the others leave.
            let dropped = terminal(Outcome::Dropped);
            let mut claim = ground.diagrams.choose(judged.space, dropped, Diagram::NEVER);
            let mut masqueraded = Diagram::NEVER;
            for (these, outcome) in claims {
                if outcome != Outcome::Dropped {
                    claim = ground.diagrams.choose(these, terminal(Outcome::Passed), claim);
                }
                if outcome == Outcome::Masqueraded {
                    masqueraded = ground.diagrams.or(masqueraded, these);
                }
            }
            self.hold(ground, Case { asked, leaves: false }, judged.rules, claim, &mut seen)?;
            if judged.stop == Stop::Out {
                let (space, rules) = self.follow.leaving(ground, &judged)?;
                let claim = ground.diagrams.choose(masqueraded, terminal(Outcome::Masqueraded), claim);
                let claim = ground.diagrams.choose(space, claim, Diagram::NEVER);
                self.hold(ground, Case { asked, leaves: true }, rules, claim, &mut seen)?;
            }
        }
        Ok(seen)
    }

    /// What the model says of all that may come to a stop.
    fn claims(&self, ground: &mut Ground, asked: Asked<'_, 't>) -> Vec<(Diagram, Outcome)> {
        let model = self.follow.model;
        let mut said = |subject: &mut Space<'_>| match (asked.judged.stop, asked.port) {
            (Stop::Port, Some(port)) => dropped(model.refused_at(subject, port).is_some()),
            (Stop::Port | Stop::PastPort, _) => dropped(model.is_to_switches(subject)),
            (Stop::Host | Stop::Out, _) => {
                let Decision { verdict, masqueraded } = model.decide(subject, asked.link);
                Outcome::of(verdict, masqueraded)
            }
        };
        judge(&mut ground.diagrams, &mut ground.known, asked.of(None), asked.judged.space, &mut said)
    }

    /// Holds rules and model against each other: within the limits they are
    /// equal, beyond them nothing passes that the model doesn't let pass.
    fn hold(
        &self,
        ground: &mut Ground,
        case: Case<'_, 't>,
        rules: Diagram,
        says: Diagram,
        seen: &mut Seen,
    ) -> Result<(), Unknown> {
        seen.cases += 1;
        let limits = case.asked.judged.header.limits();
        let kind = if case.leaves { LEAVES } else { OUTCOME };
        let follow = &self.follow;
        let outcomes = ground.diagrams.change(kind, rules, &|number| match number {
            0 => Diagram::NEVER,
            number => terminal(follow.outcome(number, case.leaves)),
        });
        seen.reached.extend(ground.diagrams.new_terminals(kind, rules));
        let diagrams = &mut ground.diagrams;
        let within = diagrams.at_zero(outcomes, limits) == diagrams.at_zero(says, limits);
        let beyond = diagrams.highest(outcomes, limits) == diagrams.highest(says, limits);
        if within && beyond {
            return Ok(());
        }
        let within = ground.diagrams.pairs(rules, says, limits);
        let beyond = ground.diagrams.pairs(rules, says, u32::MAX);
        let mut wrong: Vec<(u32, Outcome, &Path)> = Vec::new();
        for ((terminal, claimed), path) in &within {
            let Some(expected) = claim(*claimed) else { continue };
            if self.follow.outcome(*terminal, case.leaves) != expected {
                wrong.push((*terminal, expected, path));
            }
        }
        for ((terminal, claimed), path) in &beyond {
            let Some(expected) = claim(*claimed) else { continue };
            let passes = self.follow.outcome(*terminal, case.leaves) != Outcome::Dropped;
            if passes && expected == Outcome::Dropped && !within.contains_key(&(*terminal, *claimed)) {
                wrong.push((*terminal, expected, path));
            }
        }
        if wrong.is_empty() {
            return Err(Unknown(format!(
                "with which packet from {:?} rules and model differ",
                case.asked.link
            )));
        }
        for (terminal, expected, path) in wrong {
            let (packet, model) = case.asked.claim(ground, path)?;
            let alone = model.outcome();
            let alone = if case.leaves || alone == Outcome::Dropped { alone } else { Outcome::Passed };
            if alone != expected {
                return Err(Unknown(format!("why the model says another thing of {packet} alone")));
            }
            let rules = self.follow.outcome(terminal, case.leaves);
            seen.found.push(Counterexample { packet, rules, rule: self.follow.rule(terminal), model });
        }
        Ok(())
    }

    /// What was found.
    pub fn finish(mut self) -> (Extent, Vec<Counterexample>) {
        self.extent.rules = self.reached.iter().filter_map(|terminal| self.follow.rule(*terminal)).collect();
        (self.extent, self.found)
    }
}

const fn dropped(is: bool) -> Outcome {
    if is { Outcome::Dropped } else { Outcome::Passed }
}
