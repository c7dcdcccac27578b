//! Three accounts of what a host lets pass, held against each other: the
//! reachability model (from the topology), the rules that the kernel lists
//! (evaluated by tests/oracle), and real packets. See docs/proof.md.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../oracle/mod.rs"]
mod oracle;
#[path = "../random_hosts/mod.rs"]
mod random_hosts;
#[path = "../random_policies/mod.rs"]
mod random_policies;

mod flows;
mod interpreter;
mod losses;
mod packets;
mod rules;
mod scene;
mod soak;
