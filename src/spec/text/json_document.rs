//! JSON (RFC 8259, nothing beyond it) → [`Node`].

use std::collections::BTreeMap;
use std::ops::Range;

use jsonc_parser::ast::{self, ObjectPropName};
use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde::de::IgnoredAny;

use super::document::{DEEPEST, Entry, Fault, Node, Value};
use super::json_repair::{hint, repair};
use super::problem::MOST_PROBLEMS;

const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Texts longer than this are searched for their first mistake only, since
/// each further one costs another look at the whole text.
const LONGEST_REPAIR: usize = 256 * 1024;

/// What can be read, every mistake in the syntax that can be told from its
/// neighbours, and every key that is there twice.
pub(in crate::spec) fn parse(text: &str) -> (Option<Node>, Vec<Fault>) {
    if let Some(fault) = too_deep(text) {
        return (None, vec![fault]);
    }
    let mut faults = Vec::new();
    let mut repaired = String::new();
    while faults.len() <= MOST_PROBLEMS {
        let current = if faults.is_empty() { text } else { &repaired };
        match parse_to_ast(current, &CollectOptions::default(), &STRICT) {
            Ok(result) => {
                let node = result.value.map(|value| build(value, text, &mut faults));
                return finish(text, node, faults);
            }
            Err(error) => {
                let range = error.range().start..error.range().end;
                let next = repair(current, &range, error.kind());
                faults.push(Fault {
                    span: range,
                    message: lower_first(&error.kind().to_string()),
                    hint: hint(error.kind()).into(),
                });
                match next.filter(|_| text.len() <= LONGEST_REPAIR) {
                    Some(next) => repaired = next,
                    None => break,
                }
            }
        }
    }
    (None, faults)
}

fn finish(text: &str, root: Option<Node>, mut faults: Vec<Fault>) -> (Option<Node>, Vec<Fault>) {
    if root.is_none() && faults.is_empty() {
        let hint = "an empty host spec is {}".into();
        faults.push(Fault { span: 0..0, message: "the file is empty".into(), hint });
    }
    if faults.is_empty() {
        // The parser lets some things pass that JSON doesn't have, such as
        // Unicode's spaces between tokens.
        if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
            let span = offset(text, error.line(), error.column());
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let hint = "the file is to be JSON as RFC 8259 has it".into();
            faults.push(Fault { span, message: message.into(), hint });
        }
    }
    (root, faults)
}

/// The place of serde_json's line and column, both from 1 and in bytes.
fn offset(text: &str, line: usize, column: usize) -> Range<usize> {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut offset = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset..offset
}

/// Brackets are counted outside of strings.
fn too_deep(text: &str) -> Option<Fault> {
    let (mut open, mut string, mut escaped) = (0usize, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            b'[' | b'{' if !string => open += 1,
            b']' | b'}' if !string => open = open.saturating_sub(1),
            _ => {}
        }
        if open > DEEPEST {
            return Some(Fault {
                span: index..index + 1,
                message: format!("nested deeper than {DEEPEST} levels"),
                hint: "a host spec needs no more than six".into(),
            });
        }
    }
    None
}

fn build(value: ast::Value<'_>, text: &str, faults: &mut Vec<Fault>) -> Node {
    let range = value.range();
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(literal) => Value::Boolean(literal.value),
        ast::Value::StringLit(literal) => Value::Text(literal.value.into_owned()),
        ast::Value::NumberLit(literal) => number(literal.value),
        ast::Value::Array(array) => {
            Value::Array(array.elements.into_iter().map(|element| build(element, text, faults)).collect())
        }
        ast::Value::Object(object) => Value::Table(table(object, text, faults)),
    };
    Node { span: range.start..range.end, value }
}

fn table(object: ast::Object<'_>, text: &str, faults: &mut Vec<Fault>) -> BTreeMap<String, Entry> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for property in object.properties {
        let range = property.name.range();
        let key = range.start..range.end;
        let name = match property.name {
            ObjectPropName::String(literal) => literal.value.into_owned(),
            ObjectPropName::Word(word) => word.value.into(),
        };
        let node = build(property.value, text, faults);
        match entries.get(&name) {
            // A repaired key isn't the one that was meant.
            Some(_)
                if faults.len() > MOST_PROBLEMS || faults.iter().any(|fault| fault.span.end == key.end) => {}
            Some(first) => {
                let before = text.get(..first.key.start).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                faults.push(Fault {
                    span: key,
                    message: format!("the key {name:?} is there twice"),
                    hint: format!("it stands at line {line}, column {column} already: remove one of the two"),
                });
            }
            None => {
                entries.insert(name, Entry { key, node });
            }
        }
    }
    entries
}

fn number(text: &str) -> Value {
    let oversized = || Value::Oversized(text.into());
    if text.contains(['.', 'e', 'E']) {
        return text
            .parse()
            .ok()
            .filter(|float: &f64| float.is_finite())
            .map_or_else(oversized, Value::Float);
    }
    text.parse().map_or_else(|_| oversized(), Value::Integer)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
