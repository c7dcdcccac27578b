//! Several files → one host spec, and back: which file a key of it is from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::decode::{Refused, decode};
use super::deserializer::Refusal;
use super::document::{Document, Entry, Value};
use super::explain;
use super::problem::{MOST_PROBLEMS, Problem};
use crate::spec::{HostSpec, Issue, Segment, SpecPath};

/// The keys of a host spec.
const TOP: [&str; 6] = ["apps", "host", "networks", "peerings", "policies", "vms"];

/// Several files as one spec.
#[derive(Debug, Default)]
pub(in crate::spec) struct Merged {
    pub spec: HostSpec,
    pub problems: Vec<Problem>,
    documents: Vec<Arc<Document>>,
    /// Which of the documents each entry is from.
    host: Option<usize>,
    networks: BTreeMap<String, usize>,
    vms: BTreeMap<String, usize>,
    policies: BTreeMap<String, usize>,
    apps: BTreeMap<String, usize>,
    /// With the index that the peering has there.
    peerings: Vec<(usize, usize)>,
}

impl Merged {
    /// Adds a file. No two may say the same thing; what is refused is left
    /// out of the spec and becomes a problem.
    pub fn add(&mut self, document: Arc<Document>) {
        let mut refused = Vec::new();
        match &document.root.value {
            Value::Table(entries) => {
                for (key, entry) in entries {
                    self.top(&document, key, entry, &mut refused);
                }
            }
            _ => {
                let hint = "write { \"networks\": { … }, \"vms\": { … } }";
                let message = "a host spec is one object";
                self.problems.push(document.problem(&SpecPath::default(), message, Some(hint)));
            }
        }
        // What a broken file seems to lack may be what couldn't be read.
        let lacking = |refusal: &Refusal| matches!(refusal, Refusal::Missing(_) | Refusal::Length { .. });
        refused.retain(|refused| !(document.broken && lacking(&refused.refusal)));
        self.problems.extend(refused.iter().map(|refused| explained(&document, refused)));
        self.documents.push(document);
    }

    fn top(&mut self, document: &Document, key: &str, entry: &Entry, refused: &mut Vec<Refused>) {
        let index = self.documents.len();
        let path = SpecPath::keys([key]);
        let mut shape = |message: &str, hint: &str| {
            let span = document.root.locate_key(&path.0);
            self.problems.push(document.source.problem(span, message, Some(hint)));
        };
        match (key, &entry.node.value) {
            (_, Value::Removed) => {}
            ("host", _) => match self.host.and_then(|first| self.documents.get(first)) {
                Some(first) => {
                    let problem = twice(document, first, &path, "the table [host]");
                    self.problems.push(problem);
                }
                None => {
                    self.host = Some(index);
                    self.spec.host = decode(&entry.node, &path, refused).unwrap_or_default();
                }
            },
            ("networks", Value::Table(entries)) => {
                let mut group = Group {
                    what: "network",
                    path,
                    spec: &mut self.spec.networks,
                    origins: &mut self.networks,
                };
                group.add(entries, document, &self.documents, refused, &mut self.problems);
            }
            ("vms", Value::Table(entries)) => {
                let mut group = Group { what: "VM", path, spec: &mut self.spec.vms, origins: &mut self.vms };
                group.add(entries, document, &self.documents, refused, &mut self.problems);
            }
            ("apps", Value::Table(entries)) => {
                let mut group =
                    Group { what: "app", path, spec: &mut self.spec.apps, origins: &mut self.apps };
                group.add(entries, document, &self.documents, refused, &mut self.problems);
            }
            ("policies", Value::Table(entries)) => {
                let mut group = Group {
                    what: "policy",
                    path,
                    spec: &mut self.spec.policies,
                    origins: &mut self.policies,
                };
                group.add(entries, document, &self.documents, refused, &mut self.problems);
            }
            ("peerings", Value::Array(nodes)) => {
                for (local, node) in nodes.iter().enumerate() {
                    if let Some(peering) = decode(node, &path.clone().index(local), refused) {
                        self.spec.peerings.push(peering);
                        self.peerings.push((index, local));
                    }
                }
            }
            ("networks" | "vms" | "policies" | "apps", _) if document.json => {
                shape(
                    &format!("{key} is an object of objects"),
                    &format!("write \"{key}\": {{ \"NAME\": {{ … }} }}"),
                );
            }
            ("networks" | "vms" | "policies" | "apps", _) => {
                let hint = format!("write [{key}.NAME], with a name of your own");
                shape(&format!("{key} is a table of tables"), &hint);
            }
            ("peerings", _) if document.json => {
                let hint = "write \"peerings\": [{ \"between\": [\"prod\", \"backup\"] }]";
                shape("peerings is an array of objects", hint);
            }
            ("peerings", _) => {
                let hint = "write [[peerings]] and below it between = [\"prod\", \"backup\"]";
                shape("peerings is an array of tables", hint);
            }
            _ => {
                let refusal = Refusal::UnknownKey { key: key.into(), known: &TOP };
                refused.push(Refused { path, refusal, text: None });
            }
        }
    }

