//! Flows that the kernel tracks, and which of them the rules no longer allow.

pub mod conntrack;
pub(super) mod flows;
pub(super) mod forget;
