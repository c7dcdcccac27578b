//! The generation that was read last, kept for as long as its file says the same: a
//! command asks for the newest one in many places, and a large spec takes longer
//! to parse and compile than all else that the command does.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::root_dir::RootDir;
use crate::topology::{Allocations, Topology};

use super::generation::{self, Generation};
use crate::host::HostError;

/// A generation, and what follows from it.
#[derive(Debug)]
pub struct Read {
    /// It.
    pub generation: Generation,
    allocations: OnceLock<Allocations>,
    topology: OnceLock<Arc<Topology>>,
}

/// What was read, and from where.
#[derive(Debug)]
struct Last {
    path: PathBuf,
    text: Vec<u8>,
    read: Arc<Read>,
}

/// Never freed: there is one, and the process ends with it.
static LAST: Mutex<Option<Last>> = Mutex::new(None);

impl Read {
    /// What its guests have.
    pub fn allocations(&self) -> &Allocations {
        self.allocations.get_or_init(|| self.generation.allocations())
    }

    /// The host that it describes.
    ///
    /// # Errors
    /// As [`Generation::compile`].
    pub fn compile(&self) -> Result<Arc<Topology>, HostError> {
        if let Some(topology) = self.topology.get() {
            return Ok(topology.clone());
        }
        let topology = Arc::new(self.generation.compile_with(self.allocations())?);
        Ok(self.topology.get_or_init(|| topology).clone())
    }
}

/// One generation.
///
/// # Errors
/// Where there is none of that number, or its file can't be read.
pub fn read_once(root: &RootDir, number: u64) -> Result<Arc<Read>, HostError> {
    let (path, text) = (generation::path(root, number), generation::read_text(root, number)?);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(last) = last.as_ref().filter(|last| last.path == path && last.text == text) {
        return Ok(last.read.clone());
    }
    let generation = generation::parse(root, number, &text)?;
    let read = Arc::new(Read { generation, allocations: OnceLock::new(), topology: OnceLock::new() });
    *last = Some(Last { path, text, read: read.clone() });
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::kept::generation::{Origin, commit};
    use crate::spec::HostSpec;

    #[test]
    fn a_file_that_is_another_one_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        let spec: HostSpec = toml::from_str("[networks.a]\ncidr = \"10.1.0.0/24\"").unwrap();
        let commit =
            |spec: &HostSpec| commit(&root, (spec, &Allocations::default()), &Origin::of("apply"), None);
        commit(&spec).unwrap();
        let first = read_once(&root, 1).unwrap();
        assert!(Arc::ptr_eq(&first, &read_once(&root, 1).unwrap()));
        assert_eq!(first.compile().unwrap().networks.len(), 1);
        let path = generation::path(&root, 1);
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(read_once(&root, 1), Err(HostError::NoGeneration { .. })));
        fs::write(&path, text.replace("10.1.0.0/24", "10.1.0.0/25")).unwrap();
        let again = read_once(&root, 1).unwrap();
        assert!(!Arc::ptr_eq(&first, &again) && again.generation.spec != spec);
    }
}
