//! The firewall: who may reach whom, as nftables loads it.
//!
//! [`Ruleset`] → [`render`] → text; [`Difference`] between what the kernel
//! lists, or hostctl loaded, and what it should have. Effects: [`nft`] and
//! [`conntrack`]. Who may reach whom by definition, and not by the rules, is
//! [`crate::reach`]'s.

mod batch;
mod change;
pub mod conntrack;
mod delta;
mod deviation;
mod difference;
mod element_text;
mod flows;
mod foreign;
mod iptables_legacy;
mod lent_socket;
mod listing;
mod live;
mod mark;
mod netfilter;
pub mod nft;
pub mod nft_foreign;
mod owner;
mod policy_boxes;
mod policy_chain;
#[cfg(test)]
mod policy_tests;
mod ports;
mod render;
mod rule_text;
mod ruleset;
mod severity;
mod tables;

pub use delta::Delta;
pub use deviation::{Deviation, absence, deviations};
pub use difference::Difference;
pub use flows::{Flow, FlowPolicy, Gone};
pub use foreign::{Exits, Foreign, Hazard, hazards};
pub use listing::{Listing, UnexpectedListing};
pub use live::Live;
pub use mark::Mark;
pub use nft::NftError;
pub use owner::{Owner, probe as probe_guard};
pub use policy_boxes::BOXES_MAX;
pub use policy_chain::PolicyTooLarge;
pub use render::{TemplateFault, render, shape};
pub use ruleset::{Ruleset, Surroundings};
pub use severity::Severity;
pub use tables::Tables;
