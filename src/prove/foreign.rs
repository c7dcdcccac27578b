//! Whose tables a listing has.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ownership::TABLE;

/// What is the listing's alone, and no part of what a table does.
const ASIDE: [&str; 2] = ["handle", "index"];

/// Other programs' tables, by family and name, each with what is in it.
pub fn foreign(listing: &Value) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (kind, body) in objects(listing) {
        let Some(name) = table(kind, body).filter(|name| *name != TABLE) else { continue };
        let family = body.get("family").and_then(Value::as_str).unwrap_or_default();
        let mut body = body.clone();
        without_state(&mut body);
        found.entry(format!("{family} {name}")).or_default().push(serde_json::json!({ kind: body }));
    }
    found
}

/// What is in hostctl's table of a family.
pub fn own(listing: &Value, family: &str) -> Vec<Value> {
    let objects = objects(listing).filter(|(kind, body)| {
        table(kind, body) == Some(TABLE) && body.get("family").and_then(Value::as_str) == Some(family)
    });
    let objects = objects.map(|(kind, body)| {
        let mut body = body.clone();
        without_state(&mut body);
        serde_json::json!({ kind: body })
    });
    objects.collect()
}

/// Whether a listing has a table of hostctl's.
pub fn has_own(listing: &Value) -> bool {
    objects(listing).any(|(kind, body)| kind == "table" && table(kind, body) == Some(TABLE))
}

fn objects(listing: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let objects = listing.get("nftables").and_then(Value::as_array).into_iter().flatten();
    objects.filter_map(Value::as_object).flatten().map(|(kind, body)| (kind.as_str(), body))
}

/// The table that something is, or is in.
fn table<'v>(kind: &str, body: &'v Value) -> Option<&'v str> {
    body.get(if kind == "table" { "name" } else { "table" })?.as_str()
}

/// Takes out handles, and what counters have counted.
fn without_state(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !ASIDE.contains(&key.as_str()));
            if let Some(counter) = fields.get_mut("counter").filter(|counter| counter.is_object()) {
                *counter = Value::Null;
            }
            fields.values_mut().for_each(without_state);
        }
        Value::Array(values) => values.iter_mut().for_each(without_state),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn other_programs_tables_are_told_apart_from_hostctls() {
        let listing = |packets: u64, verdict: &str| {
            json!({ "nftables": [
                { "metainfo": { "version": "1.1.3" } },
                { "table": { "family": "inet", "name": "hostctl", "handle": 1 } },
                { "table": { "family": "inet", "name": "filter", "handle": packets } },
                { "rule": { "family": "inet", "table": "filter", "chain": "input", "handle": packets, "expr": [
                    { "counter": { "packets": packets, "bytes": 7 } }, { verdict: null },
                ] } },
            ] })
        };
        let (old, new) = (foreign(&listing(1, "accept")), foreign(&listing(2, "accept")));
        assert_eq!(old.keys().collect::<Vec<_>>(), ["inet filter"]);
        assert_eq!(old, new, "counters and handles");
        assert_ne!(old, foreign(&listing(1, "drop")));
        assert!(has_own(&listing(1, "drop")) && !has_own(&json!({ "nftables": [] })));
    }
}
