//! What a proof of the template says.

use std::fmt;

use super::super::answer::{Claimed, Extent, Outcome, RulePlace};
use super::super::diagram::{Diagram, Diagrams, Path};
use super::super::packet::Packet;
use super::super::rules::Unknown;
use super::fact::Fact;
use super::sets::Misfit;

/// The answer.
#[derive(Debug)]
pub enum Answer {
    /// On every host whose sets hold what they should, the rules do with every
    /// packet what the model says.
    Equal(Extent),
    /// They don't on some.
    Different(Vec<Counterexample>),
    /// They do, but a set that the template itself fills holds something else.
    Misfits(Vec<Misfit>),
    /// Nothing can be said.
    Unknown(Unknown),
}

/// A packet on some host, of which rules and model don't say the same.
#[derive(Debug)]
pub struct Counterexample {
    /// The packet, as far as the template looks at it itself.
    pub packet: Packet,
    /// What is true of it on that host, and what isn't.
    pub facts: Vec<(Fact, bool)>,
    /// What the rules do with it.
    pub rules: Outcome,
    /// Which of them does; none where it is a chain's policy.
    pub rule: Option<RulePlace>,
    /// What the model says, with its reasons.
    pub model: Claimed,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.packet)?;
        for (fact, yes) in &self.facts {
            writeln!(f, "  {}: {}", if *yes { "yes" } else { "no" }, fact.words())?;
        }
        let rule = self.rule.as_ref().map_or("no rule".into(), ToString::to_string);
        writeln!(f, "  by the rules {}: {rule}", self.rules.as_str())?;
        writeln!(f, "  by the model {}", self.model.outcome().as_str())
    }
}

/// The facts on a way through a diagram without which it would lead to `others`
/// as well.
pub fn telling(diagrams: &mut Diagrams, path: &Path, others: Diagram) -> Vec<(Fact, bool)> {
    let mut left = path.clone();
    for (fact, _) in Fact::on(path) {
        let without: Path = left.iter().copied().filter(|(bit, _)| *bit != fact as u32).collect();
        let all = cube(diagrams, &without);
        if diagrams.and(all, others) == Diagram::NEVER {
            left = without;
        }
    }
    Fact::on(&left)
}

/// All that lies on a way through a diagram.
pub fn cube(diagrams: &mut Diagrams, path: &Path) -> Diagram {
    let mut only = Diagram::ALWAYS;
    for (bit, one) in path.iter().rev() {
        let (zero, one) = if *one { (Diagram::NEVER, only) } else { (only, Diagram::NEVER) };
        only = diagrams.decide(*bit, zero, one);
    }
    only
}
