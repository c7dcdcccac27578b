//! Applied host specs, kept so that they can be compared with and returned to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::bounded::read_bounded;
use crate::record::{self, Field, lenient};
use crate::root_dir::RootDir;
use crate::spec::{HostSpec, Issue};
use crate::topology::{self, Allocations, Topology};
use crate::whole_file::Draft;

use super::allocations::Record;
use super::read_once::{Read, read_once};
use crate::host::HostError;

/// How many generations are kept.
const KEPT: usize = 50;

/// The longest file that is read, in bytes: as much as all files of a spec
/// may have, and its JSON's indentation.
const LONGEST: u64 = 256 * 1024 * 1024;

/// The version that is written. A later one may say more; what is read here
/// means the same in each.
const VERSION: u32 = 1;

/// One applied host spec, as it is written too. The spec is understood whole or
/// not at all: half of one isn't what was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    #[serde(default)]
    pub(in crate::host) version: Field<u32>,
    /// Its number, from 1.
    #[serde(default, deserialize_with = "lenient")]
    pub number: u64,
    /// When it was applied, in seconds since 1970-01-01 UTC.
    #[serde(default, deserialize_with = "lenient")]
    pub applied_at: u64,
    /// By which command; none where an earlier version of hostctl wrote it.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The generation that it returned to, where it is a rollback.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The text of the drop-in that commands write; empty where there was
    /// none, none where an earlier version of hostctl didn't keep it.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub drop_in: Option<String>,
    /// The whole spec: all files and drop-ins.
    pub spec: HostSpec,
    /// What its guests were given; of what isn't known, [`topology::given`] says
    /// what an earlier version gave.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub allocations: Option<Record>,
}

/// As much of a generation as can be read where its spec can't.
#[derive(Deserialize)]
struct Remains {
    #[serde(deserialize_with = "lenient")]
    allocations: Option<Record>,
}

impl Generation {
    /// The host that it describes.
    ///
    /// # Errors
    /// Where this version of hostctl refuses the spec.
    pub fn compile(&self) -> Result<Topology, HostError> {
        self.compile_with(&self.allocations())
    }

    pub(super) fn compile_with(&self, allocations: &Allocations) -> Result<Topology, HostError> {
        let compiled = topology::compile_keeping(&self.spec, allocations);
        compiled.map_err(|issues| HostError::Outdated {
            number: self.number,
            reason: issues.first().map(|issue| issue.message.clone()).unwrap_or_default(),
        })
    }

    /// What its guests have.
    pub fn allocations(&self) -> Allocations {
        let given = || topology::given(&self.spec);
        self.allocations.as_ref().map_or_else(given, |record| record.read(given))
    }
}

/// Where a generation is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// By which command.
    pub command: String,
    /// The generation that it returns to, where it is a rollback.
    pub from: Option<u64>,
}

impl Origin {
    /// What a command makes.
    pub fn of(command: impl Into<String>) -> Self {
        Self { command: command.into(), from: None }
    }
}

fn directory(root: &RootDir) -> PathBuf {
    root.state().join("generations")
}

pub(super) fn path(root: &RootDir, number: u64) -> PathBuf {
    directory(root).join(format!("{number}.json"))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> HostError {
    let path = path.to_path_buf();
    move |source| HostError::File { path: path.clone(), source }
}

/// The numbers of the generations that are kept, in order.
///
/// # Errors
/// Where the directory can't be read.
pub fn numbers(root: &RootDir) -> Result<Vec<u64>, HostError> {
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
    read_once(root, number).map(|read| read.generation.clone())
}

/// The text of its file.
pub(super) fn read_text(root: &RootDir, number: u64) -> Result<Vec<u8>, HostError> {
    match read_bounded(&path(root, number), LONGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(HostError::NoGeneration { number, kept: numbers(root)? })
        }
        result => result.map_err(|source| HostError::Unreadable { number, path: path(root, number), source }),
    }
}

