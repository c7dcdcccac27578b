//! Other programs' tables: what nft lists of them, in nft's words.
//!
//! [`Foreign`] holds them; iptables' own matches are put into nft's words
//! ([`translation`]), and iptables-legacy's tables into nft's ([`legacy`]).
//! [`read`] asks the kernel. What they do to guests' packets is asked elsewhere.

mod flow_marks;
pub(super) mod iptables_legacy;
mod legacy;
pub mod read;
mod ruleset;
#[cfg(test)]
mod tests;
mod translation;

pub use flow_marks::MarkWriter;
pub use legacy::{Unjudged, legacy_table, untranslated};
pub use ruleset::Foreign;
pub use translation::{Extended, script};
