//! The host spec's JSON Schema, for editors and for Nix.

use super::HostSpec;

/// JSON Schema (draft 2020-12) of a host spec's file.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(HostSpec).to_value()
}
