//! Other programs' tables: what they do to guests' packets.
//!
//! [`Foreign`] is what nft lists of them; [`packet`] the kinds of packets that
//! guests live on, as far as they are known beforehand; [`matching`] decides
//! whether a rule is about one of them: yes, no, or perhaps; [`walk`] takes it
//! through a hook's chains as the kernel would; [`hazards`] says what that
//! means, and what to do. Pure: nothing is asked of the kernel.

mod hazard;
mod matching;
mod packet;
mod program;
mod ruleset;
#[cfg(test)]
mod tests;
mod walk;

pub use hazard::{Hazard, hazards};
pub use ruleset::Foreign;
