//! The host spec's JSON Schema: for editors, for Nix, and for the examples that
//! stand on its keys.

use std::sync::LazyLock;

use serde_json::Value;

use super::{HostSpec, Segment};

/// JSON Schema (draft 2020-12) of a host spec's file.
pub fn json_schema() -> Value {
    schemars::schema_for!(HostSpec).to_value()
}

static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);

/// A right value of the key at `path`, as its type says (`#[schemars(example)]`);
/// none for a table's own name, and for what the schema doesn't know. A policy
/// in a file of its own is meant by a path that begins with one of its keys.
pub(in crate::spec) fn example(path: &[Segment]) -> Option<&'static Value> {
    let whole = &*SCHEMA;
    let of_a_policy =
        matches!(path.first(), Some(Segment::Key(key)) if whole["properties"].get(key).is_none());
    let root = if of_a_policy { &whole["$defs"]["Policy"] } else { whole };
    path.iter().try_fold(root, child)?["examples"].get(0)
}

fn child(node: &'static Value, segment: &Segment) -> Option<&'static Value> {
    forms(node).into_iter().find_map(|form| match segment {
        Segment::Index(_) => form.get("items"),
        Segment::Key(key) => {
            let known = |key: &str| form["properties"].get(key);
            let by_name = || form.get("additionalProperties").filter(|entry| entry.is_object());
            known(key).or_else(|| known(other_word(key)?)).or_else(by_name)
        }
    })
}

/// The node, and all that it may be instead.
fn forms(node: &'static Value) -> Vec<&'static Value> {
    let referred = node["$ref"].as_str().and_then(|path| SCHEMA.pointer(path.strip_prefix('#')?));
    let others = referred.into_iter().chain(node["anyOf"].as_array().into_iter().flatten());
    std::iter::once(node).chain(others.flat_map(forms)).collect()
}

/// The key that serde's alias is another word for: a schema has no aliases.
fn other_word(key: &str) -> Option<&'static str> {
    match key {
        "connections" => Some("flows"),
        "source" | "sources" => Some("from"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A table with every key, named as `path` for what fails. Where a key is a
    /// table too: that one's keys (`deep`), or its example.
    fn filled(path: &str, node: &'static Value, deep: bool) -> Value {
        let table = |node| forms(node).iter().find_map(|form| form["properties"].as_object());
        let entry =
            |key| forms(node).iter().find_map(|form| form.get(key).filter(|entry| table(entry).is_some()));
        match node["examples"].get(0) {
            Some(example) if !deep => example.clone(),
            example => match (table(node), entry("additionalProperties"), entry("items")) {
                (Some(properties), ..) => {
                    let key =
                        |(key, node)| (String::clone(key), filled(&format!("{path}.{key}"), node, deep));
                    properties.iter().map(key).collect()
                }
                (_, Some(entry), _) => json!({ "name": filled(path, entry, deep) }),
                (.., Some(entry)) => json!([filled(path, entry, deep)]),
                _ => example.unwrap_or_else(|| panic!("{path} has no example")).clone(),
            },
        }
    }

    #[test]
    fn every_key_has_an_example_and_each_is_right() {
        for deep in [false, true] {
            let whole = filled("", &SCHEMA, deep);
            assert!(whole["vms"]["name"]["memory"].is_string(), "{whole}");
            let spec: Result<HostSpec, _> = serde_json::from_value(whole.clone());
            assert!(spec.is_ok(), "{}: {whole:#}", spec.unwrap_err());
        }
    }

    #[test]
    fn an_example_is_found_by_its_place() {
        let found = |keys: &[&str]| example(&super::super::SpecPath::keys(keys.iter().copied()).0);
        assert_eq!(found(&["host", "tailscale"]), Some(&json!({ "interface": "tailscale0" })));
        assert_eq!(found(&["networks", "tailscale", "tailscale"]), Some(&json!(true)));
        assert_eq!(found(&["apps", "a", "limits"]), Some(&json!({ "memory": "256M" })));
        assert_eq!(found(&["networks", "a", "limits", "connections"]), Some(&json!(4096)));
        assert_eq!(found(&["policies", "p", "default", "ingress"]), Some(&json!("deny")));
        // A policy in a file of its own; the names of tables.
        assert_eq!(found(&["version"]), Some(&json!("1.0")));
        assert_eq!(found(&["networks", "port"]), None);
        assert_eq!(found(&["networks"]), None);
    }
}
