//! The app room: programs inside named network namespaces, each under a
//! supervisor of its own.
//!
//! The decisions are pure: an app's life is that of any program
//! (`supervise/lifecycle`), what is written down of it in `record`. The effects: [`supervise`] starts and watches one app, [`Client`]
//! talks to its supervisor, [`observe`] finds out what there is,
//! [`reap_strays`] ends what a killed supervisor left.

mod cgroup;
mod client;
mod control;
mod descendants;
mod error;
mod init;
mod launch;
mod namespace;
mod observe;
mod output;
mod record;
mod runtime_dir;
mod strays;
mod supervisor;
#[cfg(test)]
mod test_app;
mod user;

pub use crate::confine::User;
pub use crate::supervise::error::SystemError;
pub use crate::supervise::lifecycle::State;
pub use client::{Client, read_desired, read_ended, spawn_supervisor, wait_until, write_desired};
pub use control::AppReport;
pub use error::AppError;
pub use init::init;
pub use launch::can_start;
pub use namespace::{evict, stop_all};
pub use observe::{Observed, elsewhere, observe, observe_one, remove, stop};
pub use record::{AppRecord, Strange};
pub use strays::{Stray, reap_strays};
pub use supervisor::supervise;
