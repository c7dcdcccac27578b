//! The drop-in that commands write: it changes together with the host, or not
//! at all.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::{self, Field, lenient};
use crate::root_dir::RootDir;
use crate::whole_file;

use super::generation;
use crate::host::HostError;

/// The version of the journal that is written. A later one may say more; what is
/// read here means the same in each.
const VERSION: u32 = 1;

/// The drop-in that commands write.
pub fn drop_in(root: &RootDir) -> PathBuf {
    root.drop_ins().join("commands.json")
}

/// What a command is about to write, written down before. A command that was
/// killed said nothing to whoever called it: what it wrote is taken back.
/// Where it can't be read what was there before, nothing is changed: what is
/// missing isn't a file that wasn't there.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    #[serde(default)]
    version: Field<u32>,
    #[serde(default, deserialize_with = "lenient")]
    command: String,
    #[serde(deserialize_with = "Deserialize::deserialize")]
    before: Option<String>,
    #[serde(deserialize_with = "Deserialize::deserialize")]
    after: Option<String>,
}

/// A drop-in that was written and may still be taken back.
#[derive(Debug)]
pub struct Written<'r> {
    root: &'r RootDir,
    journal: Journal,
}

fn journal(root: &RootDir) -> PathBuf {
    root.state().join("command.json")
}

fn failed(path: PathBuf) -> impl FnOnce(io::Error) -> HostError {
    |source| HostError::File { path, source }
}

/// The drop-in's text; none where there is no such file.
///
/// # Errors
/// Where it can't be read.
pub fn read(root: &RootDir) -> Result<Option<String>, HostError> {
    match std::fs::read_to_string(drop_in(root)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(drop_in(root))(error)),
    }
}

fn put(root: &RootDir, text: Option<&str>) -> Result<(), HostError> {
    let path = drop_in(root);
    match text {
        Some(text) => whole_file::replace(&path, text),
        None => whole_file::remove(&path),
    }
    .map_err(failed(path))
}

/// Writes the drop-in, or removes it where there is no text.
///
/// # Errors
/// Where it can't be written.
pub fn write<'r>(root: &'r RootDir, command: &str, text: Option<&str>) -> Result<Written<'r>, HostError> {
    let after = text.map(str::to_string);
    let version = Field::Is(VERSION);
    let written = Journal { version, command: command.into(), before: read(root)?, after };
    let path = journal(root);
    let text = serde_json::to_string(&written).map_err(|error| failed(path.clone())(error.into()))?;
    whole_file::replace(&path, &text).map_err(failed(path))?;
    if written.before.is_some() {
        // Where it can't be had, the text is written anew.
        _ = std::fs::remove_file(aside(root));
        _ = std::fs::hard_link(drop_in(root), aside(root));
    }
    if let Err(error) = put(root, written.after.as_deref()) {
        // The old one is there, and nothing was done that it doesn't say.
        Written { root, journal: written }.keep();
        return Err(error);
    }
    Ok(Written { root, journal: written })
}

/// The old drop-in by another name: to put it back takes no room.
fn aside(root: &RootDir) -> PathBuf {
    drop_in(root).with_file_name(".commands.json.before")
}

fn put_back(root: &RootDir, before: Option<&str>) -> Result<(), HostError> {
    let kept = std::fs::read_to_string(aside(root)).ok();
    match before {
        Some(text) if kept.as_deref() == Some(text) => {
            whole_file::rename(&aside(root), &drop_in(root)).map_err(failed(drop_in(root)))
        }
        before => put(root, before),
    }
}

impl Written<'_> {
    /// The host says the same now. A journal that stays isn't taken for an
    /// unfinished one: the generation has the drop-in's text.
    pub fn keep(self) {
        _ = std::fs::remove_file(aside(self.root));
        if let Err(error) = whole_file::remove(&journal(self.root)) {
            tracing::warn!("can't remove {}: {error}", journal(self.root).display());
        }
    }

    /// Puts back what was there before.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn take_back(self) -> Result<(), HostError> {
        put_back(self.root, self.journal.before.as_deref())?;
        // Two names of one file stay two where one is renamed to the other.
        _ = std::fs::remove_file(aside(self.root));
        whole_file::remove(&journal(self.root)).map_err(failed(journal(self.root)))
    }
}

/// The command that was killed while it changed the host, where one was.
pub fn unfinished(root: &RootDir) -> Option<String> {
    let journal = read_journal(root).ok()??;
    (!is_kept(root, &journal)).then_some(journal.command)
}

