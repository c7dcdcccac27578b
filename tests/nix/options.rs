//! The module's options are the JSON Schema's keys, and documented.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::program::{evaluate, missing, top};

/// The options that aren't keys of the spec.
const OWN: [&str; 9] = [
    "enable",
    "package",
    "settings",
    "checkSpec",
    "vms.<name>.config",
    "vms.<name>.dataVolume",
    "vms.<name>.dataVolume.",
    "vms.<name>.restartIfChanged",
    "vms",
];

fn schema() -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hostctl")).arg("schema").output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `read_only` → `readOnly`.
fn camel(key: &str) -> String {
    let mut parts = key.split('_');
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |name, part| {
        let (initial, rest) = part.split_at(1);
        name + &initial.to_uppercase() + rest
    })
}

/// The options below a node of the schema that stands at `path`.
fn keys(schema: &Value, node: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = node["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        return keys(schema, &schema["$defs"][name], path, found);
    }
    if let Some(alternatives) = node["anyOf"].as_array() {
        let present: Vec<&Value> = alternatives.iter().filter(|one| one["type"] != "null").collect();
        // Of several alternatives the manual shows the type alone.
        if let [one] = present.as_slice() {
            keys(schema, one, path, found);
        }
        return;
    }
    if let Some(properties) = node["properties"].as_object() {
        for (key, property) in properties {
            let at = if path.is_empty() { camel(key) } else { format!("{path}.{}", camel(key)) };
            // The host's keys stand beside `networks`.
            let at = if at == "host" { String::new() } else { at };
            if !at.is_empty() {
                found.insert(at.clone());
            }
            keys(schema, property, &at, found);
        }
    }
    if !node["additionalProperties"].is_boolean() && !node["additionalProperties"].is_null() {
        keys(schema, &node["additionalProperties"], &format!("{path}.<name>"), found);
    }
    if !node["items"].is_null() {
        keys(schema, &node["items"], &format!("{path}.*"), found);
    }
}

fn options() -> Vec<Value> {
    // They are made of it.
    the_schema_that_nix_reads_is_the_programs();
    evaluate("import ./options.nix").unwrap().as_array().unwrap().clone()
}

#[test]
fn the_schema_that_nix_reads_is_the_programs() {
    let file = top().join("nix/lib/host-spec.schema.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        // Whole, since others read it at the same time.
        let new = file.with_extension(format!("{}.new", std::process::id()));
        fs::write(&new, &text).unwrap();
        fs::rename(new, &file).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap();
    assert!(
        kept == text,
        "nix/lib/host-spec.schema.json is out of date: UPDATE_DOCS=1 cargo test --test all nix:: writes it"
    );
}

#[test]
fn every_key_is_an_option_and_every_option_a_key() {
    if missing() {
        return;
    }
    let schema = schema();
    let mut expected = BTreeSet::new();
    keys(&schema, &schema, "", &mut expected);
    assert!(expected.len() > 80, "{expected:?}");
    let found: BTreeSet<String> = options()
        .iter()
        .map(|option| option["name"].as_str().unwrap().trim_start_matches("services.hostctl.").to_string())
        .collect();
    let own =
        |name: &str| OWN.iter().any(|own| name == *own || (own.ends_with('.') && name.starts_with(own)));
    let missing: Vec<_> = expected.difference(&found).collect();
    let surplus: Vec<_> = found.difference(&expected).filter(|name| !own(name)).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "without an option: {missing:?}; without a key: {surplus:?}"
    );
    for name in OWN.iter().filter(|name| !name.ends_with('.')) {
        assert!(found.contains(*name), "{name}");
    }
}

#[test]
fn every_option_is_described() {
    if missing() {
        return;
    }
    for option in options() {
        let description = option["description"].as_str().unwrap_or_default();
        assert!(description.len() > 4, "{option}");
    }
}

#[test]
fn the_options_reference_is_what_the_module_says() {
    if missing() {
        return;
    }
    if std::env::var_os("HOSTCTL_NIXPKGS_LIB").is_some() {
        eprintln!("skipped: nixpkgs' lib has other words for some types");
        return;
    }
    let file = top().join("docs/reference/nixos-options.md");
    let text = reference(&options());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == text,
        "{} is out of date: UPDATE_DOCS=1 cargo test --test all nix:: writes it",
        file.display()
    );
}

const INTRODUCTION: &str = "\
# NixOS options

Every option of `services.hostctl`. This file is generated from the module:
`UPDATE_DOCS=1 cargo test --features testbed --test all nix::` writes it.

- The options are made of the [host spec](host-spec.md)'s JSON Schema: each key is an option of the
  same name in camel case (`read_only` is `readOnly`). The keys of `[host]` stand beside `networks`.
- `null` leaves a key out, so that hostctl's own default holds.
- `<name>` is a name that you choose, `*` an entry of a list.
- What hostctl finds wrong with the whole makes the system's build fail. [How to use it](../nixos.md).
";

fn reference(options: &[Value]) -> String {
    let mut text = INTRODUCTION.to_string();
    for option in options {
        let name = option["name"].as_str().unwrap();
        text.push_str(&format!("\n## `{name}`\n\n"));
        let description = option["description"].as_str().unwrap().trim().replace("{option}", "");
        text.push_str(&format!("{description}\n\n"));
        let kind = option["type"].as_str().unwrap();
        text.push_str(&format!("- type: {kind}\n"));
        match option["default"].as_str() {
            Some(default) => text.push_str(&format!("- default: `{default}`\n")),
            None => text.push_str("- required\n"),
        }
        if let Some(example) = option["example"].as_str() {
            match example.contains('\n') {
                true => text.push_str(&format!("\n```nix\n{}\n```\n", example.trim_end())),
                false => text.push_str(&format!("- example: `{example}`\n")),
            }
        }
    }
    text
}
