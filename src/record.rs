//! What is written to disk for a later hostctl, read field by field: a field
//! that this version doesn't know is passed over, and one that it can't read
//! costs nothing but itself. So a record may be of an earlier version, of a
//! later one, or damaged.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A field of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// The record hasn't got it: an earlier version wrote it.
    #[default]
    Missing,
    /// It is there, and this version doesn't understand it.
    Unreadable,
    /// What it says.
    Is(T),
}

impl<T> Field<T> {
    /// Whether the record hasn't got it.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// What it says, where it says something.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Missing | Self::Unreadable => None,
        }
    }

    /// As [`Field::get`].
    pub fn into_option(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Missing | Self::Unreadable => None,
        }
    }

    /// What it says; `default`, which is what all were then, where the version
    /// that wrote the record didn't have the field yet.
    pub fn or(self, default: T) -> Option<T> {
        match self {
            Self::Missing => Some(default),
            field => field.into_option(),
        }
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(serde_json::from_value(value).map_or(Self::Unreadable, Self::Is))
    }
}

/// For a field that is its type's default where it can't be read.
///
/// # Errors
/// Where the text is no JSON.
pub fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Field::deserialize(deserializer)?.into_option().unwrap_or_default())
}

/// For a list of which what can be read is taken.
///
/// # Errors
/// As [`lenient`].
pub fn each<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let found: Vec<Field<T>> = lenient(deserializer)?;
    Ok(found.into_iter().filter_map(Field::into_option).collect())
}

/// Reads a record. Of a key that is there twice the last one counts.
///
/// # Errors
/// Where the text isn't an object of JSON.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> io::Result<T> {
    let value: Value = serde_json::from_slice(text)?;
    if !value.is_object() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it isn't a record"));
    }
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Sample {
        number: Field<u8>,
        none: Field<Option<u8>>,
        #[serde(deserialize_with = "lenient")]
        yes: bool,
        #[serde(deserialize_with = "each")]
        list: Vec<u8>,
    }

    fn read(text: &str) -> Sample {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_cant_be_read_costs_itself() {
        let whole = read(r#"{"number": 7, "none": null, "yes": true, "list": [1, 2]}"#);
        let wanted = Sample { number: Field::Is(7), none: Field::Is(None), yes: true, list: vec![1, 2] };
        assert_eq!(whole, wanted);
        assert_eq!(parse::<Sample>(&serde_json::to_vec(&whole).unwrap()).unwrap(), whole);
        assert_eq!(read(r#"{"later": [{}], "number": 7, "number": 8}"#).number, Field::Is(8));
        let odd = read(r#"{"number": 300, "none": [], "yes": "yes", "list": [1, "two", null, 3]}"#);
        let wanted =
            Sample { number: Field::Unreadable, none: Field::Unreadable, yes: false, list: vec![1, 3] };
        assert_eq!(odd, wanted);
        assert_eq!(read(r#"{"list": 7}"#), Sample::default());
    }

    #[test]
    fn a_default_is_for_what_wasnt_there_yet() {
        assert_eq!(Field::<u8>::Missing.or(4), Some(4));
        assert_eq!(Field::<u8>::Unreadable.or(4), None);
        assert_eq!(Field::Is(5).or(4), Some(5));
    }

    #[test]
    fn what_is_no_object_is_no_record() {
        for text in ["", "7", "[]", "null", "{\"number\": 7", "{} {}", "[1, 2, 3, 4]"] {
            assert!(parse::<Sample>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
