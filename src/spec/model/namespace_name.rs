//! The names of subnets' network namespaces: they are made here alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{NAME_MAX, Name, is_of_a_name, is_ragged};

/// The longest, in bytes: a network's name, a hyphen and a subnet's.
const MAX: usize = 2 * NAME_MAX + 1;

/// The name of a subnet's network namespace, `<network>-<subnet>`: a file in
/// `/run/netns`, as `ip netns` knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamespaceName(String);

/// A text that can't name a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't name a namespace: 1 to 127 letters, digits, and inner hyphens and underscores can")]
pub struct NamespaceNameError(String);

impl NamespaceName {
    /// That of a subnet's.
    pub fn of(network: &Name, subnet: &Name) -> Self {
        Self(format!("{network}-{subnet}"))
    }

    /// Checks a text that says that it is one.
    ///
    /// # Errors
    /// Where it isn't 1 to 127 bytes of ASCII letters, digits, and inner hyphens
    /// and underscores.
    pub fn new(text: impl Into<String>) -> Result<Self, NamespaceNameError> {
        let text = text.into();
        let valid = (1..=MAX).contains(&text.len()) && text.chars().all(is_of_a_name);
        if !valid || is_ragged(&text) {
            return Err(NamespaceNameError(text));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NamespaceName {
    type Error = NamespaceNameError;

    fn try_from(text: String) -> Result<Self, NamespaceNameError> {
        Self::new(text)
    }
}

impl From<NamespaceName> for String {
    fn from(name: NamespaceName) -> Self {
        name.0
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_namespaces_name_is_one_file() {
        for text in ["", ".", "..", "a/b", "-a", "a-", "_a", "a\0b", &"n".repeat(128)] {
            assert!(NamespaceName::new(text).is_err(), "{text}");
        }
        assert_eq!(NamespaceName::new("prod-web").unwrap().as_str(), "prod-web");
    }

    proptest! {
        #[test]
        fn every_subnet_has_one(network in "[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?", subnet in "[a-z0-9]{1,63}") {
            let of = NamespaceName::of(&Name::new(network).unwrap(), &Name::new(subnet).unwrap());
            prop_assert_eq!(NamespaceName::new(of.as_str()), Ok(of));
        }
    }
}
