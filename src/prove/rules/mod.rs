//! nftables' rules, as `nft -j list ruleset` shows them, and what becomes of
//! all packets that they are asked about.

pub mod expression;
mod hooks;
mod listing;
mod meaning;
pub mod run;
mod statement;
pub mod words;

use serde_json::Value;

pub use listing::{Table, Tables};
pub use meaning::Meaning;
pub use run::DROP;
pub use statement::{Set, Verdict};

/// What the prover doesn't know: whatever it means, nothing is said of rules
/// that have it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the prover doesn't know {0}")]
pub struct Unknown(pub String);

/// The key and value of an object that has just one.
pub fn only(value: &Value) -> Result<(&str, &Value), Unknown> {
    let mut entries = value.as_object().into_iter().flatten();
    match (entries.next(), entries.next()) {
        (Some((key, body)), None) => Ok((key, body)),
        _ => Err(Unknown(value.to_string())),
    }
}

/// An object's values, where it has exactly these keys.
pub fn exactly<'v, const N: usize>(value: &'v Value, keys: [&str; N]) -> Result<[&'v Value; N], Unknown> {
    let unknown = || Unknown(value.to_string());
    let object = value.as_object().filter(|object| object.len() == N).ok_or_else(unknown)?;
    let mut found = [value; N];
    for (place, key) in found.iter_mut().zip(keys) {
        *place = object.get(key).ok_or_else(unknown)?;
    }
    Ok(found)
}
