//! Three accounts of what a host lets pass, held against each other: the
//! reachability model (from the topology), the rules that the kernel lists
//! (evaluated by tests/support/oracle), and real packets. See docs/proof.md.

mod differences;
mod elements;
mod every_packet;
mod flows;
mod foreign;
mod full_host;
mod interpreter;
mod packets;
mod replay;
mod rules;
mod scene;
mod soak;
mod template;
mod template_losses;
