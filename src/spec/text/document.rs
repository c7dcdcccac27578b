//! A file of the spec as a tree whose keys and values know their place.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{Place, Problem};
use super::{json_document, toml_document};
use crate::spec::{Segment, SpecPath};

/// How deep tables and arrays may nest: far deeper than any spec, and far
/// from the end of the stack.
pub(in crate::spec) const DEEPEST: usize = 64;

/// A value and where it is written.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::spec) struct Node {
    /// The value's bytes; a table's header where it has one.
    pub span: Range<usize>,
    pub value: Value,
}

/// What TOML and JSON can say.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::spec) enum Value {
    Null,
    Boolean(bool),
    Integer(i128),
    /// An integer beyond any type's, as it is written.
    Oversized(String),
    Float(f64),
    Text(String),
    Datetime,
    Array(Vec<Node>),
    Table(BTreeMap<String, Entry>),
    /// Refused earlier; decoding goes on as if it weren't there.
    Removed,
}

/// A key's value and where the key is written.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::spec) struct Entry {
    pub key: Range<usize>,
    pub node: Node,
}

/// A mistake in the syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::spec) struct Fault {
    pub span: Range<usize>,
    pub message: String,
    pub hint: String,
}

/// A file's text with its lines.
#[derive(Debug)]
pub(in crate::spec) struct Source {
    pub file: PathBuf,
    text: Arc<str>,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// A file that could be read.
#[derive(Debug)]
pub(in crate::spec) struct Document {
    pub source: Source,
    pub json: bool,
    /// Whether its syntax has mistakes: something may be missing then.
    pub broken: bool,
    pub root: Node,
}

impl Node {
    pub fn child(&self, segment: &Segment) -> Option<&Node> {
        match (&self.value, segment) {
            (Value::Table(entries), Segment::Key(key)) => entries.get(key).map(|entry| &entry.node),
            (Value::Array(nodes), Segment::Index(index)) => nodes.get(*index),
            _ => None,
        }
    }

    pub fn child_mut(&mut self, segment: &Segment) -> Option<&mut Node> {
        match (&mut self.value, segment) {
            (Value::Table(entries), Segment::Key(key)) => entries.get_mut(key).map(|entry| &mut entry.node),
            (Value::Array(nodes), Segment::Index(index)) => nodes.get_mut(*index),
            _ => None,
        }
    }

    /// Where `path` is written, or else the nearest ancestor that is: a
    /// table by its key, anything else by its value.
    pub fn locate(&self, path: &[Segment]) -> Range<usize> {
        let mut node = self;
        let mut span = self.span.clone();
        for segment in path {
            let Some(child) = node.child(segment) else { break };
            span = match (&node.value, segment, &child.value) {
                (Value::Table(entries), Segment::Key(key), Value::Table(_)) => {
                    entries.get(key).map_or_else(|| child.span.clone(), |entry| entry.key.clone())
                }
                _ => child.span.clone(),
            };
            node = child;
        }
        span
    }

    /// Where the value at `path` is written, or else the nearest ancestor.
    pub fn locate_value(&self, path: &[Segment]) -> Range<usize> {
        let value = path.iter().try_fold(self, |node, segment| node.child(segment));
        value.map_or_else(|| self.locate(path), |node| node.span.clone())
    }

    /// Where the last key of `path` is written.
    pub fn locate_key(&self, path: &[Segment]) -> Range<usize> {
        let Some((Segment::Key(last), parents)) = path.split_last() else { return self.locate(path) };
        let parent = parents.iter().try_fold(self, |node, segment| node.child(segment));
        match parent.map(|node| &node.value) {
            Some(Value::Table(entries)) => {
                entries.get(last).map_or_else(|| self.locate(parents), |entry| entry.key.clone())
            }
            _ => self.locate(parents),
        }
    }
}

impl Source {
    pub fn new(file: PathBuf, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(index, _)| index + 1)).collect();
        Self { file, text: text.into(), lines }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line of a byte, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }

    /// The line and column (in characters) of a span's start, from 1.
    pub fn position(&self, span: &Range<usize>) -> (usize, usize) {
        let line = self.line(span.start);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..span.start).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    pub fn place(&self, span: Range<usize>) -> Place {
        let (line, column) = self.position(&span);
        Place { line, column, span, text: Arc::clone(&self.text) }
    }

    pub fn problem(&self, span: Range<usize>, message: &str, hint: Option<&str>) -> Problem {
        Problem::new(&self.file, Some(self.place(span)), message, hint)
    }
}

impl Document {
    /// Whether it is of a file of that name with that text.
    pub fn is_of(&self, file: &Path, text: &str) -> bool {
        self.source.file == file && *self.source.text == *text
    }

    /// Reads `text` as JSON or TOML, by the name of the file it is from. With
    /// the mistakes in the syntax comes what could be read in spite of them.
    pub fn parse(file: &Path, text: String) -> (Option<Self>, Vec<Problem>) {
        let source = Source::new(file.into(), text);
        let json = is_json(file, source.text());
        let (root, faults) =
            if json { json_document::parse(source.text()) } else { toml_document::parse(&source) };
        let broken = !faults.is_empty();
        let problems = faults
            .into_iter()
            .map(|fault| source.problem(fault.span, &fault.message, Some(&fault.hint)))
            .collect();
        (root.map(|root| Self { source, json, broken, root }), problems)
    }

    /// A mistake at `path`, or at the nearest key that exists.
    pub fn problem(&self, path: &SpecPath, message: &str, hint: Option<&str>) -> Problem {
        self.source.problem(self.root.locate(&path.0), message, hint)
    }
}

/// By the extension; standard input has none, but no TOML begins with a brace.
fn is_json(file: &Path, text: &str) -> bool {
    file.extension().is_some_and(|extension| extension == "json")
        || (file == Path::new(super::read::STDIN_NAME) && text.trim_start().starts_with('{'))
}
