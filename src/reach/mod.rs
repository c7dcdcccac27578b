//! The reachability model: what becomes of a packet, by the definition of who
//! may reach whom. Pure, and computed from the topology, never from the rules
//! that nftables loads: so the two can be held against each other.
//!
//! [`Model::judge`] follows the first packet of a [`Flow`] through the host
//! and says at each [`Stage`] whether it passes, why, and which key of the
//! spec decided. [`matrix`] sums it up for whole networks.

mod change;
mod class;
mod closed;
mod comparison;
mod end;
mod explain;
mod flow;
mod from_elsewhere;
mod from_guest;
mod judge;
mod key;
mod matrix;
mod names;
mod one_flow;
mod policy;
mod port;
mod route;
mod services;
pub(crate) mod sets;
mod side;
pub(crate) mod subject;
#[cfg(test)]
mod tests;
mod tracked_flow;
mod vicinity;

pub use change::{Change, Line};
pub use closed::closed;
pub use end::{End, EndError};
pub use explain::{Answer, FamilyAnswer, Outcome, Verdicts, alike, explain};
pub use flow::{Checkpoint, Entry, Flow, Judgement, Stage, Verdict, Vicinity};
pub(crate) use from_elsewhere::is_open;
pub use judge::{Decision, Model};
pub use key::Key;
pub use matrix::{Cell, Endpoint, Matrix, Reach, matrix};
pub use policy::{FarEnd, decide};
pub use services::{Both, Ports, Services};
pub use side::{Service, Side, usual};
pub use tracked_flow::{Reopening, TrackedFlow};
