//! The firewall: who may reach whom, as nftables loads it.
//!
//! [`Ruleset`] → [`render`] → text; [`Difference`] between what the kernel
//! lists, or hostctl loaded, and what it should have. Effects: [`nft`] and
//! [`conntrack`]. Who may reach whom by definition, and not by the rules, is
//! [`crate::reach`]'s.

mod desired;
mod foreign;
mod live;
mod netfilter;
mod severity;
mod tracked;

pub use desired::judgement::{Class, Judgement, JudgementRecord, Marked};
pub use desired::narrowing::narrows;
pub use desired::policy_boxes::BOXES_MAX;
pub use desired::policy_chain::PolicyTooLarge;
pub use desired::record::RulesetRecord;
pub use desired::render::{TemplateFault, marks_flows, render, shape};
pub use desired::ruleset::{Ruleset, Surroundings};
pub use desired::set::Set;
pub use foreign::read as nft_foreign;
pub use foreign::{Foreign, MarkWriter, Unjudged, legacy_table};
pub use live::as_loaded::is_as_loaded;
pub use live::delta::Delta;
pub use live::deviation::{Deviation, absence, deviations};
pub use live::difference::Difference;
pub use live::known::Live;
pub use live::listing::{Listing, LoadedMarks, UnexpectedListing};
pub use live::nft;
pub use live::nft::NftError;
pub use live::owner::{Owner, probe as probe_guard};
pub use live::read_back::missing as missing_elements;
pub use live::stamp::Stamp;
pub use live::statics::Statics;
pub use live::tables::Tables;
pub use live::transaction::ElementsError;
pub use severity::Severity;
pub use tracked::conntrack;
pub use tracked::flows::{FlowPolicy, Gone};
pub use tracked::forget::Forget;
