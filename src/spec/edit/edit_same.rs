//! Whether what is there is what is asked for, and where it isn't.

use std::fmt::Display;

use serde_json::{Value, to_value};

use crate::spec::{App, Network, Subnet};

fn compare<T: PartialEq + ToString>(
    differs: &mut Vec<String>,
    key: &str,
    found: Option<&T>,
    asked: Option<&T>,
) {
    let text = |value: Option<&T>| value.map_or_else(|| "none".into(), ToString::to_string);
    if found != asked {
        differs.push(differs_by(key, text(found), text(asked)));
    }
}

fn differs_by(key: &str, found: impl Display, asked: impl Display) -> String {
    format!("its {key} is {found}, not {asked}")
}

/// Of what `vpc create` says; what came later (subnets, a way out, a policy)
/// is no difference.
pub(in crate::spec) fn network(found: &Network, asked: &Network) -> Vec<String> {
    let mut differs = Vec::new();
    compare(&mut differs, "cidr", Some(&found.cidr), Some(&asked.cidr));
    compare(&mut differs, "cidr6", found.cidr6.as_ref(), asked.cidr6.as_ref());
    differs
}

/// Of all but the policy.
pub(in crate::spec) fn subnet(found: &Subnet, asked: &Subnet) -> Vec<String> {
    let mut differs = Vec::new();
    compare(&mut differs, "cidr", Some(&found.cidr), Some(&asked.cidr));
    compare(&mut differs, "cidr6", found.cidr6.as_ref(), asked.cidr6.as_ref());
    if found.kind != asked.kind {
        differs.push(differs_by("type", word(&found.kind), word(&asked.kind)));
    }
    if found.namespace != asked.namespace {
        differs.push("it has no namespace".into());
    }
    compare(&mut differs, "address", found.address.as_ref(), asked.address.as_ref());
    compare(&mut differs, "address6", found.address6.as_ref(), asked.address6.as_ref());
    differs
}

/// The keys that differ, without their values: a command line or an
/// environment may hold what isn't for everybody.
pub(in crate::spec) fn app(found: &App, asked: &App) -> Vec<String> {
    if found == asked {
        return Vec::new();
    }
    let (Ok(Value::Object(found)), Ok(Value::Object(asked))) = (to_value(found), to_value(asked)) else {
        return vec!["it differs".into()];
    };
    let keys: std::collections::BTreeSet<&String> = found.keys().chain(asked.keys()).collect();
    let differing = keys.into_iter().filter(|key| found.get(*key) != asked.get(*key));
    differing.map(|key| format!("its {key} is another")).collect()
}

fn word(kind: &impl serde::Serialize) -> String {
    to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
