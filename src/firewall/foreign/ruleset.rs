//! `nft -j list ruleset` → the chains and sets of other programs' tables
//! (libnftables-json(5)).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::firewall::live::listing::UnexpectedListing;
use crate::firewall::live::rule_text::only;
use crate::ownership;

use super::legacy::Unjudged;

/// Where an object is: its family, table and name.
pub(super) type Key = (String, String, String);

/// The tables that aren't hostctl's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreign {
    pub(super) chains: BTreeMap<Key, Chain>,
    /// The elements of named sets and maps.
    pub(super) sets: BTreeMap<Key, Vec<Value>>,
    /// The devices of flowtables.
    pub(super) flowtables: BTreeMap<Key, Vec<String>>,
    /// Tables with flags. What they are isn't read from here: nft 1.0.6 prints
    /// other memory's content.
    pub(super) flagged: Vec<(String, String)>,
    /// Tables whose content nft can't list.
    pub(super) unreadable: Vec<(String, String)>,
    /// What isn't known of iptables-legacy's tables.
    pub(super) legacy_unjudged: Vec<Unjudged>,
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Chain {
    /// Where packets enter it, where they do by themselves.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Base {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    pub hook: String,
    pub priority: i64,
    /// Whether what reaches its end is dropped.
    pub drops: bool,
    /// The devices of an ingress or egress hook.
    pub devices: Vec<String>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub handle: Option<u64>,
    pub statements: Vec<Value>,
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(Into::into).collect(),
        _ => Vec::new(),
    }
}

impl Foreign {
    /// Adds what nft printed, but for hostctl's own tables.
    ///
    /// # Errors
    /// Where the text isn't nft's JSON.
    pub fn add(&mut self, text: &str) -> Result<(), UnexpectedListing> {
        let parsed: Value =
            serde_json::from_str(text).map_err(|error| UnexpectedListing(error.to_string()))?;
        let Some(Value::Array(objects)) = parsed.get("nftables") else {
            return Err(UnexpectedListing("no \"nftables\" array".into()));
        };
        for (kind, body) in objects.iter().filter_map(only) {
            let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
            let (family, table) = (text("family"), text("table"));
            let table = if kind == "table" { text("name") } else { table };
            if ownership::is_table(&family, &table) {
                continue;
            }
            if kind == "table" && body.get("flags").is_some() {
                self.flagged.push((family.clone(), text("name")));
            }
            let key = |name: &str| (family.clone(), table.clone(), text(name));
            match kind {
                "chain" => {
                    let base = body.get("hook").is_some().then(|| Base {
                        kind: text("type"),
                        hook: text("hook"),
                        priority: body.get("prio").and_then(Value::as_i64).unwrap_or_default(),
                        drops: text("policy") == "drop",
                        devices: texts(body.get("dev")),
                    });
                    self.chains.entry(key("name")).or_default().base = base;
                }
                "rule" => {
                    let statements = body.get("expr").and_then(Value::as_array).cloned().unwrap_or_default();
                    let handle = body.get("handle").and_then(Value::as_u64);
                    self.chains.entry(key("chain")).or_default().rules.push(Rule { handle, statements });
                }
                "set" | "map" => {
                    let elements = body.get("elem").and_then(Value::as_array).cloned().unwrap_or_default();
                    self.sets.insert(key("name"), elements);
                }
                "flowtable" => _ = self.flowtables.insert(key("name"), texts(body.get("dev"))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Leaves out the tables with flags that `dormant` says sleep.
    pub fn forget_dormant(&mut self, dormant: impl Fn(&str, &str) -> bool) {
        for (family, table) in std::mem::take(&mut self.flagged) {
            if dormant(&family, &table) {
                self.chains.retain(|(of, within, _), _| (of, within) != (&family, &table));
            }
        }
    }

    /// Adds a table whose content nft can't list.
    pub fn add_unreadable(&mut self, family: &str, table: &str) {
        self.unreadable.push((family.into(), table.into()));
    }

    /// The base chains of `families` at `hook`, in the order of their
    /// priorities.
    pub(super) fn at<'a>(&'a self, families: &[&str], hook: &str) -> Vec<(&'a Key, &'a Chain, &'a Base)> {
        let mut chains: Vec<_> = self
            .chains
            .iter()
            .filter(|((family, _, _), _)| families.contains(&family.as_str()))
            .filter_map(|(key, chain)| Some((key, chain, chain.base.as_ref()?)))
            .filter(|(_, _, base)| base.hook == hook)
            .collect();
        chains.sort_by_key(|(_, _, base)| base.priority);
        chains
    }

    /// Whether a table has a chain of that name.
    pub(super) fn has(&self, family: &str, table: &str, chain: &str) -> bool {
        self.chains.contains_key(&(family.into(), table.into(), chain.into()))
    }
}
