//! `nft -j list ruleset` → other programs' tables (libnftables-json(5)).
//! Whatever is listed is read; what isn't known becomes a question, or is said.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::links::LinkNumbers;
use super::super::rules::only;
use super::action::{Scope, Step, steps};
use super::elements::{Elements, SetKey};
use super::question::Questions;
use super::reading::Reading;

/// Tables, with what their rules ask.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub(super) tables: Vec<Table>,
    pub(super) questions: Questions,
}

/// One table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub family: String,
    pub name: String,
    pub chains: Vec<Chain>,
    names: HashMap<String, usize>,
    devices: HashMap<String, Vec<String>>,
}

/// One chain.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    pub name: String,
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// Where packets enter a chain by themselves.
#[derive(Debug, Clone)]
pub struct Base {
    pub hook: String,
    pub priority: i64,
    /// What reaches its end is dropped.
    pub drops: bool,
    /// For addresses: called for the first packet of a flow alone.
    pub nat: bool,
    /// The devices of an ingress or egress hook, by number; none where all
    /// packets come to a hook.
    pub devices: Option<Vec<u128>>,
    /// Whether a device is one of them, where they aren't known.
    pub on: Option<u32>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    pub handle: Option<u64>,
    pub steps: Vec<Step>,
    /// What of it isn't known.
    pub unknown: Vec<String>,
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(Into::into).collect(),
        _ => Vec::new(),
    }
}

impl Rules {
    /// Reads what nft printed, but for hostctl's own tables.
    pub fn read(listing: &Value, links: &mut LinkNumbers) -> Self {
        let objects =
            listing.get("nftables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let objects: Vec<(&str, &Value)> = objects
            .iter()
            .filter_map(|object| only(object).ok())
            .filter(|(_, body)| {
                let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
                !crate::ownership::is_table(text("family"), text("table"))
            })
            .collect();
        let mut found = Self::default();
        let mut sets: HashMap<SetKey, Elements> = HashMap::new();
        for (kind, body) in &objects {
            let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
            match *kind {
                "chain" => found.chain(body, links),
                "flowtable" => {
                    let devices = texts(body.get("dev"));
                    found.table(text("family"), text("table")).devices.insert(text("name").into(), devices);
                }
                "set" | "map" => {
                    let key = (text("family").into(), text("table").into(), text("name").into());
                    sets.insert(key, Elements::of(body));
                }
                _ => {}
            }
        }
        let changed: HashSet<String> =
            objects.iter().filter(|(kind, _)| *kind == "rule").flat_map(|(_, body)| written(body)).collect();
        let (mut questions, mut conditions) = (std::mem::take(&mut found.questions), 0);
        for (_, body) in objects.iter().filter(|(kind, _)| *kind == "rule") {
            let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
            let statements =
                body.get("expr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let table = found.table(text("family"), text("table"));
            let mut reading = Reading {
                links,
                questions: &mut questions,
                sets: &sets,
                changed: &changed,
                of: (text("family"), text("table")),
                unknown: Vec::new(),
            };
            let scope = Scope { chains: &table.names, devices: &table.devices };
            let steps = steps(statements, &mut reading, &scope, &mut conditions);
            let unknown = reading.unknown;
            let rule = Rule { handle: body.get("handle").and_then(Value::as_u64), steps, unknown };
            let chain = table.names.get(text("chain")).and_then(|index| table.chains.get_mut(*index));
            if let Some(chain) = chain {
                chain.rules.push(rule);
            }
        }
        found.questions = questions;
        found
    }

    fn table(&mut self, family: &str, name: &str) -> &mut Table {
        let index = self.tables.iter().position(|table| table.family == family && table.name == name);
        let index = index.unwrap_or(self.tables.len());
        if index == self.tables.len() {
            self.tables.push(Table { family: family.into(), name: name.into(), ..Table::default() });
        }
        // It is there.
        &mut self.tables[index]
    }

    fn chain(&mut self, body: &Value, links: &mut LinkNumbers) {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let by_device = ["ingress", "egress"].contains(&text("hook"));
        let base = body.get("hook").is_some().then(|| Base {
            hook: text("hook").into(),
            priority: body.get("prio").and_then(Value::as_i64).unwrap_or_default(),
            drops: text("policy") == "drop",
            nat: text("type") == "nat",
            devices: by_device
                .then(|| texts(body.get("dev")))
                .filter(|devices| !devices.is_empty())
                .map(|devices| devices.iter().map(|device| links.number(device).0).collect()),
            on: (by_device && body.get("dev").is_none())
                .then(|| self.questions.once("which devices its hook is at")),
        });
        let table = self.table(text("family"), text("table"));
        table.names.insert(text("name").into(), table.chains.len());
        table.chains.push(Chain { name: text("name").into(), base, rules: Vec::new() });
    }

    /// Whether a packet enters any chain.
    pub(super) fn has_bases(&self) -> bool {
        self.tables.iter().flat_map(|table| &table.chains).any(|chain| chain.base.is_some())
    }

    /// The base chains of `families` at a hook, by table and place, in the order
    /// in which they are called.
    pub(super) fn at(&self, families: &[&str], hook: &str) -> Vec<(usize, usize, &Base)> {
        let mut found = Vec::new();
        for (table, of) in self.tables.iter().enumerate() {
            for (chain, in_it) in of.chains.iter().enumerate() {
                if let Some(base) = &in_it.base
                    && families.contains(&of.family.as_str())
                    && base.hook == hook
                {
                    found.push((table, chain, base));
                }
            }
        }
        found.sort_by_key(|(_, _, base)| base.priority);
        found
    }

    /// How many rules there are, and of which of them what isn't known: by
    /// family, table, chain and number.
    pub fn unknown(&self) -> (usize, Vec<(String, Vec<String>)>) {
        let (mut count, mut found) = (0, Vec::new());
        for table in &self.tables {
            for chain in &table.chains {
                count += chain.rules.len();
                for (number, rule) in (1..).zip(&chain.rules).filter(|(_, rule)| !rule.unknown.is_empty()) {
                    let place = format!("{} {} {} {number}", table.family, table.name, chain.name);
                    found.push((place, rule.unknown.clone()));
                }
            }
        }
        (count, found)
    }
}

/// What a rule writes, as it is read elsewhere.
fn written(rule: &Value) -> Vec<String> {
    let statements = rule.get("expr").and_then(Value::as_array).into_iter().flatten();
    statements.filter_map(|statement| Some(statement.get("mangle")?.get("key")?.to_string())).collect()
}
