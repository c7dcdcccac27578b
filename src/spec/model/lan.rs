//! What of the private addresses behind the uplink a network's guests reach.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::Prefix;

/// What a network's guests reach beside the public internet: `false`, `true`, a
/// prefix, or a list of prefixes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "LanText", into = "LanText")]
pub enum Lan {
    /// Nothing.
    #[default]
    Off,
    /// All that the host reaches by its uplinks.
    On,
    /// These prefixes.
    Prefixes(Vec<Prefix>),
}

/// How a [`Lan`] is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "lan is true, false, a prefix, or a list of prefixes")]
enum LanText {
    /// `true` or `false`.
    Switch(bool),
    /// A prefix.
    One(String),
    /// Prefixes.
    Many(Vec<String>),
}

impl TryFrom<LanText> for Lan {
    type Error = String;

    fn try_from(text: LanText) -> Result<Self, String> {
        let prefixes = match text {
            LanText::Switch(true) => return Ok(Self::On),
            LanText::Switch(false) => return Ok(Self::Off),
            LanText::One(prefix) => vec![prefix],
            LanText::Many(prefixes) if prefixes.is_empty() => {
                return Err("an empty list is written lan = false".into());
            }
            LanText::Many(prefixes) => prefixes,
        };
        let prefixes: Result<Vec<Prefix>, _> = prefixes.into_iter().map(Prefix::try_from).collect();
        prefixes.map(Self::Prefixes).map_err(|error| error.to_string())
    }
}

impl From<Lan> for LanText {
    fn from(lan: Lan) -> Self {
        match lan {
            Lan::On => Self::Switch(true),
            Lan::Off => Self::Switch(false),
            Lan::Prefixes(prefixes) => match <[Prefix; 1]>::try_from(prefixes) {
                Ok([prefix]) => Self::One(prefix.into()),
                Err(prefixes) => Self::Many(prefixes.into_iter().map(String::from).collect()),
            },
        }
    }
}
