//! What a proof says.

use std::fmt;

use crate::reach::{Judgement, Verdict};

use super::packet::Packet;
use super::rules::Unknown;

/// The answer.
#[derive(Debug)]
pub enum Answer {
    /// The rules do with every packet what the model says.
    Equal(Extent),
    /// They don't: one packet for each way in which they differ.
    Different(Vec<Counterexample>),
    /// Nothing can be said.
    Unknown(Unknown),
}

/// How much was looked at.
#[derive(Debug, Clone, Default)]
pub struct Extent {
    /// Senders: each port, bridge and link, and the host, in each family.
    pub slices: usize,
    /// Hooks at which a sender's packets were compared.
    pub cases: usize,
    /// Rules that decide about some packet, by table, chain and number.
    pub rules: std::collections::BTreeSet<RulePlace>,
    /// Rules that would decide, and never do.
    pub dead: Vec<RulePlace>,
}

/// A rule, as people find it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePlace {
    /// The table: family and name.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Its place in the chain, from 1.
    pub number: usize,
    /// What its comment says.
    pub comment: String,
}

impl fmt::Display for RulePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, chain {}, rule {}", self.table, self.chain, self.number)?;
        if self.comment.is_empty() { Ok(()) } else { write!(f, ": {}", self.comment) }
    }
}

/// A packet of which rules and model don't say the same.
#[derive(Debug)]
pub struct Counterexample {
    /// The packet.
    pub packet: Packet,
    /// What the rules do with it.
    pub rules: Outcome,
    /// Which of them does; none where it is a chain's policy, or no chain is
    /// asked.
    pub rule: Option<RulePlace>,
    /// What the model says, with its reasons.
    pub model: Claimed,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = self.rule.as_ref().map_or_else(|| "no rule".into(), ToString::to_string);
        let (rules, model) = (self.rules.as_str(), self.model.outcome().as_str());
        write!(f, "{}: {rules} by {rule}, {model} by the spec", self.packet)
    }
}

/// What the model says of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// By the port's contract: why the frame isn't let in; none where it is.
    Port(Option<&'static str>),
    /// By the judge.
    Judged(Judgement),
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It is dropped.
    Dropped,
    /// It passes.
    Passed,
    /// It passes, and leaves as the host's.
    Masqueraded,
}

impl Outcome {
    /// That of a decision.
    pub const fn of(verdict: Verdict, masqueraded: bool) -> Self {
        match (verdict, masqueraded) {
            (Verdict::Dropped, _) => Self::Dropped,
            (_, false) => Self::Passed,
            (_, true) => Self::Masqueraded,
        }
    }

    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Passed => "passed",
            Self::Masqueraded => "masqueraded",
        }
    }
}

impl Claimed {
    /// What it comes to.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Port(None) => Outcome::Passed,
            Self::Port(Some(_)) => Outcome::Dropped,
            Self::Judged(judgement) => Outcome::of(judgement.verdict, judgement.masqueraded),
        }
    }
}
