//! How much of a question is asked.

use std::env;

/// How many rounds, and hosts of which sizes.
#[derive(Debug, Clone, Default)]
pub struct Extent {
    rounds: Option<usize>,
    sizes: Option<Vec<usize>>,
    stage_only: bool,
}

// The bench takes the one constructor, and the tests the other.
#[allow(dead_code)]
impl Extent {
    /// The whole question, or what the environment says: `ROUNDS=3` makes a
    /// quick, rough run, `SIZES=5,10000` asks hosts of so many networks only.
    pub fn from_environment() -> Self {
        let numbers = |name: &str| -> Option<Vec<usize>> {
            let text = env::var(name).ok()?;
            let number = |word: &str| {
                word.trim().parse().unwrap_or_else(|_| panic!("{name}: {word:?} is not a number"))
            };
            Some(text.split(',').map(number).collect())
        };
        Self {
            rounds: numbers("ROUNDS").map(|numbers| numbers[0].max(1)),
            sizes: numbers("SIZES"),
            stage_only: false,
        }
    }

    /// One round on the smallest hosts: what is found says nothing, but that
    /// everything which the question needs is there and works.
    pub fn stage() -> Self {
        Self { rounds: Some(1), sizes: None, stage_only: true }
    }

    /// Whether only the stage is set up.
    pub fn is_stage(&self) -> bool {
        self.stage_only
    }

    /// Whether the question is asked as a whole: what is found of a part isn't
    /// what the page is to say.
    pub fn is_whole(&self) -> bool {
        self.rounds.is_none() && self.sizes.is_none() && !self.stage_only
    }

    /// How many rounds, where usually there are so many.
    pub fn rounds(&self, usual: usize) -> usize {
        self.rounds.unwrap_or(usual)
    }

    /// Which sizes, where usually there are these.
    pub fn sizes(&self, usual: &[usize]) -> Vec<usize> {
        match &self.sizes {
            _ if self.stage_only => usual[..1].to_vec(),
            Some(sizes) => sizes.clone(),
            None => usual.to_vec(),
        }
    }

    /// One of two amounts: the question's, or the stage's.
    pub fn amount(&self, whole: usize, stage: usize) -> usize {
        if self.stage_only { stage } else { whole }
    }
}
