//! What outlives a command: generations, drop-ins, records, and who may write them.

pub(super) mod action_log;
pub(super) mod allocations;
pub(super) mod claim;
pub(super) mod drop_in;
pub(super) mod forwarding;
pub(super) mod generation;
pub(super) mod history;
pub(super) mod loaded;
pub(super) mod lock;
pub(super) mod lock_holder;
pub(super) mod read_once;
pub(super) mod settled;
