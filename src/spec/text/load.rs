//! The host spec of a machine: its file and its drop-ins.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::root_dir::RootDir;

use super::document::Document;
use super::merge::Merged;
use super::problem::{MOST_PROBLEMS, Problem, SpecError};
use super::read::{self, read};
use crate::spec::{HostSpec, Issue, SpecPath};

/// Most drop-ins, and most bytes of all files together.
const MOST_DROP_INS: usize = 1024;
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A host spec and the files that it is from.
#[derive(Debug)]
pub struct Loaded {
    /// All files together.
    pub spec: HostSpec,
    /// Which file says what.
    pub sources: Sources,
}

/// A host spec that passed a check, and what the check made of it.
#[derive(Debug)]
pub struct Checked<T> {
    /// All files together.
    pub spec: HostSpec,
    /// What the check returned.
    pub compiled: T,
    /// Which file says what.
    pub sources: Sources,
}

/// A drop-in as it may become: it is read in the place of what the file says,
/// also where there is no such file yet.
#[derive(Debug, Clone, Copy)]
pub struct Replaced<'a> {
    /// The drop-in.
    pub path: &'a Path,
    /// Its text.
    pub text: &'a str,
}

/// The files of a host spec.
#[derive(Debug)]
pub struct Sources {
    merged: Merged,
    main: PathBuf,
    files: Vec<PathBuf>,
    ignored: Vec<PathBuf>,
}

impl Sources {
    /// The issue at the place of its key, or of the nearest key around it
    /// that is written somewhere.
    pub fn locate(&self, issue: &Issue) -> Problem {
        self.merged.locate(issue, &self.main)
    }

    /// The file that says what is at `path`; none for what no file says, and
    /// for the tables that several files may add to.
    pub fn origin(&self, path: &SpecPath) -> Option<&Path> {
        self.merged.origin(path)
    }

    /// As [`Sources::origin`], with the line in that file, from 1.
    pub fn line(&self, path: &SpecPath) -> Option<(&Path, usize)> {
        self.merged.line(path)
    }

    /// The files that were read, in the order they were merged.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What lies among the drop-ins without being one: neither `*.toml` nor
    /// `*.json`. Hidden files aren't listed.
    pub fn ignored(&self) -> &[PathBuf] {
        &self.ignored
    }
}

/// Files that were parsed, so that whoever reads a host's twice parses them once.
#[derive(Debug, Default)]
pub(crate) struct Parsed(Vec<Arc<Document>>);

impl Parsed {
    /// A file's tree; as much of it as there is where it has mistakes.
    fn parse(&mut self, file: &Path, text: String) -> (Option<Arc<Document>>, Vec<Problem>) {
        if let Some(known) = self.0.iter().find(|known| known.is_of(file, &text)) {
            return (Some(known.clone()), Vec::new());
        }
        let (document, problems) = Document::parse(file, text);
        let document = document.map(Arc::new);
        if problems.is_empty() {
            self.0.extend(document.clone());
        }
        (document, problems)
    }
}

/// Reads `file` (or else `/etc/hostctl/host.toml` or `host.json`, where there
/// is one) and the drop-ins below `root`.
///
/// # Errors
/// Everything that is wrong with the files.
pub fn load(file: Option<&Path>, root: &RootDir) -> Result<Loaded, SpecError> {
    load_parsed(file, root, &mut Parsed::default())
}

/// As [`load`], with what was parsed before.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_parsed(
    file: Option<&Path>,
    root: &RootDir,
    parsed: &mut Parsed,
) -> Result<Loaded, SpecError> {
    let checked = load_checked_with(file, root, None, parsed, |_| Ok(()))?;
    Ok(Loaded { spec: checked.spec, sources: checked.sources })
}

/// As [`load`], and `compile` checks what only shows when keys are seen
/// together. It is asked even where some of the files were refused; issues
/// that may be no more than a result of that are left out then.
///
/// # Errors
/// Everything that is wrong with the files and with what they say together.
pub fn load_checked<T>(
    file: Option<&Path>,
    root: &RootDir,
    compile: impl Fn(&HostSpec) -> Result<T, Vec<Issue>>,
) -> Result<Checked<T>, SpecError> {
    load_checked_with(file, root, None, &mut Parsed::default(), compile)
}

/// As [`load_checked`], with one drop-in as it may become, and what was parsed
/// before.
///
/// # Errors
/// Those of [`load_checked`]; what is wrong with the drop-in is said to be in
/// `PATH (not written)`.
pub(crate) fn load_checked_with<T>(
    file: Option<&Path>,
    root: &RootDir,
    replaced: Option<Replaced<'_>>,
    parsed: &mut Parsed,
    compile: impl Fn(&HostSpec) -> Result<T, Vec<Issue>>,
) -> Result<Checked<T>, SpecError> {
    let (mut sources, mut problems) = gather(file, root, replaced, parsed);
    // What is wrong with a value whose line couldn't be read says nothing.
    let unread: BTreeSet<_> = problems.iter().filter_map(line_of).collect();
    let readable = |problem: &Problem| line_of(problem).is_none_or(|line| !unread.contains(&line));
    problems.extend(std::mem::take(&mut sources.merged.problems).into_iter().filter(readable));
    let spec = std::mem::take(&mut sources.merged.spec);
    match compile(&spec) {
        Ok(compiled) if problems.is_empty() => Ok(Checked { spec, compiled, sources }),
        Ok(_) => Err(SpecError::new(problems)),
        Err(issues) => {
            let refused = !problems.is_empty();
            let issues = issues.iter().filter(|issue| !(refused && issue.dangling));
            // One more than are shown, so that it is said that there are more.
            let issues = issues.take(MOST_PROBLEMS + 1).map(|issue| sources.locate(issue));
            problems.extend(issues.filter(readable));
            Err(SpecError::new(problems))
        }
    }
}

