//! The reconcile loop: observe, plan, apply, verify, commit or roll back. The
//! only room that orders side effects.

mod action_log;
mod advice;
mod allocations;
mod apply;
mod audit;
mod changes;
mod claim;
mod confirm;
mod connectivity;
mod doctor;
mod drop_in;
mod edit;
mod error;
mod file;
mod firewall_only;
mod flow_room;
mod generation;
mod history;
mod hold;
mod kill_point;
mod loaded;
mod lock;
mod lock_holder;
mod loss;
mod observe;
mod plan;
mod preview;
mod record;
mod reliance;
mod rollback;
mod status;
mod step;
mod take_back;
#[cfg(test)]
mod tests;
mod unconfirmed;
mod watchdog;

pub use action_log::TARGET as ACTION_TARGET;
pub use advice::{Machine, advice};
pub use apply::{Host, Outcome, Silent, Watch};
pub use audit::{Audit, Events, Finding, Kind, News, Tell, WatchOptions, audit, watch};
pub use changes::changes;
pub use connectivity::{
    Test as ConnectivityTest, Tested, all as connectivity_tests, between as connectivity_between,
    measure as measure_connectivity,
};
pub use doctor::{Check, Level, doctor};
pub use drop_in::drop_in;
pub use edit::{Compared, Edited, PlannedEdit};
pub use error::HostError;
pub use firewall_only::Unloaded;
pub use flow_room::shortage as flow_shortage;
pub use generation::{
    Generation, Kept, compile, kept, last as last_generation, newest_readable as newest_readable_generation,
    numbers as generation_numbers, read as read_generation,
};
pub use history::{Entry, history};
pub use hold::{FlushProtection, Guard, HoldNews};
pub use lock::Lock;
pub use loss::Loss;
pub use observe::{observe, observe_listed, observe_surroundings};
pub use plan::{
    Current, Goal, Guest, Restart, SeenApp, conflicts, goal, plan, removal, surroundings, uplinks,
};
pub use preview::{Preview, Waiting};
pub use rollback::{Files, RolledBack};
pub use status::{
    AppStatus, FirewallStatus, GuestStatus, NamespaceStatus, NetworkStatus, Status, guests, status,
};
pub use step::Step;
pub use unconfirmed::{Unconfirmed, unconfirmed};
