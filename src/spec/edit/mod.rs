//! Changes of a host spec as commands make them.

pub(super) mod apply_change;
pub(super) mod change;
pub(super) mod defined_names;
pub(super) mod edit_error;
pub(super) mod edit_same;
#[cfg(test)]
pub(super) mod edit_tests;
pub(super) mod policy_subnet;
