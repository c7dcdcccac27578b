//! Whether this kernel takes the guard, and what it knows it by: asked once a
//! boot, for to ask takes longer than most commands.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::program::OBJECT;
use super::{Program, Tag};
use crate::bounded::read_bounded;
use crate::root_dir::RootDir;
use crate::whole_file;

/// What is known of the guard on this kernel: its tag, or why there is none.
pub type Known = Result<Tag, String>;

/// `<run>/guard.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    boot_id: String,
    /// Of the object that was loaded.
    object: u64,
    tag: Option<Tag>,
    reason: Option<String>,
}

/// Whether the guard can be had, from what is written down of this boot; loads
/// it, the first time.
pub fn known(root: &RootDir) -> Known {
    let path = root.run().join("guard.json");
    let boot_id = read_bounded(Path::new("/proc/sys/kernel/random/boot_id"), 64).unwrap_or_default();
    let boot_id = String::from_utf8_lossy(&boot_id).trim().to_owned();
    let object = hash(OBJECT);
    let kept = read_bounded(&path, 4096).ok().and_then(|text| serde_json::from_slice::<Trial>(&text).ok());
    if let Some(Trial { tag: Some(tag), .. }) =
        kept.filter(|kept| kept.boot_id == boot_id && kept.object == object)
    {
        return Ok(tag);
    }
    // That it can't be had isn't kept: what was missing may come.
    let tag = Program::load().map_err(|error| error.to_string())?.tag();
    let trial = Trial { boot_id, object, tag: Some(tag), reason: None };
    // A cache: without it the next command asks again.
    let _ = serde_json::to_vec(&trial).map(|text| whole_file::replace(&path, text));
    Ok(tag)
}

/// FNV-1a (RFC 9923): tells one version's object from another's.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
