//! `nft -j list ruleset` → other programs' tables (libnftables-json(5)).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::firewall::live::listing::UnexpectedListing;
use crate::firewall::live::rule_text::{self, only};
use crate::ownership;

use super::legacy::Unjudged;

/// Where an object is: its family, table and name.
pub(super) type Key = (String, String, String);

/// The tables that aren't hostctl's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreign {
    pub(super) chains: BTreeMap<Key, Chain>,
    /// Sets, maps, flowtables and whatever else there is, by kind.
    pub(super) others: Vec<(String, Value)>,
    /// Tables with flags. What they are isn't read from here: nft 1.0.6 prints
    /// other memory's content.
    pub(super) flagged: Vec<(String, String)>,
    unreadable: Vec<(String, String)>,
    pub(super) unjudged: Vec<Unjudged>,
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Chain {
    /// What nft says of it, besides its rules.
    pub body: Value,
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub handle: Option<u64>,
    pub statements: Vec<Value>,
}

/// A field's text.
pub(super) fn text<'v>(body: &'v Value, name: &str) -> &'v str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Takes out what changes with every packet: what was counted, and how long an
/// element stays.
fn without_counts(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("expires");
            if let Some(counter) = fields.get_mut("counter").filter(|counter| counter.is_object()) {
                *counter = Value::Null;
            }
            fields.values_mut().for_each(without_counts);
        }
        Value::Array(values) => values.iter_mut().for_each(without_counts),
        _ => {}
    }
}

impl Foreign {
    /// Adds what nft printed, but for hostctl's own tables.
    ///
    /// # Errors
    /// Where the text isn't nft's JSON.
    pub fn add(&mut self, listing: &str) -> Result<(), UnexpectedListing> {
        let parsed: Value =
            serde_json::from_str(listing).map_err(|error| UnexpectedListing(error.to_string()))?;
        let Some(Value::Array(objects)) = parsed.get("nftables") else {
            return Err(UnexpectedListing("no \"nftables\" array".into()));
        };
        let mut objects = objects.clone();
        objects.iter_mut().for_each(without_counts);
        for (kind, body) in objects.iter().filter_map(only) {
            let (family, table) = (text(body, "family"), text(body, "table"));
            let table = if kind == "table" { text(body, "name") } else { table };
            if ownership::is_table(family, table) {
                continue;
            }
            let key = |name: &str| (family.to_string(), table.to_string(), text(body, name).to_string());
            match kind {
                "table" if body.get("flags").is_some() => self.flagged.push((family.into(), table.into())),
                "table" | "metainfo" => {}
                "chain" => self.chains.entry(key("name")).or_default().body = body.clone(),
                "rule" => {
                    let statements = body.get("expr").and_then(Value::as_array).cloned().unwrap_or_default();
                    let handle = body.get("handle").and_then(Value::as_u64);
                    self.chains.entry(key("chain")).or_default().rules.push(Rule { handle, statements });
                }
                _ => self.others.push((kind.into(), body.clone())),
            }
        }
        Ok(())
    }

    /// Leaves out the tables with flags that `dormant` says sleep.
    pub fn forget_dormant(&mut self, dormant: impl Fn(&str, &str) -> bool) {
        for (family, table) in std::mem::take(&mut self.flagged) {
            if dormant(&family, &table) {
                self.chains.retain(|(of, within, _), _| (of, within) != (&family, &table));
                let within = |body: &Value| (text(body, "family"), text(body, "table")) == (&family, &table);
                self.others.retain(|(_, body)| !within(body));
            }
        }
    }

    /// The tables with base chains of whose devices nft's JSON says nothing (1.0.6
    /// doesn't), by family and name.
    pub fn without_devices(&self) -> BTreeSet<(String, String)> {
        let chains = self.chains.iter().filter(|(_, chain)| {
            ["ingress", "egress"].contains(&text(&chain.body, "hook")) && chain.body.get("dev").is_none()
        });
        chains.map(|((family, table, _), _)| (family.clone(), table.clone())).collect()
    }

    /// Takes them from what `nft list table` printed.
    pub fn add_devices(&mut self, family: &str, table: &str, listing: &str) {
        let mut chain = "";
        for line in listing.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {")) {
                chain = name;
            }
            let Some(rest) = line.strip_prefix("type filter hook ") else { continue };
            let Some((_, devices)) = rest.split_once(" device") else { continue };
            let devices = devices.split_once(" priority").map_or(devices, |(devices, _)| devices);
            let devices: Vec<&str> = devices
                .split(|letter: char| letter.is_whitespace() || "={},\"".contains(letter))
                .filter(|word| !word.is_empty() && *word != "s")
                .collect();
            let key = (family.to_string(), table.to_string(), chain.to_string());
            if let Some(Value::Object(body)) = self.chains.get_mut(&key).map(|chain| &mut chain.body) {
                body.insert("dev".into(), json!(devices));
            }
        }
    }

    /// Adds a table whose content nft can't list.
    pub fn add_unreadable(&mut self, family: &str, table: &str) {
        self.unreadable.push((family.into(), table.into()));
    }

    /// Tables whose content nft can't list, by family and name.
    pub fn unreadable(&self) -> &[(String, String)] {
        &self.unreadable
    }

    /// What isn't known of iptables-legacy's tables.
    pub fn unjudged(&self) -> &[Unjudged] {
        &self.unjudged
    }

    /// All of it as nft lists it, with what was put into its words.
    pub fn listing(&self) -> Value {
        let others = self.others.iter().map(|(kind, body)| json!({ kind: body }));
        let chains = self.chains.iter().filter(|(_, chain)| chain.body.is_object());
        let chains = chains.map(|(_, chain)| json!({ "chain": chain.body }));
        let rules = self.chains.iter().flat_map(|((family, table, chain), content)| {
            content.rules.iter().map(move |Rule { handle, statements }| {
                json!({"rule": {
                    "family": family, "table": table, "chain": chain, "handle": handle, "expr": statements,
                }})
            })
        });
        json!({ "nftables": others.chain(chains).chain(rules).collect::<Vec<_>>() })
    }

    /// A rule in words, by its place in its chain, from 0.
    pub fn rule_text(&self, family: &str, table: &str, chain: &str, index: usize) -> Option<String> {
        let chain = self.chains.get(&(family.into(), table.into(), chain.into()))?;
        chain.rules.get(index).map(|rule| rule_text::rule(&rule.statements))
    }

    /// Whether a table has a chain of that name.
    pub fn has(&self, family: &str, table: &str, chain: &str) -> bool {
        self.chains.contains_key(&(family.into(), table.into(), chain.into()))
    }

    /// The names of all chains of tables called so.
    pub fn chains_of<'f>(&'f self, table: &'f str) -> impl Iterator<Item = &'f str> {
        self.chains.keys().filter(move |(_, of, _)| of == table).map(|(_, _, chain)| chain.as_str())
    }
}
