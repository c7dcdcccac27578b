//! Whether this kernel takes the guard, and what it knows it by: asked once a
//! boot, for to ask takes longer than most commands.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::program::OBJECT;
use super::{Attached, Program, Tag};
use crate::bounded::read_bounded;
use crate::root_dir::RootDir;
use crate::whole_file;

/// What is known of the guard on this kernel: its tag, or why there is none.
pub type Known = Result<Tag, String>;

/// `<run>/guard.cache`.
#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    boot_id: String,
    /// Of the object that was loaded.
    object: u64,
    tag: Tag,
}

fn path(root: &RootDir) -> PathBuf {
    root.run().join("guard.cache")
}

/// Whether the guard can be had, from what is written down of this boot; loads
/// it, the first time. `attached` is what stands in its place: where that is
/// another program, what is written down may be wrong.
pub fn known(root: &RootDir, attached: impl IntoIterator<Item = Attached>) -> Known {
    let kept = read_bounded(&path(root), 4096).ok();
    let kept = kept.and_then(|text| serde_json::from_slice::<Trial>(&text).ok());
    let kept = kept.filter(|kept| kept.boot_id == boot_id() && kept.object == hash(OBJECT));
    let differs =
        |tag| attached.into_iter().any(|one| matches!(one, Attached::Program(found) if found != tag));
    match kept {
        Some(Trial { tag, .. }) if !differs(tag) => Ok(tag),
        _ => ask(root),
    }
}

/// Loads it. That it can't be had isn't written down: what was missing may come.
fn ask(root: &RootDir) -> Known {
    let tag = Program::load().map_err(|error| error.to_string())?.tag();
    let trial = Trial { boot_id: boot_id(), object: hash(OBJECT), tag };
    // A cache: without it the next command asks again.
    let _ = serde_json::to_vec(&trial).map(|text| whole_file::replace(&path(root), text));
    Ok(tag)
}

fn boot_id() -> String {
    let text = read_bounded(Path::new("/proc/sys/kernel/random/boot_id"), 64).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// FNV-1a (RFC 9923): tells one version's object from another's.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_believed_until_something_else_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        let tag = match known(&root, []) {
            Ok(tag) => tag,
            Err(reason) => return eprintln!("skipped: {reason}"),
        };
        assert_eq!(known(&root, [Attached::Program(tag), Attached::Nothing, Attached::Other]), Ok(tag));
        let other = Tag([7; 8]);
        let wrong = Trial { boot_id: boot_id(), object: hash(OBJECT), tag: other };
        let write = |text: &[u8]| whole_file::replace(&path(&root), text).unwrap();
        write(&serde_json::to_vec(&wrong).unwrap());
        assert_eq!(known(&root, []), Ok(other));
        assert_eq!(known(&root, [Attached::Program(tag)]), Ok(tag));
        for damaged in [&b""[..], b"{}", b"[]", b"7"] {
            write(damaged);
            assert_eq!(known(&root, []), Ok(tag));
        }
        write(&serde_json::to_vec(&Trial { boot_id: "another".into(), ..wrong }).unwrap());
        assert_eq!(known(&root, []), Ok(tag));
    }
}
