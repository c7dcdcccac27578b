//! serde's view of a [`Node`]; errors keep what serde knew and the path that
//! they happened at.

use std::collections::btree_map;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};

use super::document::{Entry, Node, Value};
use super::explain::list;
use crate::spec::Segment;

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::spec) enum Refusal {
    /// Another type than expected, or a number out of range.
    Mismatch { found: String, expected: String },
    /// An array of another length.
    Length { found: usize, expected: String },
    /// None of the words allowed.
    Variant { found: String, known: &'static [&'static str] },
    /// None of the keys allowed.
    UnknownKey { key: String, known: &'static [&'static str] },
    /// A key that isn't there.
    Missing(&'static str),
    /// What the type itself says.
    Other(String),
}

/// A refusal and where it happened.
#[derive(Debug)]
pub(in crate::spec) struct DecodeError {
    pub refusal: Refusal,
    /// The last segment first.
    reversed: Vec<Segment>,
}

impl DecodeError {
    fn new(refusal: Refusal) -> Self {
        Self { refusal, reversed: Vec::new() }
    }

    fn within(mut self, segment: Segment) -> Self {
        self.reversed.push(segment);
        self
    }

    /// The path from the decoded node to the value.
    pub fn path(&self) -> Vec<Segment> {
        self.reversed.iter().rev().cloned().collect()
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.refusal)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Refusal::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Refusal::Mismatch { found: found_text(found), expected: expected.to_string() })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(found: usize, expected: &dyn Expected) -> Self {
        Self::new(Refusal::Length { found, expected: expected.to_string() })
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(Refusal::Variant { found: found.into(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Refusal::UnknownKey { key: key.into(), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Refusal::Missing(key))
    }
}

/// What was found, in the words of TOML.
fn found_text(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(boolean) => boolean.to_string(),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number:?}"),
        Unexpected::Str(text) if text.chars().count() > 40 => {
            format!("the text {:?}…", text.chars().take(40).collect::<String>())
        }
        Unexpected::Str(text) => format!("the text {text:?}"),
        Unexpected::Unit => "null".into(),
        Unexpected::Seq => "an array".into(),
        Unexpected::Map => "a table".into(),
        other => other.to_string(),
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let refuse = |what: &str| Err(de::Error::invalid_type(Unexpected::Other(what), &visitor));
        match &self.value {
            Value::Null | Value::Removed => visitor.visit_unit(),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Integer(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => refuse(&format!("the number {number}")),
            },
            Value::Oversized(number) => {
                let start: String = number.chars().take(40).collect();
                refuse(&format!("the number {start}{}", if start.len() < number.len() { "…" } else { "" }))
            }
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Datetime => refuse("a date or time"),
            Value::Array(nodes) => visitor.visit_seq(Elements(nodes.iter().enumerate())),
            Value::Table(entries) => visitor.visit_map(Entries { entries: entries.iter(), next: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// Fields have names: a list of their values, in an order that nobody
    /// wrote down, is none.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Array(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if let Value::Text(text) = &self.value {
            return visitor.visit_enum::<StrDeserializer<'_, DecodeError>>(text.as_str().into_deserializer());
        }
        self.deserialize_any(OneOf { known, value: PhantomData })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// Takes nothing: whatever isn't a word is of another type than expected.
struct OneOf<V> {
    known: &'static [&'static str],
    value: PhantomData<V>,
}

impl<V> Visitor<'_> for OneOf<V> {
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {}", list(self.known))
    }
}

struct Elements<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> de::SeqAccess<'de> for Elements<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some((index, node)) = self.0.by_ref().find(|(_, node)| node.value != Value::Removed) else {
            return Ok(None);
        };
        seed.deserialize(node).map(Some).map_err(|error| error.within(Segment::Index(index)))
    }
}

struct Entries<'de> {
    entries: btree_map::Iter<'de, String, Entry>,
    next: Option<(&'de str, &'de Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, entry)) = self.entries.by_ref().find(|(_, entry)| entry.node.value != Value::Removed)
        else {
            return Ok(None);
        };
        self.next = Some((key, &entry.node));
        let key_deserializer: StrDeserializer<'_, DecodeError> = key.as_str().into_deserializer();
        seed.deserialize(key_deserializer).map(Some).map_err(|error| error.within(Segment::Key(key.clone())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let Some((key, node)) = self.next.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        seed.deserialize(node).map_err(|error| error.within(Segment::Key(key.into())))
    }
}
