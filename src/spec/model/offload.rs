//! Whether a guest's frames carry a virtio header.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Whether a guest leaves checksums and the cutting into segments to the host:
/// `"auto"`, `true`, or `false`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OffloadText", into = "OffloadText")]
pub enum Offload {
    /// Where the kernel takes the guard that judges what the guest asks for.
    #[default]
    Auto,
    /// Also without a guard: for guests that are trusted.
    On,
    /// Never.
    Off,
}

impl Offload {
    /// Whether a guest may have a header where there is a guard, or none.
    pub const fn is_on(self, guard: bool) -> bool {
        match self {
            Self::Auto => guard,
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// How an [`Offload`] is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "offload is \"auto\", true or false")]
enum OffloadText {
    /// `true` or `false`.
    Switch(bool),
    /// `"auto"`.
    Word(String),
}

impl TryFrom<OffloadText> for Offload {
    type Error = String;

    fn try_from(text: OffloadText) -> Result<Self, String> {
        match text {
            OffloadText::Switch(true) => Ok(Self::On),
            OffloadText::Switch(false) => Ok(Self::Off),
            OffloadText::Word(word) if word == "auto" => Ok(Self::Auto),
            OffloadText::Word(word) => Err(format!("{word:?} is none of \"auto\", true and false")),
        }
    }
}

impl From<Offload> for OffloadText {
    fn from(offload: Offload) -> Self {
        match offload {
            Offload::Auto => Self::Word("auto".into()),
            Offload::On => Self::Switch(true),
            Offload::Off => Self::Switch(false),
        }
    }
}

impl std::fmt::Display for Offload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::On => "true",
            Self::Off => "false",
        })
    }
}

impl JsonSchema for Offload {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Offload".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Whether a guest leaves checksums and segments to the host: `\"auto\"`, where the kernel \
                            takes the guard that judges what the guest asks for; `true`, also without one: for \
                            guests that are trusted; `false`, never.",
            "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": "^auto$" }]
        })
    }
}
