//! Names: what the spec may call things, and what interfaces are called.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name of a network, subnet, VM or image, in bytes: a host
/// name's label (RFC 1035, section 2.3.4).
pub const NAME_MAX: usize = 63;

/// The longest name of an interface, in bytes: `IFNAMSIZ` less the final NUL
/// (`linux/if.h`).
pub const IFNAME_MAX: usize = 15;

/// A name from the spec: letters, digits, and hyphens and underscores between
/// them. It is safe in an nft set, a path and a unit name; [`Name::label`] is
/// what it is as a host's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The name of a network interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

/// Why a text can't be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name can't be empty")]
    Empty,
    /// More than `max` bytes.
    #[error("a name of {length} bytes is too long: at most {max}")]
    TooLong {
        /// The length found, in bytes.
        length: usize,
        /// The length allowed, in bytes.
        max: usize,
    },
    /// A character that the name can't hold.
    #[error("{found:?} can't be in a name: letters, digits, hyphens and underscores can")]
    Character {
        /// The first such character.
        found: char,
    },
    /// A hyphen or an underscore first or last.
    #[error("a name begins and ends with a letter or a digit")]
    Edge,
    /// A character that an interface's name can't hold.
    #[error("{found:?} can't be in an interface's name: letters, digits and any of . _ - can")]
    InterfaceCharacter {
        /// The first such character.
        found: char,
    },
    /// `.` or `..`, or a name that means all interfaces to sysctl.
    #[error("{0:?} can't be an interface's name")]
    Reserved(String),
}

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// Where it isn't 1 to 63 bytes of ASCII letters, digits, and inner hyphens
    /// and underscores.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_MAX {
            return Err(NameError::TooLong { length: text.len(), max: NAME_MAX });
        }
        if let Some(found) = text.chars().find(|c| !is_of_a_name(*c)) {
            return Err(NameError::Character { found });
        }
        if is_ragged(&text) {
            return Err(NameError::Edge);
        }
        Ok(Self(text))
    }

    /// What it is as a label of a host's name (RFC 1123, section 2.1), where case
    /// doesn't count and underscores can't be: names of one kind that are the
    /// same label are refused.
    pub fn label(&self) -> String {
        label(&self.0)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a name may hold it.
pub(super) fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Whether a text of such characters begins or ends with another one than a
/// letter or a digit: it would be no label, or an option.
pub(super) fn is_ragged(text: &str) -> bool {
    text.starts_with(['-', '_']) || text.ends_with(['-', '_'])
}

/// A text of names in lower case, with hyphens only.
pub(crate) fn label(text: &str) -> String {
    text.to_ascii_lowercase().replace('_', "-")
}

impl IfName {
    /// Checks `text`.
    ///
    /// # Errors
    /// Where the kernel would refuse it (`dev_valid_name`), or where it would
    /// have to be quoted or escaped in nft, sysctl or a path.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > IFNAME_MAX {
            return Err(NameError::TooLong { length: text.len(), max: IFNAME_MAX });
        }
        if let Some(found) =
            text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'))
        {
            return Err(NameError::InterfaceCharacter { found });
        }
        if matches!(text.as_str(), "." | ".." | "all" | "default" | "lo") {
            return Err(NameError::Reserved(text));
        }
        Ok(Self(text))
    }

    /// `<prefix><name>`; where that is longer than an interface's name may be,
    /// the prefix, the start of the name and the low 24 bits of `hash`, with
    /// the full name as the second value.
    pub(crate) fn derive(prefix: &'static str, name: &str, hash: u64) -> (Self, Option<String>) {
        let full = format!("{prefix}{name}");
        if full.len() <= IFNAME_MAX {
            return (Self(full), None);
        }
        let kept = IFNAME_MAX.saturating_sub(prefix.len() + "-123456".len());
        let start: String = name.chars().take(kept).collect();
        (Self(format!("{prefix}{start}-{:06x}", hash & 0x00ff_ffff)), Some(full))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_newtype {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_newtype!(Name);
text_newtype!(IfName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_names_are_refused() {
        for text in [
            "",
            "-a",
            "a-",
            "..",
            "../..",
            "a/b",
            "\"; flush ruleset",
            "a b",
            "_a",
            "a_",
            "a.b",
            "Ä",
            "ä",
            "名",
            "a\0",
            "a\n",
            "$x",
            "{}",
            &"a".repeat(64),
            &"a".repeat(200),
        ] {
            assert!(Name::new(text).is_err(), "{text:?}");
        }
        for text in ["", ".", "..", "all", "default", "lo", "a/b", "eth0 ", "a\"", "0123456789abcdef"] {
            assert!(IfName::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_a_label_of_a_host() {
        for (name, label) in [("web", "web"), ("My_VPC", "my-vpc"), ("A--b__C9", "a--b--c9")] {
            assert_eq!(Name::new(name).unwrap().label(), label);
        }
    }

    #[test]
    fn long_names_are_shortened_and_kept_as_altname() {
        let name = Name::new("a-rather-long-network").unwrap();
        let (short, full) = IfName::derive("br-", name.as_str(), 0x1234_5678);
        assert_eq!(full.as_deref(), Some("br-a-rather-long-network"));
        assert_eq!(short.as_str().len(), IFNAME_MAX);
        assert!(short.as_str() == "br-a-rat-345678", "{short}");
        let (short, full) = IfName::derive("br-", "twelve-bytes", 0);
        assert_eq!((short.as_str(), full), ("br-twelve-bytes", None));
    }

    proptest! {
        #[test]
        fn every_name_gives_a_valid_interface(text in "[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?") {
            let name = Name::new(text).unwrap();
            let (interface, altname) = IfName::derive("vm-", name.as_str(), u64::MAX);
            prop_assert!(IfName::new(interface.as_str()).is_ok());
            prop_assert_eq!(altname.is_some(), name.as_str().len() > 12);
            let label = name.label();
            let plain = label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            prop_assert!(plain && !is_ragged(&label));
        }

        #[test]
        fn a_name_never_panics(text in ".*") {
            let _ = Name::new(text.clone());
            let _ = IfName::new(text);
        }
    }
}
