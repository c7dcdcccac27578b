//! Where a TOML file first names each key that it names again: the parser
//! says only where the second one is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use toml_parser::parser::{Event, EventKind, parse_document};

use super::document::DEEPEST;

/// For every key that was named before, by where it starts: the first place.
pub(in crate::spec) fn first_places(text: &str) -> BTreeMap<usize, Range<usize>> {
    let source = toml_parser::Source::new(text);
    let tokens = source.lex().into_vec();
    let mut walk = Walk { source, ..Walk::new(source) };
    let mut receiver = |event: Event| walk.event(event);
    let mut receiver = toml_parser::parser::RecursionGuard::new(&mut receiver, DEEPEST as u32 + 1);
    parse_document(&tokens, &mut receiver, &mut ());
    walk.again
}

type Path = Vec<String>;

struct Walk<'i> {
    source: toml_parser::Source<'i>,
    first: BTreeMap<Path, Range<usize>>,
    again: BTreeMap<usize, Range<usize>>,
    /// How many `[[tables]]` of a path there were.
    counts: BTreeMap<Path, usize>,
    /// The keys read so far, of which `=` or `]` will make a path.
    pending: Vec<(String, Range<usize>)>,
    header: Path,
    /// The paths of the inline tables and arrays that are open.
    open: Vec<Path>,
    /// The path of the value that comes next.
    current: Path,
    array_header: bool,
    values: usize,
}

impl<'i> Walk<'i> {
    fn new(source: toml_parser::Source<'i>) -> Self {
        Self {
            source,
            first: BTreeMap::new(),
            again: BTreeMap::new(),
            counts: BTreeMap::new(),
            pending: Vec::new(),
            header: Path::new(),
            open: Vec::new(),
            current: Path::new(),
            array_header: false,
            values: 0,
        }
    }

    fn event(&mut self, event: Event) {
        match event.kind() {
            EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                self.array_header = event.kind() == EventKind::ArrayTableOpen;
                self.pending.clear();
                self.open.clear();
            }
            EventKind::SimpleKey => {
                let mut key = Cow::Borrowed("");
                if let Some(raw) = self.source.get(event) {
                    raw.decode_key(&mut key, &mut ());
                }
                let span = event.span();
                self.pending.push((key.into_owned(), span.start()..span.end()));
            }
            EventKind::StdTableClose | EventKind::ArrayTableClose => {
                let array = self.array_header;
                self.header = self.resolve(Path::new(), array);
                if array {
                    let count = self.counts.entry(self.header.clone()).or_insert(0);
                    *count += 1;
                    self.header.push(format!("[{count}]"));
                }
            }
            EventKind::KeyValSep => {
                let base = self.open.last().unwrap_or(&self.header).clone();
                self.current = self.resolve(base, false);
            }
            EventKind::InlineTableOpen | EventKind::ArrayOpen => {
                // Elements of an array are told apart by a number of their own.
                self.values += 1;
                let mut path = self.current.clone();
                if event.kind() == EventKind::ArrayOpen || !self.open.is_empty() {
                    path.push(format!("[{}]", self.values));
                }
                self.pending.clear();
                self.open.push(path);
            }
            EventKind::InlineTableClose | EventKind::ArrayClose => {
                self.open.pop();
                self.pending.clear();
            }
            EventKind::Newline if self.open.is_empty() => self.pending.clear(),
            _ => {}
        }
    }

    /// The path of the pending keys behind `base`; notes where each of its
    /// keys is. The keys of `[[array]]` may come again.
    fn resolve(&mut self, mut path: Path, array: bool) -> Path {
        for (key, span) in std::mem::take(&mut self.pending) {
            if let Some(count) = self.counts.get(&path) {
                path.push(format!("[{count}]"));
            }
            path.push(key);
            match self.first.get(&path) {
                Some(first) if !array => {
                    self.again.insert(span.start, first.clone());
                }
                Some(_) => {}
                None => {
                    self.first.insert(path.clone(), span);
                }
            }
        }
        path
    }
}
