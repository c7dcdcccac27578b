//! The firewall that hostctl loaded last, written down, so that it needn't be
//! listed where nobody changed it since.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::firewall::{self, Judgement, Listing, Live, NftError, Ruleset, RulesetRecord, Stamp, nft};
use crate::record::{self, Field};
use crate::root_dir::RootDir;
use crate::whole_file;

use super::settled;
use crate::host::HostError;

/// The version that is written. A later one may say more; what is read here
/// means the same in each.
const VERSION: u32 = 1;

/// What was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loaded {
    /// Where and by whom: another boot, network namespace or hostctl knows
    /// nothing of it.
    validity: Validity,
    /// The state of the kernel's tables after it was loaded; none where somebody
    /// else changed them meanwhile.
    stamp: Option<Stamp>,
    /// What was loaded.
    ruleset: Ruleset,
}

/// How it is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    version: Field<u32>,
    place: Field<Validity>,
    mark: Field<Option<Stamp>>,
    ruleset: Field<RulesetRecord>,
}

impl From<&Loaded> for Record {
    fn from(Loaded { validity, stamp, ruleset }: &Loaded) -> Self {
        Self {
            version: Field::Is(VERSION),
            place: Field::Is(validity.clone()),
            mark: Field::Is(stamp.clone()),
            ruleset: Field::Is(ruleset.into()),
        }
    }
}

/// Which boot, which network namespace, and which rules beside the sets' elements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Validity {
    boot: String,
    namespace: (u64, u64),
    shape: u64,
}

impl Validity {
    /// The calling thread's, and this program's.
    pub(super) fn here() -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::metadata("/proc/thread-self/ns/net").ok()?;
        let mut shape = DefaultHasher::new();
        firewall::shape().hash(&mut shape);
        Some(Self { boot, namespace: (namespace.dev(), namespace.ino()), shape: shape.finish() })
    }
}

fn path(root: &RootDir) -> PathBuf {
    root.run().join("firewall.json")
}

/// The firewall that the kernel has, and its stamp where it didn't change
/// meanwhile.
///
/// # Errors
/// Where it has to be listed, and nft can't be run or understood.
pub fn observe(root: &RootDir) -> Result<(Live, Option<Stamp>), NftError> {
    // Where the kernel has no stamps, or keeps them to itself, tables are listed.
    let Ok(stamp) = Stamp::read() else { return Ok((Live::Listed(nft::observe()?), None)) };
    if stamp.is_bare() {
        return Ok((Live::Listed(Listing::default()), Some(stamp)));
    }
    let written = read(root);
    if let Some(loaded) = written.as_ref().filter(|loaded| loaded.stamp.as_ref() == Some(&stamp)) {
        return Ok((Live::Known(Box::new(loaded.ruleset.clone())), Some(stamp)));
    }
    let listing = nft::observe()?;
    // A listing during which somebody changed something may be of neither.
    let stamp = Stamp::read().ok().filter(|now| *now == stamp);
    // Other programs' transactions leave stamps too.
    let same = written.filter(|loaded| {
        let text = firewall::render(&loaded.ruleset).ok();
        text.and_then(|text| nft::rehearse(&text).ok()).is_some_and(|loaded| loaded == listing)
    });
    let live = match same {
        Some(loaded) => Live::Known(Box::new(loaded.ruleset)),
        None => Live::Listed(listing),
    };
    Ok((live, stamp))
}

/// The firewall that was loaded last in this network namespace since it booted,
/// whether the kernel still has it or not.
pub fn last(root: &RootDir) -> Option<Ruleset> {
    read(root).map(|loaded| loaded.ruleset)
}

/// The marks of the firewall that was loaded last.
pub fn judgement(root: &RootDir) -> Option<Judgement> {
    last(root).map(|ruleset| ruleset.judgement)
}

fn read(root: &RootDir) -> Option<Loaded> {
    if let Some(settled) = settled::read(root)
        && let Some(ruleset) = settled.ruleset(root)
    {
        // Where others were at it, an element may be missing.
        let stamp = settled.untouched.then_some(settled.stamp);
        return Some(Loaded { validity: Validity::here()?, stamp, ruleset });
    }
    read_written(root)
}

fn read_written(root: &RootDir) -> Option<Loaded> {
    let record: Record = record::parse(&fs::read(path(root)).ok()?).ok()?;
    let validity = record.place.into_option().filter(|place| Some(place) == Validity::here().as_ref())?;
    // Without its stamp the tables are listed.
    let stamp = record.mark.into_option().flatten();
    Some(Loaded { validity, stamp, ruleset: record.ruleset.into_option()?.ruleset()? })
}

/// Writes down that `ruleset` is loaded: it was, or was made so by `changes`
/// transactions since `before`. Where somebody else made one, it has to be
/// looked at.
pub fn write(root: &RootDir, before: Option<&Stamp>, changes: u32, ruleset: &Ruleset) {
    // It says of an earlier one that it is loaded.
    settled::forget(root);
    let stamp = before.and_then(|before| Stamp::read().ok().filter(|now| now.is_after(before, changes)));
    let stamp = stamp.filter(|stamp| !stamp.is_bare());
    let loaded = Validity::here().map(|validity| Loaded { validity, stamp, ruleset: ruleset.clone() });
    match loaded {
        Some(loaded) if read_written(root).as_ref() == Some(&loaded) => {}
        Some(loaded) => {
            let path = path(root);
            let text = serde_json::to_vec(&Record::from(&loaded)).map_err(std::io::Error::from);
            // What isn't written down is listed.
            if let Err(error) = text.and_then(|text| whole_file::replace(&path, text)) {
                tracing::warn!("can't write {}: {error}", path.display());
                forget(root);
            }
        }
        None => forget(root),
    }
}

/// Forgets it, before a part of it is changed: what is loaded then follows from the
/// generation.
///
/// # Errors
/// Where a file can't be removed.
pub fn begin_change(root: &RootDir) -> Result<(), HostError> {
    let path = path(root);
    whole_file::remove(&path).map_err(|source| HostError::File { path, source })?;
    settled::begin_change(root)
}

/// Forgets it.
pub fn forget(root: &RootDir) {
    settled::forget(root);
    // What stays has another stamp than the kernel.
    _ = whole_file::remove(&path(root));
}
