//! [`Node`] → a type of the spec, with every mistake and not the first only:
//! what was refused is taken out of a copy, and the rest is tried again.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::DeserializeOwned;

use super::deserializer::Refusal;
use super::document::{Entry, Node, Value};
use super::problem::MOST_PROBLEMS;
use crate::spec::schema::example;
use crate::spec::{Segment, SpecPath};

/// What was refused, and its path in the file.
#[derive(Debug)]
pub(in crate::spec) struct Refused {
    pub path: SpecPath,
    pub refusal: Refusal,
    /// The value refused, where it is text.
    pub text: Option<String>,
}

/// Decodes the node at `base`; none where what is left of it is nothing.
pub(in crate::spec) fn decode<T: DeserializeOwned>(
    node: &Node,
    base: &SpecPath,
    refused: &mut Vec<Refused>,
) -> Option<T> {
    if node.value == Value::Removed {
        return None;
    }
    let mut node = Cow::Borrowed(node);
    // Tables that lack a key: they go once their other mistakes are known.
    let mut lacking: Vec<Vec<Segment>> = Vec::new();
    while refused.len() <= MOST_PROBLEMS {
        let error = match T::deserialize(node.as_ref()) {
            Ok(value) if lacking.is_empty() => return Some(value),
            Ok(_) => {
                for path in lacking.drain(..) {
                    remove(node.to_mut(), &path)?;
                }
                continue;
            }
            Err(error) => error,
        };
        let path = error.path();
        let at = find(&node, &path);
        if !at.is_some_and(|at| follows(&error.refusal, at)) {
            let text = at.and_then(|at| match &at.value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            });
            let path = SpecPath(base.0.iter().chain(&path).cloned().collect());
            refused.push(Refused { path, refusal: error.refusal.clone(), text });
        }
        match error.refusal {
            Refusal::Missing(key) if supply(node.to_mut(), base, &path, key) => lacking.push(path),
            _ => remove(node.to_mut(), &path)?,
        }
    }
    None
}

/// Whether a refusal is no more than the result of an earlier one.
fn follows(refusal: &Refusal, at: &Node) -> bool {
    match (refusal, &at.value) {
        (Refusal::Missing(key), Value::Table(entries)) => {
            entries.get(*key).is_some_and(|entry| entry.node.value == Value::Removed)
        }
        (Refusal::Length { .. }, Value::Array(nodes)) => {
            nodes.iter().any(|node| node.value == Value::Removed)
        }
        _ => false,
    }
}

fn find<'n>(node: &'n Node, path: &[Segment]) -> Option<&'n Node> {
    path.iter().try_fold(node, |node, segment| node.child(segment))
}

fn find_mut<'n>(node: &'n mut Node, path: &[Segment]) -> Option<&'n mut Node> {
    path.iter().try_fold(node, |node, segment| node.child_mut(segment))
}

/// None where `path` is the whole node.
fn remove(node: &mut Node, path: &[Segment]) -> Option<()> {
    if path.is_empty() {
        return None;
    }
    find_mut(node, path)?.value = Value::Removed;
    Some(())
}

/// Puts an example in the place of a missing value, so that decoding goes on.
fn supply(node: &mut Node, base: &SpecPath, path: &[Segment], key: &str) -> bool {
    let whole: Vec<_> = base.0.iter().chain(path).cloned().chain([Segment::Key(key.into())]).collect();
    let Some(table) = find_mut(node, path) else { return false };
    let span = table.span.clone();
    let (Value::Table(entries), Some(example)) = (&mut table.value, example(&whole)) else {
        return false;
    };
    let node = Node { value: value(example, &span), span: span.clone() };
    entries.insert(key.into(), Entry { key: span, node }).is_none()
}

/// An example as if it stood at `span`.
fn value(example: &serde_json::Value, span: &Range<usize>) -> Value {
    let node = |example| Node { value: value(example, span), span: span.clone() };
    match example {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(switch) => Value::Boolean(*switch),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or(Value::Null, |it| Value::Integer(it.into()))
        }
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(node).collect()),
        serde_json::Value::Object(entries) => {
            let entry = |example| Entry { key: span.clone(), node: node(example) };
            Value::Table(entries.iter().map(|(key, example)| (key.clone(), entry(example))).collect())
        }
    }
}
