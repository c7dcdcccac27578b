//! TOML → [`Node`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use super::document::{DEEPEST, Entry, Fault, Node, Source, Value};
use super::first_key::first_places;
use super::problem::MOST_PROBLEMS;

/// Texts longer than this aren't searched for the first place of a key, which
/// costs memory for every key.
const LONGEST_SEARCH: usize = 256 * 1024;

/// What can be read, and every mistake in the syntax.
pub(in crate::spec) fn parse(source: &Source) -> (Option<Node>, Vec<Fault>) {
    let text = source.text();
    if let Some(fault) = too_deep(text) {
        return (None, vec![fault]);
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let root = Node { span: 0..0, value: Value::Table(entries(table.into_inner())) };
    if errors.is_empty() {
        return (Some(root), Vec::new());
    }
    let firsts = if text.len() <= LONGEST_SEARCH
        && errors.iter().any(|error| error.message().starts_with("duplicate key"))
    {
        first_places(text)
    } else {
        BTreeMap::new()
    };
    let mut faults: Vec<Fault> = Vec::new();
    // A line's first mistake often is the reason for the next ones.
    let mut lines = BTreeSet::new();
    for error in errors {
        let span = within(text, error.span());
        if faults.len() <= MOST_PROBLEMS && lines.insert(source.line(span.start)) {
            faults.push(fault(source, span, error.message(), &firsts));
        }
    }
    (Some(root), faults)
}

fn fault(
    source: &Source,
    span: Range<usize>,
    message: &str,
    firsts: &BTreeMap<usize, Range<usize>>,
) -> Fault {
    let quoted = source.text().get(span.clone()).unwrap_or_default();
    if message.starts_with("duplicate key") {
        let hint = match firsts.get(&span.start) {
            Some(first) => {
                let (line, column) = source.position(first);
                format!("it stands at line {line}, column {column} already: remove one of the two")
            }
            None => "remove one of the two".into(),
        };
        return Fault { message: format!("the key {quoted} is there twice"), span, hint };
    }
    if quoted.is_empty() && message.starts_with("string values must be quoted") {
        let hint = "put it behind the =".into();
        return Fault { span, message: "a value is missing".into(), hint };
    }
    let word = word_around(source.text(), &span);
    let bare = !word.is_empty() && !word.starts_with(['"', '\'']);
    let scalar =
        ["string values must be quoted", "invalid float", "invalid integer", "invalid date", "invalid time"];
    let hint = if bare && scalar.iter().any(|start| message.starts_with(start)) {
        format!("text stands between double quotes: \"{word}\"")
    } else if message.starts_with("invalid unquoted key") {
        "a key that isn't only a-z, A-Z, 0-9, _ and - stands between double quotes".into()
    } else if message.contains("with a dotted key") {
        "a table is written in one place, and what isn't a table has no keys".into()
    } else if message.contains("basic string") {
        "text stands between double quotes, on one line; \\ begins an escape".into()
    } else if message.contains("comment character") {
        "remove the control character".into()
    } else {
        "TOML is written as [table] and key = value, each on a line of its own".into()
    };
    Fault { span, message: message.into(), hint }
}

/// The unquoted word that a span lies in.
fn word_around<'t>(text: &'t str, span: &Range<usize>) -> &'t str {
    let edge = |char: char| char.is_whitespace() || "=,[]{}#".contains(char);
    let (before, after) = text.split_at_checked(span.start).unwrap_or((text, ""));
    let start = before.len() - before.rsplit(edge).next().unwrap_or_default().len();
    let end = after.find(edge).map_or(text.len(), |index| span.start + index);
    text.get(start..end).unwrap_or_default()
}

/// The parser bounds how deep values nest, but not how long a dotted key is,
/// and its trees are dropped by recursion.
fn too_deep(text: &str) -> Option<Fault> {
    let (mut open, mut dots) = (0usize, 0usize);
    for token in toml_parser::Source::new(text).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => (open, dots) = (open + 1, 0),
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                (open, dots) = (open.saturating_sub(1), 0);
            }
            TokenKind::Dot => dots += 1,
            TokenKind::Atom
            | TokenKind::Whitespace
            | TokenKind::BasicString
            | TokenKind::LiteralString
            | TokenKind::MlBasicString
            | TokenKind::MlLiteralString => {}
            _ => dots = 0,
        }
        if open + dots > DEEPEST {
            let span = token.span();
            return Some(Fault {
                span: span.start()..span.end(),
                message: format!("nested deeper than {DEEPEST} levels"),
                hint: "a host spec needs no more than six".into(),
            });
        }
    }
    None
}

fn within(text: &str, span: Option<Range<usize>>) -> Range<usize> {
    let Some(span) = span else { return 0..0 };
    let floor = |mut index: usize| {
        index = index.min(text.len());
        while !text.is_char_boundary(index) {
            index -= 1;
        }
        index
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

fn entries(table: DeTable<'_>) -> BTreeMap<String, Entry> {
    table
        .into_iter()
        .map(|(key, value)| (key.get_ref().to_string(), Entry { key: key.span(), node: node(value) }))
        .collect()
}

fn node(spanned: Spanned<DeValue<'_>>) -> Node {
    let span = spanned.span();
    let value = match spanned.into_inner() {
        // What the parser puts where it couldn't read a value has no place.
        value if span == (0..0) && !value.is_table() => Value::Removed,
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| Value::Oversized(integer.to_string()), Value::Integer),
        DeValue::Float(float) => {
            float.as_str().parse().map_or_else(|_| Value::Oversized(float.to_string()), Value::Float)
        }
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(array) => Value::Array(array.into_iter().map(node).collect()),
        DeValue::Table(table) => Value::Table(entries(table)),
    };
    Node { span, value }
}
