//! Whose the root directory is: one hostctl to a directory, and one network
//! namespace to a hostctl. What runs from the directory of another one is
//! none of ours to stop, and its generations none of ours to return to.

use std::path::PathBuf;

use crate::app;
use crate::bounded::read_bounded;
use crate::root_dir::RootDir;
use crate::supervise::birthplace::{Birthplace, inhabitant};
use crate::vm;
use crate::whole_file;

use super::{forwarding, loaded};
use crate::host::HostError;

fn path(root: &RootDir) -> PathBuf {
    root.run().join("birthplace.json")
}

/// Makes the directory this network namespace's; to be called under the lock.
/// One whose network namespace is gone, and its guests with it, is taken over.
///
/// # Errors
/// Where it is that of another network namespace, or that can't be known.
pub fn claim(root: &RootDir) -> Result<(), HostError> {
    let here = Birthplace::here().map_err(|source| HostError::File { path: "/proc".into(), source })?;
    let written = read(root);
    if written.as_ref().is_some_and(|written| written.shares_network_with(&here)) {
        return Ok(());
    }
    let elsewhere = |what: String| HostError::Elsewhere { root: root.path().into(), what };
    if let Some(there) = written.as_ref().filter(|written| written.boot == here.boot)
        && let Some(pid) = inhabitant(there.network)
    {
        return Err(elsewhere(format!("process {pid} is in it, net:[{}]", there.network)));
    }
    // Seen from here or not: they hold locks and sockets of the directory.
    if let Some(name) = vm::elsewhere(root)? {
        return Err(elsewhere(format!("VM {name} runs there")));
    }
    if let Some(name) = app::elsewhere(root)? {
        return Err(elsewhere(format!("app {name} runs there")));
    }
    if written.is_some() {
        // What was turned on and loaded was so elsewhere.
        forwarding::remove(root)?;
        loaded::forget(root);
    }
    let text = serde_json::to_vec(&here).map_err(std::io::Error::from);
    if let Err(error) = text.and_then(|text| whole_file::replace(&path(root), text)) {
        // Guests say where they are from by themselves.
        tracing::warn!("can't write {}: {error}", path(root).display());
        // What it said before is of another place.
        _ = whole_file::remove(&path(root));
    }
    Ok(())
}

fn read(root: &RootDir) -> Option<Birthplace> {
    serde_json::from_slice(&read_bounded(&path(root), 4096).ok()?).ok()
}
