//! The app room: programs inside named network namespaces, each under a
//! supervisor of its own.
//!
//! The decisions are pure: the [`App`] that is wanted, and its life in
//! `state`. The effects: [`supervise`] starts and watches one app, [`Client`]
//! talks to its supervisor, [`observe`] finds out what there is,
//! [`reap_strays`] ends what a killed supervisor left.

mod cgroup;
mod client;
mod control;
mod descendants;
mod error;
mod init;
mod launch;
mod model;
mod namespace;
mod observe;
mod output;
mod runtime_dir;
mod state;
mod strays;
mod supervisor;
mod user;
pub mod webserver;

pub use client::{Client, read_desired, read_ended, spawn_supervisor, wait_until, write_desired};
pub use control::Status;
pub use error::AppError;
pub use init::init;
pub use model::{App, Limits, Namespace, NamespaceError, Restart, User, Webserver, Workload};
pub use namespace::{evict, stop_all};
pub use observe::{Observed, elsewhere, observe, remove, stop};
pub use state::State;
pub use strays::{Stray, reap_strays};
pub use supervisor::supervise;