/// What a file's text says.
pub(super) fn parse(root: &RootDir, number: u64, text: &[u8]) -> Result<Generation, HostError> {
    record::parse::<Generation>(text)
        .and_then(|generation| match generation.number {
            // The file's name says it as well.
            0 => Ok(Generation { number, ..generation }),
            same if same == number => Ok(generation),
            _ => Err(io::Error::other(format!("it says that it is generation {}", generation.number))),
        })
        .map_err(|source| HostError::Unreadable { number, path: path(root, number), source })
}

/// The last generation that was applied whole.
///
/// # Errors
/// Where its file can't be read.
pub fn last(root: &RootDir) -> Result<Option<Generation>, HostError> {
    numbers(root)?.pop().map(|number| read(root, number)).transpose()
}

/// As [`last`], read once.
///
/// # Errors
/// As [`last`].
pub fn last_once(root: &RootDir) -> Result<Option<Arc<Read>>, HostError> {
    numbers(root)?.pop().map(|number| read_once(root, number)).transpose()
}

/// The newest generation that can be read, and why newer ones can't: good
/// enough to look at, but not to return to.
///
/// # Errors
/// Where the directory can't be read.
pub fn newest_readable(root: &RootDir) -> Result<(Option<Generation>, Vec<HostError>), HostError> {
    let (newest, unreadable) = newest_readable_once(root)?;
    Ok((newest.map(|read| read.generation.clone()), unreadable))
}

/// As [`newest_readable`], read once.
///
/// # Errors
/// As [`newest_readable`].
pub fn newest_readable_once(root: &RootDir) -> Result<(Option<Arc<Read>>, Vec<HostError>), HostError> {
    let mut unreadable = Vec::new();
    for number in numbers(root)?.into_iter().rev() {
        match read_once(root, number) {
            Ok(read) => return Ok((Some(read), unreadable)),
            Err(error) => unreadable.push(error),
        }
    }
    Ok((None, unreadable))
}

/// What the guests of this host have, which every compile for it keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// As the newest generation that can be read says it.
    pub allocations: Allocations,
    /// What was assumed, where that isn't the newest.
    pub note: Option<String>,
}

/// Reads what the guests of this host have.
pub fn kept(root: &RootDir) -> Kept {
    const NEW: &str = "what guests have on this host can't be read, and all are taken for new ones";
    match newest_readable_once(root) {
        Err(error) => Kept { note: Some(format!("{NEW}: {error}")), ..Kept::default() },
        Ok((newest, unreadable)) => {
            // Whether its spec can be read or not: it is what guests have.
            let remains = unreadable.iter().find_map(|error| remains(root, error));
            let found = newest.map(|newest| (newest.generation.number, newest.allocations().clone()));
            let Some((number, allocations)) = remains.or(found) else {
                let note = unreadable.first().map(|error| format!("{NEW}: {error}"));
                return Kept { note, ..Kept::default() };
            };
            let told = |error| format!("guests keep what generation {number} gave them: {error}");
            Kept { note: unreadable.first().map(told), allocations }
        }
    }
}

/// What a generation gave to guests whose spec can't be read.
fn remains(root: &RootDir, error: &HostError) -> Option<(u64, Allocations)> {
    let HostError::Unreadable { number, .. } = error else { return None };
    let text = read_bounded(&path(root, *number), LONGEST).ok()?;
    Some((*number, record::parse::<Remains>(&text).ok()?.allocations?.read(Allocations::default)))
}

/// Compiles a spec for this host: guests that stay keep what they have.
///
/// # Errors
/// As [`topology::compile`].
pub fn compile(root: &RootDir, spec: &HostSpec) -> Result<Topology, Vec<Issue>> {
    topology::compile_keeping(spec, &kept(root).allocations)
}

