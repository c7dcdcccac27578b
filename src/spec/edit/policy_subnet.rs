//! The subnet that a policy says it is for.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::spec::{Cidr4, Name};

/// A subnet by its prefix or by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PolicySubnet {
    /// The one with this prefix.
    Cidr(Cidr4),
    /// One of this name, of whatever network.
    Name(Name),
}

impl PolicySubnet {
    /// Whether a subnet of that name and prefix is meant.
    pub fn is(&self, name: Option<&str>, cidr: &str) -> bool {
        match self {
            Self::Cidr(wanted) => wanted.to_string() == cidr,
            Self::Name(wanted) => Some(wanted.as_str()) == name,
        }
    }
}

impl FromStr for PolicySubnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // No name has either of these.
        if text.contains(['/', '.', ':']) {
            return text.parse().map(Self::Cidr).map_err(|error: crate::spec::CidrError| error.to_string());
        }
        let name = Name::new(text).map_err(|error| format!("neither a prefix nor a subnet's name: {error}"));
        name.map(Self::Name)
    }
}

impl TryFrom<String> for PolicySubnet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PolicySubnet> for String {
    fn from(subnet: PolicySubnet) -> Self {
        subnet.to_string()
    }
}

impl fmt::Display for PolicySubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(cidr) => cidr.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl JsonSchema for PolicySubnet {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PolicySubnet".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_or_a_name() {
        let web: PolicySubnet = "web".parse().unwrap();
        assert!(
            web.is(Some("web"), "10.0.1.0/24") && !web.is(Some("db"), "10.0.1.0/24") && !web.is(None, "")
        );
        let prefix: PolicySubnet = "10.0.1.0/24".parse().unwrap();
        assert!(prefix.is(None, "10.0.1.0/24") && !prefix.is(Some("web"), "10.0.2.0/24"));
        for wrong in ["", "web tier", "10.0.1.0", "10.0.1.7/24", "fd00::/64", "-web", "a/b"] {
            assert!(wrong.parse::<PolicySubnet>().is_err(), "{wrong}");
        }
    }
}
