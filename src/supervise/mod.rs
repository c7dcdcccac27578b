//! What every long-running part of hostctl shares, whatever it runs.

pub(crate) mod announce;
pub(crate) mod backoff;
pub(crate) mod birthplace;
pub(crate) mod client;
pub(crate) mod control;
pub(crate) mod error;
pub(crate) mod lifecycle;
pub(crate) mod own_memory;
pub(crate) mod process;
pub(crate) mod runtime_dir;
pub(crate) mod spawn;
pub(crate) mod timers;
