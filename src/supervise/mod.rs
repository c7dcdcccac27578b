//! What every long-running part of hostctl shares, whatever it runs.

pub(crate) mod backoff;
pub(crate) mod birthplace;
pub(crate) mod control;
pub(crate) mod process;
pub(crate) mod runtime_dir;
