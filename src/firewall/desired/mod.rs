//! What the kernel should have: the topology as elements of sets, policies as boxes,
//! and the text that nft loads. Pure.

pub(super) mod element_text;
pub(super) mod judgement;
pub(super) mod narrowing;
pub(super) mod policy_area;
pub(super) mod policy_boxes;
pub(super) mod policy_chain;
#[cfg(test)]
pub(super) mod policy_tests;
pub(super) mod ports;
pub(super) mod record;
pub(super) mod render;
pub(super) mod ruleset;
pub(super) mod set;
