//! The reconcile loop: observe, plan, apply, verify, commit or roll back. The
//! only room that orders side effects.

mod action_log;
mod apply;
mod connectivity;
mod doctor;
mod edit;
mod error;
mod file;
mod firewall_only;
mod generation;
mod loaded;
mod lock;
mod observe;
mod plan;
mod record;
mod status;
mod step;
#[cfg(test)]
mod tests;

pub use action_log::TARGET as ACTION_TARGET;
pub use apply::{Host, Outcome, Silent, Watch};
pub use connectivity::{
    Test as ConnectivityTest, Tested, all as connectivity_tests, between as connectivity_between,
    measure as measure_connectivity,
};
pub use doctor::{Finding, Level, doctor};
pub use edit::{Edited, drop_in};
pub use error::HostError;
pub use firewall_only::Unloaded;
pub use generation::{Generation, last as last_generation};
pub use lock::Lock;
pub use observe::{observe, observe_surroundings};
pub use plan::{Current, Goal, Guest, SeenApp, conflicts, goal, plan, removal, surroundings, uplinks};
pub use status::{
    AppStatus, FirewallStatus, GuestStatus, NamespaceStatus, NetworkStatus, Status, guests, status,
};
pub use step::Step;
