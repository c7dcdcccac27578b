//! From a spec to a host: observe, plan, carry out, verify.

pub(super) mod carry_out;
mod carry_out_part;
pub(super) mod changes;
pub(super) mod current;
pub(super) mod execute;
pub(super) mod firewall_only;
pub(super) mod goal;
pub(super) mod loss;
pub(super) mod observe;
pub(super) mod part;
pub(super) mod plan;
pub(super) mod preview;
pub(super) mod prove_first;
pub(super) mod step;
mod succession;
pub(super) mod surroundings;
pub(super) mod take_back;
mod take_down;
pub(super) mod watch;