/// Reads one drop-in by itself; one that doesn't exist says nothing.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn load_drop_in(path: &Path, parsed: &mut Parsed) -> Result<HostSpec, SpecError> {
    if !path.try_exists().unwrap_or(true) {
        return Ok(HostSpec::default());
    }
    let text = read(path).map_err(|problem| SpecError::new(vec![problem]))?;
    let (document, mut problems) = parsed.parse(read::name(path), text);
    let mut merged = Merged::default();
    if let Some(document) = document {
        merged.add(document);
    }
    problems.extend(merged.problems);
    if problems.is_empty() { Ok(merged.spec) } else { Err(SpecError::new(problems)) }
}

fn line_of(problem: &Problem) -> Option<(PathBuf, usize)> {
    problem.place.as_ref().map(|place| (problem.file.clone(), place.line))
}

/// Reads and merges every file.
fn gather(
    file: Option<&Path>,
    root: &RootDir,
    replaced: Option<Replaced<'_>>,
    parsed: &mut Parsed,
) -> (Sources, Vec<Problem>) {
    let mut problems = Vec::new();
    let main = main_file(file, root, &mut problems);
    let named = main.clone().unwrap_or_else(|| root.host_spec());
    let mut sources = Sources {
        merged: Merged::default(),
        main: read::name(&named).into(),
        files: Vec::new(),
        ignored: Vec::new(),
    };
    let mut drop_ins = drop_ins(&root.drop_ins(), &mut sources.ignored, &mut problems);
    if let Some(Err(place)) =
        replaced.map(|file| drop_ins.binary_search_by(|path| path.as_path().cmp(file.path)))
        && let Some(file) = replaced
    {
        drop_ins.insert(place, file.path.into());
    }
    let mut bytes = 0;
    for path in main.into_iter().chain(drop_ins) {
        let name = read::name(&path).to_path_buf();
        let draft = replaced.filter(|file| file.path == path);
        let text = match draft.map_or_else(|| read(&path), |file| Ok(file.text.to_owned())) {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        bytes += text.len();
        if bytes > MOST_BYTES {
            let message = format!("all files together are longer than {} MiB", MOST_BYTES / 1024 / 1024);
            problems.push(Problem::new(&name, None, &message, Some("remove drop-ins")));
            break;
        }
        let (document, faults) = if draft.is_some() {
            let (mut document, faults) = Document::parse(&name, text);
            // Its lines aren't those of the file that lies there.
            if let Some(document) = document.as_mut() {
                document.source.file = format!("{} (not written)", path.display()).into();
            }
            (document.map(Arc::new), faults)
        } else {
            parsed.parse(&name, text)
        };
        problems.extend(faults);
        if let Some(document) = document {
            sources.merged.add(document);
        }
        sources.files.push(name);
    }
    (sources, problems)
}

/// The file named, or else the machine's own where there is one.
fn main_file(file: Option<&Path>, root: &RootDir, problems: &mut Vec<Problem>) -> Option<PathBuf> {
    if let Some(file) = file {
        return Some(file.into());
    }
    let toml = root.host_spec();
    let json = toml.with_extension("json");
    // A file that can't even be looked at is left to the reader to report; of two
    // such, nobody knows that both are there.
    let exists = |path: &Path| path.try_exists();
    let known = matches!((exists(&toml), exists(&json)), (Ok(true), Ok(true)));
    match (exists(&toml).unwrap_or(true), exists(&json).unwrap_or(true)) {
        (true, true) if known => {
            let message = format!("there is {} too", toml.display());
            problems.push(Problem::new(&json, None, &message, Some("remove one of the two")));
            Some(toml)
        }
        (true, _) => Some(toml),
        (false, true) => Some(json),
        (false, false) => None,
    }
}

/// The drop-ins by name; what isn't one is `ignored`.
fn drop_ins(directory: &Path, ignored: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut refuse = |message: &str, hint: &str| {
        problems.push(Problem::new(directory, None, message, Some(hint)));
    };
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return found,
        // They may have secrets: they are root's alone.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            refuse("only root may read the drop-ins", "run it as root");
            return found;
        }
        Err(error) => {
            refuse(&format!("can't list the drop-ins: {error}"), "make it a directory that root can read");
            return found;
        }
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                refuse(&format!("can't list the drop-ins: {error}"), "check the file system");
                break;
            }
        };
        if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if !path.extension().is_some_and(|extension| extension == "toml" || extension == "json") {
            if ignored.len() < MOST_DROP_INS {
                ignored.push(path);
            }
        } else if found.len() < MOST_DROP_INS {
            found.push(path);
        } else {
            refuse(&format!("more than {MOST_DROP_INS} drop-ins"), "merge some of them");
            break;
        }
    }
    found.sort();
    ignored.sort();
    found
}