    /// The file and the path there of a path of the merged spec.
    fn resolve(&self, path: &SpecPath) -> Option<(&Document, SpecPath)> {
        let index = match path.0.as_slice() {
            [Segment::Key(top), Segment::Index(index), rest @ ..] if top == "peerings" => {
                let (document, local) = *self.peerings.get(*index)?;
                let path = SpecPath::keys([top.as_str()]).index(local);
                let path = SpecPath(path.0.into_iter().chain(rest.iter().cloned()).collect());
                return Some((self.documents.get(document)?, path));
            }
            [Segment::Key(top), ..] if top == "host" => self.host?,
            [Segment::Key(top), Segment::Key(name), ..] if top == "networks" => *self.networks.get(name)?,
            [Segment::Key(top), Segment::Key(name), ..] if top == "vms" => *self.vms.get(name)?,
            [Segment::Key(top), Segment::Key(name), ..] if top == "apps" => *self.apps.get(name)?,
            [Segment::Key(top), Segment::Key(name), ..] if top == "policies" => *self.policies.get(name)?,
            _ => 0,
        };
        Some((self.documents.get(index)?, path.clone()))
    }

    /// The file that a key of the merged spec is from.
    pub fn origin(&self, path: &SpecPath) -> Option<&Path> {
        if path.0.len() < 2 && path != &SpecPath::keys(["host"]) {
            return None;
        }
        self.resolve(path).map(|(document, _)| document.source.file.as_path())
    }

    /// The file, and the line in it from 1, at which a key of the merged spec
    /// is written, or the nearest key around it.
    pub fn line(&self, path: &SpecPath) -> Option<(&Path, usize)> {
        self.origin(path)?;
        let (document, path) = self.resolve(path)?;
        let (line, _) = document.source.position(&document.root.locate_key(&path.0));
        Some((document.source.file.as_path(), line))
    }

    /// The issue at the place of its key, or of the nearest key around it
    /// that exists; `fallback` is the file where there is none.
    pub fn locate(&self, issue: &Issue, fallback: &Path) -> Problem {
        let hint = Some(issue.hint.as_str()).filter(|hint| !hint.is_empty());
        match self.resolve(&issue.path).filter(|(_, path)| !path.0.is_empty()) {
            Some((document, path)) => document.problem(&path, &issue.message, hint),
            None => Problem::new(fallback, None, &issue.message, hint),
        }
    }
}

/// A table whose keys are names.
struct Group<'m, T> {
    what: &'static str,
    path: SpecPath,
    spec: &'m mut BTreeMap<String, T>,
    origins: &'m mut BTreeMap<String, usize>,
}

impl<T: DeserializeOwned> Group<'_, T> {
    fn add(
        &mut self,
        entries: &BTreeMap<String, Entry>,
        document: &Document,
        others: &[Arc<Document>],
        refused: &mut Vec<Refused>,
        problems: &mut Vec<Problem>,
    ) {
        for (name, entry) in entries {
            let path = self.path.clone().key(name);
            match self.origins.get(name).and_then(|first| others.get(*first)) {
                Some(_) if problems.len() > MOST_PROBLEMS => {}
                Some(first) => {
                    problems.push(twice(document, first, &path, &format!("the {} {name}", self.what)));
                }
                None => {
                    self.origins.insert(name.clone(), others.len());
                    if let Some(value) = decode(&entry.node, &path, refused) {
                        self.spec.insert(name.clone(), value);
                    }
                }
            }
        }
    }
}

/// `path` is in both files.
fn twice(document: &Document, first: &Document, path: &SpecPath, what: &str) -> Problem {
    let (line, column) = first.source.position(&first.root.locate_key(&path.0));
    let message = format!("{what} is in {} already", first.source.file.display());
    let hint = format!("it stands at line {line}, column {column} there: remove or rename one of the two");
    document.source.problem(document.root.locate_key(&path.0), &message, Some(&hint))
}

pub(in crate::spec) fn explained(document: &Document, refused: &Refused) -> Problem {
    let path = &refused.path.0;
    let span = match refused.refusal {
        Refusal::UnknownKey { .. } => document.root.locate_key(path),
        Refusal::Missing(_) => document.root.locate(path),
        _ => document.root.locate_value(path),
    };
    document.source.problem(span, &explain::message(refused), Some(&explain::hint(refused, document.json)))
}
