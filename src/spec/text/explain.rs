//! Refusals in the words of somebody who writes a host spec.

use std::ops::Range;

use super::decode::Refused;
use super::deserializer::Refusal;
use super::document::{Node, Value};
use super::meant::meant;
use crate::spec::{Cidr4, Cidr6, CidrError, Segment, SpecPath};

/// What is wrong.
pub(in crate::spec) fn message(refused: &Refused) -> String {
    match &refused.refusal {
        Refusal::Mismatch { found, expected } => format!("expected {}, found {found}", type_text(expected)),
        Refusal::Length { found, expected } => {
            let elements = if *found == 1 { "element" } else { "elements" };
            format!("expected {}, found {found} {elements}", type_text(expected))
        }
        Refusal::Variant { found, .. } => format!("unknown word {found:?}"),
        Refusal::UnknownKey { key, .. } => format!("unknown key {key:?}"),
        Refusal::Missing(key) => format!("the key {key:?} is missing"),
        Refusal::Other(message) => message.clone(),
    }
}

/// What would be right, in the file's own syntax.
pub(in crate::spec) fn hint(refused: &Refused, json: bool) -> String {
    match &refused.refusal {
        Refusal::Variant { found, known } | Refusal::UnknownKey { key: found, known } => {
            let is_key = matches!(refused.refusal, Refusal::UnknownKey { .. });
            match meant(found, known) {
                Some(close) => format!("did you mean {close}?"),
                None if is_key && found == "name" => nameless(&refused.path, known),
                None => format!("allowed: {}", list(known)),
            }
        }
        Refusal::Missing(key) => match example(key) {
            Some(example) => format!("add {}", assignment(key, example, json)),
            None => format!("add {key}"),
        },
        Refusal::Mismatch { found, .. } if found == "a date or time" => {
            "nothing in a host spec is a date: text stands between double quotes".into()
        }
        _ => right_value(refused, json),
    }
}

/// Somebody gives a name to what has one already, or needs none.
fn nameless(path: &SpecPath, known: &[&str]) -> String {
    match path.0.as_slice() {
        // In a table of tables, or a subnet of a network's.
        [Segment::Key(group), Segment::Key(name), Segment::Key(_)] => {
            format!("remove it: the name is {name:?}, its key in {group}")
        }
        [_, _, Segment::Key(group), Segment::Key(name), Segment::Key(_)] => {
            format!("remove it: the name is {name:?}, its key in {group}")
        }
        // A policy in a file of its own.
        [Segment::Key(_)] if known.contains(&"ingress") => {
            "remove it: a policy gets its name where it is applied".into()
        }
        _ => format!("remove it: nothing here has a name; allowed: {}", list(known)),
    }
}

/// What the key would rather hold.
fn right_value(refused: &Refused, json: bool) -> String {
    if let Some(network) = refused.text.as_deref().and_then(network_of) {
        return format!("write \"{network}\"");
    }
    let key = refused.path.0.iter().rev().find_map(|segment| match segment {
        Segment::Key(key) => Some(key.as_str()),
        Segment::Index(_) => None,
    });
    let anything = |text: &str| matches!(text.to_lowercase().as_str(), "any" | "all" | "*" | "everywhere");
    match key {
        Some(key @ ("source" | "destination")) if refused.text.as_deref().is_some_and(anything) => {
            return format!("leave {key} out: that is anybody");
        }
        Some("port") if refused.text.as_deref().is_some_and(anything) => {
            return "leave port out: those are all ports".into();
        }
        _ => {}
    }
    // The one key that means two things.
    if refused.path == SpecPath::keys(["host", "tailscale"]) {
        return format!("for example: {}", assignment("tailscale", "{ interface = \"tailscale0\" }", json));
    }
    match key.and_then(|key| Some((key, example(key)?))) {
        // What was refused is no example of what is right.
        Some((key, example)) if refused.text.as_deref() == Some(example.trim_matches('"')) => {
            format!("{key} takes something else here: hostctl schema says what")
        }
        Some((key, example)) => format!("for example: {}", assignment(key, example, json)),
        None if json => format!("write \"{}\": {{ … }}", key.unwrap_or_default()),
        None => format!("write [{}], and its keys on the lines below", refused.path),
    }
}