/// Keeps `spec`, and what its guests were given, as the newest generation,
/// unless the newest says the same.
/// A crash leaves the old ones or the new one, never half of one.
///
/// # Errors
/// Where the file can't be written.
pub fn commit(
    root: &RootDir,
    given: (&HostSpec, &Allocations),
    origin: &Origin,
    drop_in: Option<String>,
) -> Result<Generation, HostError> {
    prepare(root, given, origin, drop_in)?.keep(root)
}

/// A generation that is written, and isn't one yet.
#[derive(Debug)]
pub struct Prepared {
    generation: Generation,
    /// None for a repetition.
    draft: Option<Draft>,
}

impl Prepared {
    /// Makes it the newest.
    ///
    /// # Errors
    /// Where it can't be put in its place.
    pub fn keep(self, root: &RootDir) -> Result<Generation, HostError> {
        let Some(draft) = self.draft else { return Ok(self.generation) };
        draft.place().map_err(failed(&path(root, self.generation.number)))?;
        let numbers = numbers(root).unwrap_or_default();
        for old in numbers.iter().take(numbers.len().saturating_sub(KEPT)) {
            // One that stays does no harm.
            _ = fs::remove_file(directory(root).join(format!("{old}.json")));
        }
        Ok(self.generation)
    }
}

