//! That the host is what its newest generation says: written once an apply has
//! verified it, and gone as long as one changes something. So what is written
//! here was left by an apply that came to its end, and whoever changes one object
//! next needn't look at all others.
//!
//! It holds in one boot, one network namespace and for one hostctl program, and
//! says nothing of what others changed since. Of the tables the stamp tells that
//! nobody did, and where somebody did, the numbers of the rules that it wasn't
//! these; of the rest an audit tells.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::firewall::{Judgement, JudgementRecord, Ruleset, Stamp, Statics, Surroundings};
use crate::record::{self, Field};
use crate::root_dir::RootDir;
use crate::whole_file;

use super::forwarding::{self, Forwarding};
use super::generation;
use super::loaded::Validity;
use super::read_once::read_once;
use crate::host::HostError;

/// The version that is written. A later one may say more; what is read here
/// means the same in each.
const VERSION: u32 = 1;

/// What an apply left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The generation that the host is.
    pub generation: u64,
    /// What its firewall knows of the host.
    pub surroundings: Surroundings,
    /// By which marks the loaded rules know flows.
    pub judgement: Judgement,
    /// The state of the kernel's tables.
    pub stamp: Stamp,
    /// Whether nobody else changed any of them since they were looked at whole: only
    /// then is it known that every element is there.
    pub untouched: bool,
    /// The rules of hostctl's, where they are known.
    pub statics: Option<Statics>,
}

/// How it is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    version: Field<u32>,
    place: Field<Place>,
    generation: Field<u64>,
    surroundings: Field<forwarding::Record>,
    judgement: Field<JudgementRecord>,
    mark: Field<Stamp>,
    untouched: Field<bool>,
    rules: Field<Option<Statics>>,
}

/// Where and by which program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    validity: Validity,
    /// The program's file: device, inode, length, and when it was written.
    program: (u64, u64, u64, i64, i64),
}

impl Place {
    fn here() -> Option<Self> {
        let file = fs::metadata("/proc/self/exe").ok()?;
        let program = (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec());
        Some(Self { validity: Validity::here()?, program })
    }
}

fn path(root: &RootDir) -> PathBuf {
    root.run().join("settled.json")
}

/// What the last apply left here, where it came to its end and this program did it.
pub fn read(root: &RootDir) -> Option<Settled> {
    let record: Record = record::parse(&fs::read(path(root)).ok()?).ok()?;
    record.place.into_option().filter(|place| Some(place) == Place::here().as_ref())?;
    Some(Settled {
        generation: record.generation.into_option()?,
        surroundings: Forwarding::from(record.surroundings.into_option()?).surroundings,
        judgement: record.judgement.into_option()?.judgement()?,
        stamp: record.mark.into_option()?,
        untouched: record.untouched.into_option()?,
        statics: record.rules.into_option().flatten(),
    })
}

/// Writes it down. What isn't written down is looked at.
pub fn write(root: &RootDir, settled: &Settled) {
    let Settled { generation, surroundings, judgement, stamp, untouched, statics } = settled;
    let Some(place) = Place::here() else { return forget(root) };
    let known = Forwarding { surroundings: surroundings.clone(), bridges: None };
    let record = Record {
        version: Field::Is(VERSION),
        place: Field::Is(place),
        generation: Field::Is(*generation),
        surroundings: Field::Is((&known).into()),
        judgement: Field::Is((*judgement).into()),
        mark: Field::Is(stamp.clone()),
        untouched: Field::Is(*untouched),
        rules: Field::Is(statics.clone()),
    };
    let path = path(root);
    let text = serde_json::to_vec(&record).map_err(std::io::Error::from);
    if let Err(error) = text.and_then(|text| whole_file::replace(&path, text)) {
        tracing::warn!("can't write {}: {error}", path.display());
        forget(root);
    }
}

/// Forgets it, before something is changed: whoever is killed then has left a host
/// that is looked at whole.
///
/// # Errors
/// Where the file can't be removed.
pub fn begin_change(root: &RootDir) -> Result<(), HostError> {
    let path = path(root);
    whole_file::remove(&path).map_err(|source| HostError::File { path, source })
}

/// Forgets it.
pub fn forget(root: &RootDir) {
    if let Err(error) = begin_change(root) {
        tracing::warn!("{error}");
    }
}

impl Settled {
    /// The firewall that was loaded then, where the generation is still the newest.
    pub fn ruleset(&self, root: &RootDir) -> Option<Ruleset> {
        let newest = generation::numbers(root).ok()?.pop();
        if newest != Some(self.generation) {
            return None;
        }
        let topology = read_once(root, self.generation).ok()?.compile().ok()?;
        let mut ruleset = Ruleset::new(&topology, &self.surroundings).ok()?;
        ruleset.judgement = self.judgement;
        Some(ruleset)
    }
}
