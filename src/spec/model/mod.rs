//! What may be written in a host spec.

pub(super) mod app;
pub(super) mod app_user;
pub(super) mod cidr;
pub(super) mod host_spec;
pub(super) mod keyword;
pub(super) mod lan;
pub(super) mod limits;
pub(super) mod mac;
pub(super) mod mark_mask;
pub(super) mod memory;
pub(super) mod name;
pub(super) mod namespace_name;
pub(super) mod offload;
pub(super) mod policy;
pub(super) mod policy_words;
pub(super) mod prefix;