/// `key = value` as the file would have it.
fn assignment(key: &str, value: &str, json: bool) -> String {
    let line = format!("{key} = {value}");
    if !json {
        return line;
    }
    let table: toml::Table = toml::from_str(&line).unwrap_or_default();
    let value = table.get(key).and_then(|value| serde_json::to_string(value).ok());
    format!("\"{key}\": {}", value.unwrap_or_default())
}

/// The network that an address with a prefix length lies in.
fn network_of(text: &str) -> Option<String> {
    match (text.parse::<Cidr4>(), text.parse::<Cidr6>()) {
        (Err(CidrError::HostBits { network, .. }), _) | (_, Err(CidrError::HostBits { network, .. })) => {
            Some(network.to_string())
        }
        _ => None,
    }
}

/// `a, b or c`.
pub(in crate::spec) fn list(words: &[&str]) -> String {
    match words {
        [] => "nothing".into(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// A type as serde calls it, in the words of TOML.
fn type_text(expected: &str) -> String {
    let text = match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "a map" => "a table",
        "a sequence" => "an array",
        "a boolean" => "true or false",
        "a string" | "a path string" | "path string" => "text",
        "IP address" => "an IP address",
        "IPv4 address" => "an IPv4 address",
        "IPv6 address" => "an IPv6 address",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    };
    text.into()
}

/// A right value of each key, as TOML.
fn example(key: &str) -> Option<&'static str> {
    Some(match key {
        "host" => "{ firewall = \"guests\" }",
        "uplink" => "\"auto\"",
        "allow_input" => "[{ protocol = \"tcp\", port = 22 }]",
        "dns" => "[\"1.1.1.1\", \"8.8.8.8\"]",
        "limits" => "{ flows = 4096 }",
        "new_flows" => "500",
        "connections" => "4096",
        "fragments" => "50",
        "broadcasts" => "1000",
        "interface" => "\"tailscale0\"",
        "protocol" => "\"tcp\"",
        "port" => "22",
        "cidr" => "\"10.1.0.0/24\"",
        "cidr6" => "\"fd00:0:0:1::/64\"",
        "firewall" => "\"full\"",
        "imds" => "\"deny\"",
        "tailscale" | "autostart" | "restart" | "read_only" => "true",
        "type" => "\"public\"",
        "supervisor" => "\"unit\"",
        "between" => "[\"prod\", \"backup\"]",
        "network" => "\"prod\"",
        "subnet" => "\"web\"",
        "address" => "\"10.1.0.2\"",
        "address6" => "\"fd00:0:0:1::2\"",
        "mac" => "\"02:00:00:00:00:01\"",
        "vcpus" => "2",
        "memory" => "\"256M\"",
        "image" => "\"probe\"",
        "kernel" => "\"/boot/vmlinuz\"",
        "initrd" => "\"/boot/initrd\"",
        "disk" => "{ path = \"/srv/disk.qcow2\", format = \"qcow2\" }",
        "volumes" => "[{ path = \"/srv/data.img\", format = \"raw\" }]",
        "path" => "\"/srv/disk.qcow2\"",
        "format" => "\"qcow2\"",
        "arch" => "\"x86_64\"",
        "machine" => "\"q35\"",
        "accel" => "\"auto\"",
        "cmdline" => "\"quiet\"",
        "policy" => "\"web\"",
        "version" => "\"1.0\"",
        "default" => "\"deny\"",
        "ingress" => "[{ port = 443, protocol = \"tcp\", source = \"0.0.0.0/0\" }]",
        "egress" => "[{ destination = \"0.0.0.0/0\" }]",
        "source" | "destination" => "\"10.0.0.0/16\"",
        "action" => "\"allow\"",
        "priority" => "100",
        "description" => "\"HTTP from anywhere\"",
        "namespace" => "\"prod-web\"",
        _ => return None,
    })
}

/// A value that a missing key could have.
pub(in crate::spec) fn sample(key: &str, span: Range<usize>) -> Option<Value> {
    Some(match key {
        "port" => Value::Integer(22),
        "between" => {
            let name = |name: &str| Node { span: span.clone(), value: Value::Text(name.into()) };
            Value::Array(vec![name("a"), name("b")])
        }
        "interface" | "protocol" | "cidr" | "type" | "network" | "path" | "format" => {
            Value::Text(example(key)?.trim_matches('"').into())
        }
        _ => return None,
    })
}
