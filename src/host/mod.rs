//! The reconcile loop: observe, plan, apply, verify, commit or roll back. The
//! only room that orders side effects.

mod apply;
mod audit;
mod confirm;
mod edit;
mod error;
mod hold;
mod kept;
mod look;
mod rollback;
#[cfg(test)]
mod tests;

pub use apply::carry_out::{Host, Outcome};
pub use apply::changes::changes;
pub use apply::current::{Current, Guest, SeenApp};
pub use apply::firewall_only::Unloaded;
pub use apply::goal::Restart;
pub use apply::loss::Loss;
pub use apply::observe::{observe, observe_listed, observe_surroundings};
pub use apply::preview::{Preview, Waiting};
pub use apply::step::Step;
pub use apply::watch::{Silent, Watch};
pub use audit::{Audit, Events, Finding, Kind, News, Tell, WatchOptions, audit, watch};
pub use confirm::unconfirmed::{Unconfirmed, unconfirmed};
pub use edit::{Compared, Edited, PlannedEdit};
pub use error::HostError;
pub use hold::{FlushProtection, Guard, HoldNews};
pub use kept::action_log::TARGET as ACTION_TARGET;
pub use kept::drop_in::drop_in;
pub use kept::generation::{
    Generation, Kept, compile, kept, last as last_generation, newest_readable as newest_readable_generation,
    numbers as generation_numbers, read as read_generation,
};
pub use kept::history::{Entry, history};
pub use kept::loaded::judgement as loaded_judgement;
pub use kept::lock::Lock;
pub use look::advice::{Machine, advice};
pub use look::connectivity::{
    Test as ConnectivityTest, Tested, all as connectivity_tests, between as connectivity_between,
    measure as measure_connectivity,
};
pub use look::doctor::{Check, Level, doctor};
pub use look::flow_room::shortage as flow_shortage;
pub use look::proof::{Rules, prove_live, prove_spec, prove_template};
pub use look::status::{
    AppStatus, FirewallStatus, GuestStatus, HostStatus, NamespaceStatus, NetworkStatus, guests, status,
};
pub use rollback::{Files, RolledBack};
