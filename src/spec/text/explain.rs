//! Refusals in the words of somebody who writes a host spec.

use serde_json::Value as Json;

use super::decode::Refused;
use super::deserializer::Refusal;
use super::meant::meant;
use crate::spec::schema::example;
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
        Refusal::Missing(key) => match example(&refused.path.clone().key(key).0) {
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
    let last = refused.path.0.iter().rposition(|segment| matches!(segment, Segment::Key(_)));
    let to_key = last.map_or(&[][..], |last| &refused.path.0[..=last]);
    let key = match to_key.last() {
        Some(Segment::Key(key)) => Some(key.as_str()),
        _ => None,
    };
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
    match key.and_then(|key| Some((key, example(to_key)?))) {
        // What was refused is no example of what is right.
        Some((key, example)) if refused.text.is_some() && refused.text.as_deref() == example.as_str() => {
            format!("{key} takes something else here: hostctl schema says what")
        }
        Some((key, example)) => format!("for example: {}", assignment(key, example, json)),
        None if json => format!("write \"{}\": {{ … }}", key.unwrap_or_default()),
        None => format!("write [{}], and its keys on the lines below", refused.path),
    }
}

/// `key = value` as the file would have it.
fn assignment(key: &str, value: &Json, json: bool) -> String {
    if json { format!("\"{key}\": {value}") } else { format!("{key} = {}", inline(value)) }
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

/// A value in TOML's inline notation.
fn inline(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Json::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{key} = {}", inline(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
