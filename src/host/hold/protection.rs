//! What guards this host against another program's flush of all tables.

use std::fmt;

use serde::Serialize;

use crate::firewall::{Tables, probe_guard};
use crate::link;
use crate::root_dir::RootDir;
use crate::supervise::runtime_dir::RuntimeDir;

use super::holder;

/// What does, the strongest of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// The tables are held: a flush leaves them.
    Held,
    /// A flush takes them, and routes keep networks apart.
    Routes,
    /// A flush takes them, and they are put back.
    Watch,
    /// Nothing does.
    None,
}

/// What does, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FlushProtection {
    /// The strongest.
    pub guard: Guard,
    /// Whether the tables are held.
    pub held: bool,
    /// Whether routes keep networks apart without them.
    pub routes: bool,
    /// Whether somebody puts them back.
    pub watched: bool,
}

impl FlushProtection {
    /// What guards the host that has these links and should have those.
    pub(in crate::host) fn of(root: &RootDir, wanted: &link::Desired, found: &link::Observed) -> Self {
        let held = Tables::read().is_ok_and(|tables| tables.are_complete() && tables.are_guarded());
        let routes = !wanted.apart.is_empty() && found.apart.as_ref() == Some(&wanted.apart);
        let watched = holder(root).is_some() || is_watched(root);
        let guard = match (held, routes, watched) {
            (true, ..) => Guard::Held,
            (_, true, _) => Guard::Routes,
            (_, _, true) => Guard::Watch,
            _ => Guard::None,
        };
        Self { guard, held, routes, watched }
    }
}

impl fmt::Display for FlushProtection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.guard {
            Guard::Held => return f.write_str("held: the tables stay"),
            Guard::Routes => "routes: networks stay apart by routing",
            Guard::Watch => "watch: the tables go",
            Guard::None => "none: networks are open to each other",
        })?;
        let then = if self.watched { "; put back at once" } else { " until the next apply" };
        f.write_str(then)
    }
}

/// The lock of whoever watches and repairs.
pub(in crate::host) fn watch_dir(root: &RootDir) -> std::path::PathBuf {
    root.run().join("watch")
}

fn is_watched(root: &RootDir) -> bool {
    RuntimeDir::open(watch_dir(root))
        .ok()
        .flatten()
        .is_some_and(|directory| directory.lock_holder().is_some())
}

/// Why tables can't be held on this machine; none where they can.
pub(in crate::host) fn unable(root: &RootDir) -> Option<String> {
    match holder(root) {
        Some(holder) => holder.unable,
        None => probe_guard().err().map(|error| error.to_string()),
    }
}
