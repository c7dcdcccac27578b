//! Other programs' tables: what they do to guests' packets.
//!
//! [`Foreign`] is what nft lists of them; [`packet`] the kinds of packets that
//! guests live on, as far as they are known beforehand; [`matching`] decides
//! whether a rule is about one of them: yes, no, or perhaps; [`walk`] takes it
//! through a hook's chains as the kernel would; [`hazards`] says what that
//! means, and [`remedy`] what to do. iptables' own matches are put into nft's
//! words ([`translation`]), and iptables-legacy's tables into nft's
//! ([`legacy`]). Pure: nothing is asked of the kernel.

mod hazard;
pub(super) mod iptables_legacy;
mod legacy;
mod matching;
mod packet;
mod program;
pub mod read;
mod remedy;
mod ruleset;
#[cfg(test)]
mod tests;
mod translation;
mod walk;

pub use hazard::{Hazard, hazards};
pub use legacy::untranslated;
pub use packet::Exits;
pub use ruleset::Foreign;
pub use translation::{Extended, script};
