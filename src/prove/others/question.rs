//! What rules ask that headers don't answer: each question is a bit behind
//! those of all headers, which may be 1 or 0.

use std::collections::HashMap;
use std::ops::Range;

use super::super::diagram::{Diagram, Diagrams};

/// The first question's bit: headers are shorter.
const FIRST: u32 = 1 << 16;

/// All of them.
pub const BITS: Range<u32> = FIRST..u32::MAX;

/// Every question, each once.
#[derive(Debug, Clone, Default)]
pub struct Questions {
    texts: Vec<String>,
    known: HashMap<String, (u32, bool)>,
}

impl Questions {
    /// The bit of a question that has the same answer wherever it is asked of a
    /// packet; `key` tells it from others.
    pub fn same(&mut self, key: &str, text: &str) -> u32 {
        self.either(key, text, false).0
    }

    /// As [`Self::same`], of one that may be asked the other way round: the bit,
    /// and whether it was asked so first. A condition holds, as it was first
    /// written, where the bit is 1.
    pub fn either(&mut self, key: &str, text: &str, inverse: bool) -> (u32, bool) {
        if let Some(known) = self.known.get(key) {
            return *known;
        }
        let bit = self.once(text);
        self.known.insert(key.into(), (bit, inverse));
        (bit, inverse)
    }

    /// The bit of one that may be answered otherwise the next time.
    pub fn once(&mut self, text: &str) -> u32 {
        let bit = FIRST.saturating_add(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        self.texts.push(text.into());
        bit
    }

    /// What a bit asks, in short.
    pub fn text(&self, bit: u32) -> Option<&str> {
        let index = usize::try_from(bit.checked_sub(FIRST)?).ok()?;
        self.texts.get(index).map(String::as_str)
    }
}

/// Where the answer is yes.
pub fn yes(diagrams: &mut Diagrams, bit: u32) -> Diagram {
    diagrams.decide(bit, Diagram::NEVER, Diagram::ALWAYS)
}
