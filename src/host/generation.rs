//! Applied host specs, kept so that they can be compared with and returned to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::root_dir::RootDir;
use crate::spec::HostSpec;

use super::{HostError, file};

/// How many generations are kept.
const KEPT: usize = 50;

/// One applied host spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number, from 1.
    pub number: u64,
    /// When it was applied, in seconds since 1970-01-01 UTC.
    pub applied_at: u64,
    /// The whole spec: all files and drop-ins.
    pub spec: HostSpec,
}

fn directory(root: &RootDir) -> PathBuf {
    root.state().join("generations")
}

fn failed(path: &Path) -> impl Fn(io::Error) -> HostError {
    let path = path.to_path_buf();
    move |source| HostError::File { path: path.clone(), source }
}

fn numbers(root: &RootDir) -> Result<Vec<u64>, HostError> {
    let path = directory(root);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&path)(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed(&path))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// One generation.
///
/// # Errors
/// Where there is none of that number, or its file can't be read.
pub fn read(root: &RootDir, number: u64) -> Result<Generation, HostError> {
    let path = directory(root).join(format!("{number}.json"));
    let text = fs::read_to_string(&path).map_err(failed(&path))?;
    serde_json::from_str(&text).map_err(|error| failed(&path)(error.into()))
}

/// The last generation that was applied whole.
///
/// # Errors
/// Where its file can't be read.
pub fn last(root: &RootDir) -> Result<Option<Generation>, HostError> {
    numbers(root)?.pop().map(|number| read(root, number)).transpose()
}

/// Keeps `spec` as the newest generation, unless the newest says the same.
/// A crash leaves the old ones or the new one, never half of one.
///
/// # Errors
/// Where the file can't be written.
pub fn commit(root: &RootDir, spec: &HostSpec) -> Result<Generation, HostError> {
    if let Ok(Some(last)) = last(root)
        && &last.spec == spec
    {
        return Ok(last);
    }
    let directory = directory(root);
    let numbers = numbers(root)?;
    let applied_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let number = numbers.last().map_or(1, |last| last + 1);
    let generation = Generation { number, applied_at, spec: spec.clone() };
    let text = serde_json::to_string_pretty(&generation).map_err(|error| failed(&directory)(error.into()))?;
    let path = directory.join(format!("{number}.json"));
    file::replace(&path, &text).map_err(failed(&path))?;
    for old in numbers.iter().take((numbers.len() + 1).saturating_sub(KEPT)) {
        // One that stays does no harm.
        _ = fs::remove_file(directory.join(format!("{old}.json")));
    }
    Ok(generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(cidr: &str) -> HostSpec {
        toml::from_str(&format!("[networks.a]\ncidr = \"{cidr}\"")).unwrap()
    }

    #[test]
    fn the_newest_is_the_last_and_a_repetition_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        assert_eq!(last(&root).unwrap(), None);
        assert_eq!(commit(&root, &spec("10.1.0.0/24")).unwrap().number, 1);
        assert_eq!(commit(&root, &spec("10.1.0.0/24")).unwrap().number, 1);
        assert_eq!(commit(&root, &spec("10.2.0.0/24")).unwrap().number, 2);
        assert_eq!(last(&root).unwrap().unwrap().spec, spec("10.2.0.0/24"));
    }

    #[test]
    fn old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        for number in 0..60 {
            commit(&root, &spec(&format!("10.{number}.0.0/24"))).unwrap();
        }
        assert_eq!(numbers(&root).unwrap(), (11..=60).collect::<Vec<_>>());
    }

    #[test]
    fn a_broken_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        commit(&root, &spec("10.1.0.0/24")).unwrap();
        fs::write(root.state().join("generations/1.json"), "{").unwrap();
        assert!(matches!(last(&root), Err(HostError::File { .. })));
    }
}
