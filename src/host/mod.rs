//! The reconcile loop: observe, plan, apply, verify, commit or roll back. The
//! only room that orders side effects.

mod action_log;
mod apply;
mod audit;
mod audit_drift;
mod audit_foreign;
mod audit_settings;
mod audit_watch;
mod connectivity;
mod doctor;
mod edit;
mod error;
mod events;
mod file;
mod generation;
mod lock;
mod observe;
mod plan;
mod record;
mod repair;
mod status;
mod step;
#[cfg(test)]
mod tests;

pub use apply::{Host, Outcome, Silent, Watch};
pub use audit::{Audit, Finding, Kind, audit};
pub use audit_watch::{News, WatchOptions, watch};
pub use connectivity::{
    Test as ConnectivityTest, Tested, all as connectivity_tests, between as connectivity_between,
    measure as measure_connectivity,
};
pub use doctor::{Check, Level, doctor};
pub use edit::{Edited, drop_in};
pub use error::HostError;
pub use events::Events;
pub use generation::{Generation, last as last_generation};
pub use lock::Lock;
pub use observe::{observe, observe_surroundings};
pub use plan::{Current, Goal, Guest, SeenApp, conflicts, goal, plan, removal, surroundings, uplinks};
pub use status::{
    AppStatus, FirewallStatus, GuestStatus, NamespaceStatus, NetworkStatus, Status, guests, status,
};
pub use step::Step;