fn read_journal(root: &RootDir) -> Result<Option<Journal>, HostError> {
    let path = journal(root);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed(path.clone()))?,
    };
    record::parse(&text).map(Some).map_err(failed(path))
}

/// Whether the change got as far as a generation of its own.
fn is_kept(root: &RootDir, journal: &Journal) -> bool {
    let newest = generation::newest_readable_once(root).ok().and_then(|(newest, _)| newest);
    newest.is_some_and(|newest| {
        newest.generation.drop_in.as_deref() == Some(journal.after.as_deref().unwrap_or(""))
    })
}

/// Takes back what a killed command wrote; under the lock, so that it is
/// known to be dead. What somebody wrote since stays.
///
/// # Errors
/// Where files can't be read or written.
pub fn recover(root: &RootDir) -> Result<(), HostError> {
    let Some(journal) = read_journal(root)? else { return Ok(()) };
    let (kept, there) = (is_kept(root, &journal), read(root)?);
    let written = Written { root, journal };
    if kept || (there != written.journal.after && there != written.journal.before) {
        written.keep();
        return Ok(());
    }
    tracing::warn!(
        "a command was killed before it was done ({}): {} is as it was before",
        written.journal.command,
        drop_in(root).display()
    );
    written.take_back()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::kept::generation::Origin;
    use crate::spec::HostSpec;

    fn root() -> (tempfile::TempDir, RootDir) {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        (directory, root)
    }

    #[test]
    fn what_a_killed_command_wrote_is_taken_back() {
        let (_directory, root) = root();
        write(&root, "vpc create a", Some("{\"a\": 1}")).unwrap().keep();
        // Killed: neither kept nor taken back.
        drop(write(&root, "vpc create b", Some("{}")).unwrap());
        assert_eq!(unfinished(&root).as_deref(), Some("vpc create b"));
        recover(&root).unwrap();
        assert_eq!(read(&root).unwrap().as_deref(), Some("{\"a\": 1}"));
        assert_eq!(unfinished(&root), None);
        drop(write(&root, "vpc delete a", None).unwrap());
        assert_eq!(read(&root).unwrap(), None);
        recover(&root).unwrap();
        recover(&root).unwrap();
        assert_eq!(read(&root).unwrap().as_deref(), Some("{\"a\": 1}"));
    }

    #[test]
    fn what_became_a_generation_or_was_edited_since_stays() {
        let (_directory, root) = root();
        drop(write(&root, "vpc create a", Some("{\"a\": 1}")).unwrap());
        let kept = Some("{\"a\": 1}".to_string());
        generation::commit(
            &root,
            (&HostSpec::default(), &Default::default()),
            &Origin::of("vpc create a"),
            kept,
        )
        .unwrap();
        assert_eq!(unfinished(&root), None);
        recover(&root).unwrap();
        assert_eq!(read(&root).unwrap().as_deref(), Some("{\"a\": 1}"));
        drop(write(&root, "vpc create b", Some("{\"b\": 1}")).unwrap());
        std::fs::write(drop_in(&root), "{\"mine\": 1}").unwrap();
        recover(&root).unwrap();
        assert_eq!(read(&root).unwrap().as_deref(), Some("{\"mine\": 1}"));
    }

    #[test]
    fn the_journal_of_an_earlier_version_is_understood_and_one_that_isnt_changes_nothing() {
        let (_directory, root) = root();
        let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/records/d346908/killed");
        let lay = |journal_text: &str| {
            let drop_in_text = std::fs::read_to_string(kept.join("commands.json")).unwrap();
            whole_file::replace(&drop_in(&root), &drop_in_text).unwrap();
            whole_file::replace(&journal(&root), journal_text).unwrap();
        };
        let whole = std::fs::read_to_string(kept.join("command.json")).unwrap();
        for text in [whole.clone(), whole.replace("{\"command\"", "{\"later\":7,\"command\"")] {
            lay(&text);
            assert_eq!(unfinished(&root).as_deref(), Some("network two (10.7.0.0/24) created"));
            recover(&root).unwrap();
            assert_eq!((read(&root).unwrap(), unfinished(&root)), (None, None));
        }
        lay(&whole.replace("\"network two (10.7.0.0/24) created\"", "7"));
        assert_eq!(unfinished(&root).as_deref(), Some(""));
        recover(&root).unwrap();
        assert_eq!(read(&root).unwrap(), None);
        for broken in [whole.replace("\"before\":null,", ""), whole.replace("null", "7"), "[]".into()] {
            lay(&broken);
            assert!(recover(&root).unwrap_err().to_string().contains("command.json"), "{broken}");
            assert!(read(&root).unwrap().is_some(), "{broken}");
        }
    }
}
