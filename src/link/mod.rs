//! Bridges, TAPs, addresses and the kernel settings that routing needs.
//!
//! [`Desired`] follows from the topology, [`Observed`] from the kernel,
//! [`plan`] is what lies between; each [`Step`] prints as the command that
//! does it by hand. Effects: [`Netlink`] and [`sysctl`].

mod apart;
mod apart_netlink;
mod desired;
mod execute;
mod guarded;
pub mod namespace;
mod neighbour_netlink;
mod neighbours;
mod netlink;
mod observed;
mod offload;
mod plan;
mod queue;
mod read_by_name;
mod requests;
mod route_socket;
mod routes;
mod settings;
mod step;
pub mod sysctl;
#[cfg(test)]
mod tests;

pub use apart::{ApartChange, Part, Rule};
pub use desired::{
    Bridge, CONNTRACK_MAX_KEY, Desired, FORWARDING6_KEY, INSIDE, Namespace, Port, PortKind, Sysctl,
    forwarding4_key, unforwarding,
};
pub use netlink::{LinkError, Netlink};
pub use observed::{Inside, Link, Observed, Tap};
pub use plan::{Conflict, Plan, conflicts, plan, set_sysctls, sysctl_keys};
pub use queue::{Queue, StepError};
pub use read_by_name::{Asked, Found};
pub use step::{Setting, Step};
