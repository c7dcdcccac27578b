//! The host spec's reference, from the JSON Schema that the program prints.

use std::process::Command;

use serde_json::Value;

/// The sections: how the table is written in TOML, and its type in the schema.
const SECTIONS: [(&str, &str); 16] = [
    ("[host]", "Host"),
    ("[[host.allow_input]]", "HostPort"),
    ("[host.limits]", "GuestLimits"),
    ("[host.tailscale]", "Tailscale"),
    ("[networks.NAME]", "Network"),
    ("[networks.NAME.limits]", "LimitOverrides"),
    ("[networks.NAME.subnets.NAME]", "Subnet"),
    ("[[peerings]]", "Peering"),
    ("[vms.NAME]", "Vm"),
    ("[vms.NAME.disk]", "Disk"),
    ("[policies.NAME]", "Policy"),
    ("[[policies.NAME.ingress]]", "PolicyRule"),
    ("[policies.NAME.default]", "DefaultEach"),
    ("[apps.NAME]", "App"),
    ("[apps.NAME.webserver]", "AppWebserver"),
    ("[apps.NAME.limits]", "AppLimits"),
];

const INTRODUCTION: &str = "\
# Host spec

Every key of a host spec. This file is generated from `hostctl schema`:
`UPDATE_DOCS=1 cargo test --features testbed --test all docs::` writes it. The same JSON Schema
gives completion in editors.

- A spec is TOML or JSON with the same keys; the file's ending says which. Without a
  file's name on the command line it is `/etc/hostctl/host.toml`.
- Every `*.toml` and `*.json` in `/var/lib/hostctl/host.d` is merged into it. No two
  files may say the same thing: each network, VM, policy and app is in one of them, and so is `[host]`.
  No file has to exist.
- An unknown key is an error, and so is a key that is there twice.
- Names of networks, subnets, VMs, policies and apps have up to 63 letters, digits, and hyphens
  and underscores between them. Two of one kind that differ only in capitals, or in hyphens and
  underscores, are refused: they would be the same host's name. A name that is too long for an interface (`br-…`, `vm-…`: 15 bytes) is
  shortened there with a hash; the interface has the full one as its altname.
- `hostctl check` says what is wrong with a spec, where, and what would be right.
";

fn schema() -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hostctl")).arg("schema").output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `docs/reference/host-spec.md`.
pub fn reference() -> String {
    let schema = schema();
    let types = schema["$defs"].as_object().unwrap();
    let mut text = INTRODUCTION.to_string();
    let mut shown = Vec::new();
    for (heading, name) in SECTIONS.iter() {
        let kind = &types[*name];
        let about = sentence(kind);
        text.push_str(&format!(
            "\n## `{heading}`\n\n{about}\n\n| key | type | default | example | meaning |\n|---|---|---|---|---|\n"
        ));
        let required: Vec<&str> =
            kind["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, property) in kind["properties"].as_object().unwrap() {
            let default = match (&property["default"], required.contains(&key.as_str())) {
                (_, true) => "required".to_string(),
                (Value::Null, false) => "–".into(),
                (default, false) => format!("`{}`", inline(default)),
            };
            let (kind, words) = type_of(property, types);
            let meaning = format!("{}{words}", sentence(property)).replace('|', "\\|");
            let example = match property["examples"].get(0) {
                Some(example) => format!("`{}`", inline(example)),
                None => "–".into(),
            };
            text.push_str(&format!("| `{key}` | {kind} | {default} | {example} | {meaning} |\n"));
        }
        shown.push(*name);
    }
    // A type that no section shows would be one that nobody finds.
    for (name, kind) in types {
        assert!(shown.contains(&name.as_str()) || kind["properties"].is_null(), "{name} has no section");
    }
    text
}

fn sentence(value: &Value) -> String {
    value["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value in TOML's inline notation.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// A type's name, and what its words mean where it has a fixed choice.
fn type_of(property: &Value, types: &serde_json::Map<String, Value>) -> (String, String) {
    if let Some(inner) = property["anyOf"].as_array() {
        let named: Vec<&Value> = inner.iter().filter(|kind| kind["type"] != "null").collect();
        return match named.as_slice() {
            [one, list] if list["type"] == "array" => {
                (format!("{} or list of them", type_of(one, types).0), String::new())
            }
            named => type_of(named[0], types),
        };
    }
    if let Some(name) = property["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return reference_to(name, &types[name]);
    }
    let kind = match &property["type"] {
        Value::Array(kinds) => kinds[0].as_str().unwrap(),
        kind => kind.as_str().unwrap(),
    };
    let text = match (kind, property["format"].as_str()) {
        ("array", _) => format!("list of {}", plural(&type_of(&property["items"], types).0)),
        ("object", _) => "tables by name".into(),
        ("string", Some("ip")) => "address".into(),
        ("string", Some("ipv4")) => "IPv4 address".into(),
        ("string", Some("ipv6")) => "IPv6 address".into(),
        ("integer", _) => "number".into(),
        (other, _) => other.into(),
    };
    (text, String::new())
}

fn reference_to(name: &str, kind: &Value) -> (String, String) {
    if let Some(choices) = kind["oneOf"].as_array() {
        let choices: Vec<(&str, String)> =
            choices.iter().map(|choice| (choice["const"].as_str().unwrap(), sentence(choice))).collect();
        let names: Vec<String> = choices.iter().map(|(word, _)| format!("`\"{word}\"`")).collect();
        let words = choices.iter().map(|(word, meaning)| format!("<br>`{word}`: {meaning}"));
        return (names.join(", "), words.collect());
    }
    match name {
        "Nat" => ("boolean, string or list of strings".into(), String::new()),
        "Uplink" => ("string or list of strings".into(), String::new()),
        "PolicyDefault" => ("`\"allow\"`, `\"deny\"` or table".into(), String::new()),
        "MarkMask" => ("number, `\"0x…\"`".into(), String::new()),
        "PortRange" => ("number, `\"FIRST-LAST\"`".into(), String::new()),
        "Peer" => ("string".into(), String::new()),
        "Offload" => ("`\"auto\"` or boolean".into(), String::new()),
        _ => ("table".into(), String::new()),
    }
}

fn plural(noun: &str) -> String {
    if noun.ends_with('s') { format!("{noun}es") } else { format!("{noun}s") }
}
