//! Changes of a host spec as commands make them.

pub(super) mod apply_edit;
pub(super) mod defined_names;
pub(super) mod edit_error;
pub(super) mod edit_same;
#[cfg(test)]
pub(super) mod edit_tests;
pub(super) mod policy_subnet;
pub(super) mod spec_edit;