/// Writes down what [`Prepared::keep`] makes the newest generation: before the
/// host is changed, so that there is room for it after.
///
/// # Errors
/// Where it can't be written.
pub fn prepare(
    root: &RootDir,
    (spec, given): (&HostSpec, &Allocations),
    origin: &Origin,
    drop_in: Option<String>,
) -> Result<Prepared, HostError> {
    if let Ok(Some(last)) = last_once(root)
        && &last.generation.spec == spec
        && last.allocations() == given
    {
        return Ok(Prepared { generation: last.generation.clone(), draft: None });
    }
    let numbers = numbers(root)?;
    let applied_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let number = numbers.last().map_or(1, |last| last.saturating_add(1));
    let Origin { command, from } = origin.clone();
    let (command, spec) = (Some(command), spec.clone());
    let allocations = Some(Record::of(given));
    let version = Field::Is(VERSION);
    let generation = Generation { version, number, applied_at, command, from, drop_in, spec, allocations };
    let path = path(root, number);
    let text = serde_json::to_string_pretty(&generation).map_err(|error| failed(&path)(error.into()))?;
    let draft = Draft::write(&path, &text).map_err(failed(&path))?;
    Ok(Prepared { generation, draft: Some(draft) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(cidr: &str) -> HostSpec {
        toml::from_str(&format!("[networks.a]\ncidr = \"{cidr}\"")).unwrap()
    }

    fn commit(root: &RootDir, spec: &HostSpec) -> Result<Generation, HostError> {
        super::commit(root, (spec, &topology::given(spec)), &Origin::of("apply"), None)
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
        assert_eq!(read(&root, 1).unwrap().spec, spec("10.1.0.0/24"));
        let missing = read(&root, 7).unwrap_err().to_string();
        assert!(missing.contains("there is no generation 7") && missing.contains("1 to 2"), "{missing}");
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
        commit(&root, &spec("10.2.0.0/24")).unwrap();
        let newest = root.state().join("generations/2.json");
        let whole = fs::read_to_string(&newest).unwrap();
        // Torn, empty, of another number, of no kind at all.
        for broken in [&whole[..whole.len() / 2], "", &whole.replace("\"number\": 2", "\"number\": 3"), "[]"]
        {
            fs::write(&newest, broken).unwrap();
            assert!(matches!(last(&root), Err(HostError::Unreadable { number: 2, .. })));
            let (found, unreadable) = newest_readable(&root).unwrap();
            assert_eq!((found.unwrap().number, unreadable.len()), (1, 1));
        }
        assert_eq!(commit(&root, &spec("10.1.0.0/24")).unwrap().number, 3);
        assert_eq!(last(&root).unwrap().unwrap().number, 3);
    }

    #[test]
    fn what_the_first_version_wrote_is_still_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        fs::create_dir_all(root.state().join("generations")).unwrap();
        let text = r#"{"number": 4, "applied_at": 1790000000, "spec": {"networks": {"a": {"cidr": "10.1.0.0/24"}}}}"#;
        fs::write(root.state().join("generations/4.json"), text).unwrap();
        let last = last(&root).unwrap().unwrap();
        assert_eq!((last.number, last.command, last.from, last.drop_in), (4, None, None, None));
        assert_eq!(last.spec, spec("10.1.0.0/24"));
    }

    /// As d346908 left it; kept for ever.
    fn kept_host(name: &str) -> (tempfile::TempDir, RootDir, HostSpec) {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/records/d346908").join(name);
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        fs::create_dir_all(root.state().join("generations")).unwrap();
        let from = kept.join("var/lib/hostctl/generations/1.json");
        fs::copy(from, root.state().join("generations/1.json")).unwrap();
        (directory, root, toml::from_str(&fs::read_to_string(kept.join("host.toml")).unwrap()).unwrap())
    }

    #[test]
    fn what_was_written_is_read_as_what_it_was() {
        for (name, guests, time) in [("plain", 1, 1_795_601_595), ("everything", 5, 1_795_601_520)] {
            let (_directory, root, spec) = kept_host(name);
            let last = last(&root).unwrap().unwrap();
            assert_eq!((last.number, last.command.as_deref(), last.from), (1, Some("apply"), None));
            assert_eq!((last.applied_at / 1000, last.drop_in.as_deref()), (time / 1000, Some("")));
            assert_eq!(last.spec, spec);
            let given = last.allocations();
            assert_eq!((&given, given.vms.len() + given.namespaces.len()), (&topology::given(&spec), guests));
            assert_eq!(last.compile().unwrap(), topology::compile(&spec).unwrap());
            // It is the same spec, and nothing is kept anew.
            assert_eq!(commit(&root, &spec).unwrap().number, 1);
        }
    }

    #[test]
    fn a_part_that_is_lost_costs_itself() {
        use serde_json::{Value, json};
        let (_directory, root, spec) = kept_host("plain");
        let path = root.state().join("generations/1.json");
        let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let write = |change: &dyn Fn(&mut Value)| {
            let mut value = whole.clone();
            change(&mut value);
            fs::write(&path, value.to_string()).unwrap();
        };
        for key in ["number", "applied_at", "command", "drop_in", "allocations"] {
            for odd in [None, Some(json!({ "odd": [] })), Some(json!(-7)), Some(Value::Null)] {
                write(&|value| match (&odd, value.as_object_mut().unwrap()) {
                    (Some(odd), value) => value[key] = odd.clone(),
                    (None, value) => drop(value.remove(key).unwrap()),
                });
                let read = last(&root).unwrap().unwrap();
                assert_eq!((read.number, &read.spec), (1, &spec), "{key} {odd:?}");
                assert_eq!(read.allocations(), topology::given(&spec), "{key} {odd:?}");
            }
        }
        write(&|value| {
            value["version"] = json!(7);
            value["later"] = json!([]);
            value["allocations"]["vms"]["plain"]["address"] = json!("10.1.0.9");
            value["allocations"]["namespaces"] = json!(7);
        });
        let address = |given: &Allocations| given.vms["plain"].address.unwrap().to_string();
        assert_eq!(address(&last(&root).unwrap().unwrap().allocations()), "10.1.0.9");
        // A spec that isn't understood is none to return to; what guests have
        // they have all the same.
        write(&|value| {
            value["spec"]["later"] = json!({});
            value["allocations"]["vms"]["plain"]["address"] = json!("10.1.0.9");
        });
        assert!(matches!(last(&root), Err(HostError::Unreadable { number: 1, .. })));
        let kept = kept(&root);
        assert_eq!(address(&kept.allocations), "10.1.0.9");
        let note = kept.note.unwrap();
        assert!(
            note.starts_with("guests keep what generation 1 gave them: ") && note.contains("later"),
            "{note}"
        );
    }
}
