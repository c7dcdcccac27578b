//! `nft -j list ruleset` → tables (libnftables-json(5)).

use serde_json::Value;

use super::Unknown;
use super::evaluate::Hook;
use super::expression::only;
use super::set::Sets;
use super::statement::{Chains, Statement};

/// Every table of a listing.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    tables: Vec<Table>,
    /// The base chains: table and chain, in the order of their priorities.
    base: Vec<(usize, usize)>,
}

/// One table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    family: String,
    name: String,
    pub chains: Vec<Chain>,
    names: Chains,
    pub sets: Sets,
}

/// One chain.
#[derive(Debug, Clone)]
pub struct Chain {
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// Where a base chain is called, and what becomes of what no rule decides.
#[derive(Debug, Clone)]
pub struct Base {
    hook: String,
    pub priority: i64,
    pub drops: bool,
    pub nat: bool,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its place in the listing.
    pub place: usize,
    pub statements: Vec<Statement>,
}

impl Tables {
    /// Reads what nft printed.
    ///
    /// # Errors
    /// Names the first thing that the interpreter doesn't know.
    pub fn parse(text: &str) -> Result<Self, Unknown> {
        let parsed: Value = serde_json::from_str(text).map_err(|error| Unknown(error.to_string()))?;
        let objects = parsed.get("nftables").and_then(Value::as_array);
        Self::read(objects.ok_or_else(|| Unknown("a listing without \"nftables\"".into()))?)
    }

    /// As [`Tables::parse`], of the list itself. What a rule or an element of
    /// a map leads to may be listed behind it: chains come first, then sets.
    pub fn read(objects: &[Value]) -> Result<Self, Unknown> {
        let mut tables = Self::default();
        for step in [&["metainfo", "table", "chain"][..], &["set", "map"], &["rule"]] {
            for (place, object) in objects.iter().enumerate() {
                let (kind, body) = only(object)?;
                if step.contains(&kind) {
                    tables.add(kind, body, place)?;
                } else if !["metainfo", "table", "chain", "set", "map", "rule"].contains(&kind) {
                    return Err(Unknown(object.to_string()));
                }
            }
        }
        let mut base = Vec::new();
        for (t, table) in tables.tables.iter().enumerate() {
            let bases = table.chains.iter().enumerate();
            base.extend(bases.filter_map(|(c, chain)| Some((chain.base.as_ref()?.priority, t, c))));
        }
        base.sort_unstable();
        tables.base = base.into_iter().map(|(_, table, chain)| (table, chain)).collect();
        Ok(tables)
    }

    fn add(&mut self, kind: &str, body: &Value, place: usize) -> Result<(), Unknown> {
        let unknown = || Unknown(format!("{kind} {body}"));
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        if kind == "metainfo" {
            return Ok(());
        }
        let family = text("family").ok_or_else(unknown)?;
        let name = text(if kind == "table" { "name" } else { "table" }).ok_or_else(unknown)?;
        if kind == "table" {
            known(body, &["family", "name", "handle"])?;
            self.tables.push(Table { family: family.into(), name: name.into(), ..Table::default() });
            return Ok(());
        }
        let table = self.tables.iter_mut().find(|table| table.family == family && table.name == name);
        let table = table.ok_or_else(unknown)?;
        match kind {
            "chain" => {
                let name = text("name").ok_or_else(unknown)?;
                table.names.insert(name.into(), table.chains.len());
                table.chains.push(Chain { base: base(body)?, rules: Vec::new() });
            }
            "set" | "map" => table.sets.add(kind, body, &table.names, place)?,
            _ => {
                known(body, &["family", "table", "chain", "handle", "comment", "expr"])?;
                let statements = body.get("expr").and_then(Value::as_array).ok_or_else(unknown)?;
                let statements: Result<Vec<_>, _> = statements
                    .iter()
                    .map(|statement| Statement::parse(statement, &table.sets, &table.names))
                    .collect();
                let statements = statements?;
                let acts = |s: &Statement| matches!(s, Statement::Act(_) | Statement::Map(..));
                let limited = statements.iter().any(|s| matches!(s, Statement::Limit));
                // Nobody can say what a rule does that acts now and then, or
                // that goes on after it acted.
                let last = statements.len().saturating_sub(1);
                if statements.iter().enumerate().any(|(index, s)| acts(s) && (limited || index != last)) {
                    return Err(unknown());
                }
                let chain = text("chain").and_then(|chain| table.names.get(chain));
                let chain = chain.and_then(|index| table.chains.get_mut(*index)).ok_or_else(unknown)?;
                chain.rules.push(Rule { place, statements });
            }
        }
        Ok(())
    }

    pub(super) fn at(&self, hook: Hook) -> impl Iterator<Item = (&Table, &Chain, &Base)> {
        let chains = self.base.iter().filter_map(|(table, chain)| {
            let table = self.tables.get(*table)?;
            let chain = table.chains.get(*chain)?;
            Some((table, chain, chain.base.as_ref()?))
        });
        chains.filter(move |(table, _, base)| table.family == hook.family && base.hook == hook.hook)
    }
}

fn base(body: &Value) -> Result<Option<Base>, Unknown> {
    let unknown = || Unknown(format!("chain {body}"));
    if body.get("hook").is_none() {
        known(body, &["family", "table", "name", "handle"])?;
        return Ok(None);
    }
    known(body, &["family", "table", "name", "handle", "type", "hook", "prio", "policy"])?;
    let text = |key: &str| body.get(key).and_then(Value::as_str).ok_or_else(unknown);
    Ok(Some(Base {
        hook: text("hook")?.into(),
        priority: body.get("prio").and_then(Value::as_i64).ok_or_else(unknown)?,
        drops: match text("policy")? {
            "accept" => false,
            "drop" => true,
            _ => return Err(unknown()),
        },
        nat: match text("type")? {
            "filter" => false,
            "nat" => true,
            _ => return Err(unknown()),
        },
    }))
}

fn known(body: &Value, keys: &[&str]) -> Result<(), Unknown> {
    let object = body.as_object().ok_or_else(|| Unknown(body.to_string()))?;
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(Unknown(format!("{key} of {body}"))),
        None => Ok(()),
    }
}
