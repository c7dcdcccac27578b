//! What hostctl turned on, written down: the firewall's sets say so too, but
//! anybody's `nft flush ruleset` empties those.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bounded::create;
use crate::firewall::Surroundings;
use crate::private;
use crate::root_dir::RootDir;

use crate::host::HostError;

fn path(root: &RootDir) -> PathBuf {
    root.run().join("forwarding.json")
}

/// What is written down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// What hostctl turned on.
    #[serde(flatten)]
    pub surroundings: Surroundings,
    /// Other programs' bridges that were there when it did so first; earlier
    /// versions didn't write them down.
    #[serde(default)]
    pub bridges: Option<Vec<String>>,
}

/// What was written down; nothing where nothing can be read.
pub fn read(root: &RootDir) -> Record {
    let text = fs::read(path(root)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Writes it down, before it is done.
///
/// # Errors
/// Where the file can't be written.
pub fn write(root: &RootDir, record: &Record) -> Result<(), HostError> {
    let path = path(root);
    let draft = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        private::directory(&root.run())?;
        create(&draft)?.write_all(&serde_json::to_vec(record)?)?;
        fs::rename(&draft, &path)
    };
    write().map_err(|source| {
        // Where there is no room, half of it takes up some.
        _ = fs::remove_file(&draft);
        HostError::File { path: path.clone(), source }
    })
}

/// Forgets it.
///
/// # Errors
/// Where the file can't be removed.
pub fn remove(root: &RootDir) -> Result<(), HostError> {
    let path = path(root);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(HostError::File { path, source }),
        _ => Ok(()),
    }
}
