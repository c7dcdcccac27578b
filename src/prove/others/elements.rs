//! Sets of other programs' tables, as they are listed.

use serde_json::Value;

use super::super::rules::only;

/// A set of a table's.
#[derive(Debug, Clone, Default)]
pub struct Elements {
    pub values: Vec<Value>,
    /// Rules add to it: more may be in it by the time that a packet comes.
    pub grows: bool,
    /// Its elements match only within, or beyond, a limit.
    pub limits: bool,
}

/// Family, table and name.
pub type SetKey = (String, String, String);

/// Statements that say how often something matches.
pub const LIMITS: [&str; 4] = ["limit", "quota", "connlimit", "ct count"];

impl Elements {
    /// Those of a set or map as it is listed.
    pub fn of(body: &Value) -> Self {
        let list = |key: &str| body.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let flags = match body.get("flags") {
            Some(Value::Array(flags)) => flags.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(flag)) => vec![flag.as_str()],
            _ => Vec::new(),
        };
        let mut found = Self { grows: flags.contains(&"dynamic"), ..Self::default() };
        found.limits =
            list("stmt").iter().any(|stated| only(stated).is_ok_and(|(kind, _)| LIMITS.contains(&kind)));
        found.add(list("elem"));
        found
    }

    pub fn add(&mut self, values: &[Value]) {
        for value in values {
            self.limits |= is_limited(value);
            self.values.push(bare(value).clone());
        }
    }
}

/// An element without what goes with it.
pub fn bare(value: &Value) -> &Value {
    value.get("elem").and_then(|element| element.get("val")).unwrap_or(value)
}

fn is_limited(value: &Value) -> bool {
    value.get("elem").is_some_and(|element| LIMITS.iter().any(|limit| element.get(limit).is_some()))
}
