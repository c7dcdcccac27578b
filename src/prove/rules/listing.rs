//! `nft -j list ruleset` → tables (libnftables-json(5)).

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::ownership::GUARDED;
use crate::reach::subject::{Field, Kind};

use super::super::grain::Starts;
use super::super::header::{Boxes, Header};
use super::super::links::LinkNumbers;
use super::expression::{Left, Read};
use super::hooks::{self, Asked};
use super::statement::{Match, Right, Scope, Set, Statement, Verdict};
use super::{Unknown, only};

/// The tables of a listing.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub family: String,
    pub name: String,
    pub chains: Vec<Chain>,
    pub sets: Vec<Set>,
    names: HashMap<String, usize>,
    limits: u32,
    /// What rules hold fields against: each set once for the same fields.
    asks: Vec<(Vec<Read>, Right)>,
}

/// One chain.
#[derive(Debug, Clone)]
pub struct Chain {
    pub name: String,
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
    /// What its rules ask that isn't the same at every hook.
    asked: BTreeSet<Asked>,
}

/// Where a base chain is called, and what becomes of what no rule decides.
#[derive(Debug, Clone)]
pub struct Base {
    pub hook: String,
    pub priority: i64,
    pub drops: bool,
    /// For addresses: called for the first packet of a flow alone.
    pub nat: bool,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    pub comment: String,
    /// None where it decides nothing: it counts, logs, or marks.
    pub statements: Option<Vec<Statement>>,
}

impl Rule {
    /// What it says of what matches it, where it says that itself.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.statements.as_ref()?.last()? {
            Statement::Verdict(verdict) => Some(*verdict),
            _ => None,
        }
    }
}

/// Statements that decide.
const DECIDE: [&str; 7] = ["accept", "drop", "return", "jump", "goto", "vmap", "masquerade"];

/// Statements that change nothing of a packet's way.
const ASIDE: [&str; 6] = ["match", "counter", "log", "limit", "set", "mangle"];

impl Tables {
    /// Reads what nft printed; `keep` says of which tables, by family and name.
    ///
    /// # Errors
    /// Names the first thing that isn't known.
    pub fn read(
        listing: &Value,
        links: &mut LinkNumbers,
        keep: impl Fn(&str, &str) -> bool,
    ) -> Result<Self, Unknown> {
        let objects = listing.get("nftables").and_then(Value::as_array);
        let objects = objects.ok_or_else(|| Unknown("a listing without \"nftables\"".into()))?;
        let mut tables = Self::default();
        // What a rule or an element of a map leads to may be listed behind it.
        for step in [&["metainfo", "table"][..], &["chain"], &["set", "map"], &["rule"]] {
            for object in objects {
                let (kind, body) = only(object)?;
                let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
                let table = if kind == "table" { text("name") } else { text("table") };
                if kind == "metainfo" || !step.contains(&kind) || !keep(text("family"), table) {
                    if !["metainfo", "table", "chain", "set", "map", "rule"].contains(&kind)
                        && keep(text("family"), table)
                    {
                        return Err(Unknown(format!("the {kind} in table {table}")));
                    }
                    continue;
                }
                tables.add(kind, body, links)?;
            }
        }
        Ok(tables)
    }

    /// Whether each chain is at a place where packets are followed.
    ///
    /// # Errors
    /// Names the first that isn't.
    pub fn are_followed(&self) -> Result<(), Unknown> {
        for table in &self.tables {
            let mut addresses = BTreeSet::new();
            for (index, chain) in table.chains.iter().enumerate() {
                let Some(base) = &chain.base else { continue };
                let Base { hook, priority, nat, .. } = base;
                // A source address is chosen once for a flow, by the first chain that does.
                let once = !nat || addresses.insert(hook);
                let followed = hooks::is_followed(&table.family, hook, *priority);
                if !followed || !once || *nat != (hook == "postrouting") {
                    let family = &table.family;
                    return Err(Unknown(format!(
                        "{family} chain {} at {hook}, priority {priority}",
                        chain.name
                    )));
                }
                let unasked = hooks::unasked(&table.family, hook);
                for called in table.called_from(index) {
                    if let Some(asked) = unasked.iter().find(|asked| called.asked.contains(asked)) {
                        let name = &called.name;
                        return Err(Unknown(format!("what chain {name} is told at {hook}: {asked:?}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells apart what the rules tell apart of packets of a kind.
    pub fn divide(&self, kind: Kind, starts: &mut Starts) {
        for table in &self.tables {
            for (reads, right) in &table.asks {
                let Some(boxes) = table.boxes(right) else { continue };
                for (column, read) in reads.iter().enumerate().filter(|(_, read)| read.is_of(kind)) {
                    boxes.column(column).for_each(|range| starts.divide(read.field, range));
                }
            }
        }
    }

    /// Tells apart what the rules of a table tell apart of some fields of packets
    /// with this header, so far as what is the same in all of these says.
    pub fn divide_of(
        &self,
        (family, name): (&str, &str),
        header: &Header,
        fields: &[Field],
        starts: &mut Starts,
    ) {
        let here = |table: &&Table| table.family == family && table.name == name;
        for table in self.tables.iter().filter(here) {
            for (reads, right) in &table.asks {
                let asked = |read: &Read| fields.contains(&read.field) && read.is_of(header.kind);
                if !reads.iter().any(asked) {
                    continue;
                }
                let first = reads.first().and_then(|read| header.constant(read.field));
                let some = match (first, right) {
                    (Some(first), Right::Named(set)) => table.sets.get(*set).map(|set| set.with_first(first)),
                    _ => None,
                };
                let Some(boxes) = some.as_ref().or_else(|| table.boxes(right)) else { continue };
                for (column, read) in reads.iter().enumerate().filter(|(_, read)| asked(read)) {
                    boxes.column(column).for_each(|range| starts.divide(read.field, range));
                }
            }
        }
    }

    /// Sets that limit: the table's family, the bit that each has there, its name,
    /// and whether its elements match beyond.
    pub fn limits(&self) -> impl Iterator<Item = ((&str, u32), (&str, bool))> {
        self.tables.iter().flat_map(|table| {
            table.sets.iter().filter_map(|set| {
                let limit = set.limit?;
                Some(((table.family.as_str(), limit.bit), (set.name.as_str(), limit.over)))
            })
        })
    }

    fn add(&mut self, kind: &str, body: &Value, links: &mut LinkNumbers) -> Result<(), Unknown> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let unknown = || Unknown(format!("{kind} {body}"));
        if kind == "table" {
            // A dormant table judges nothing.
            let flags = body.get("flags").map(ToString::to_string).unwrap_or_default();
            if flags.contains("dormant") {
                return Err(Unknown(format!("the table {} that sleeps", text("name"))));
            }
            self.tables.push(Table {
                family: text("family").into(),
                name: text("name").into(),
                ..Table::default()
            });
            return Ok(());
        }
        let same = |table: &&mut Table| table.family == text("family") && table.name == text("table");
        let table = self.tables.iter_mut().find(same).ok_or_else(unknown)?;
        match kind {
            "chain" => {
                let name = text("name");
                table.names.insert(name.into(), table.chains.len());
                table.chains.push(Chain {
                    name: name.into(),
                    base: base(body)?,
                    rules: Vec::new(),
                    asked: BTreeSet::new(),
                });
            }
            "set" | "map" => {
                let set = Set::parse(kind, body, &mut table.limits, &table.names, links)?;
                table.sets.push(set);
            }
            _ => {
                let statements = table.statements(body, links)?;
                let chain = table.names.get(text("chain")).and_then(|index| table.chains.get_mut(*index));
                let comment = text("comment").into();
                let chain = chain.ok_or_else(unknown)?;
                // What decides nothing may ask what it likes.
                if statements.is_some() {
                    chain.asked.extend(hooks::asked(body.get("expr").unwrap_or(&Value::Null)));
                }
                chain.rules.push(Rule { comment, statements });
            }
        }
        Ok(())
    }
}

/// Whether a statement asks for frames that no guard judged.
fn is_unguarded(statement: &Value) -> bool {
    let mark = json!({ "meta": { "key": "mark" } });
    let masked = json!({ "&": [mark, GUARDED] });
    *statement == json!({ "match": { "op": "!=", "left": masked, "right": GUARDED } })
}

impl Table {
    fn statements(
        &mut self,
        body: &Value,
        links: &mut LinkNumbers,
    ) -> Result<Option<Vec<Statement>>, Unknown> {
        let unknown = || Unknown(format!("the rule {body}"));
        let listed = body.get("expr").and_then(Value::as_array).ok_or_else(unknown)?;
        let kinds: Result<Vec<&str>, Unknown> =
            listed.iter().map(|statement| Ok(only(statement)?.0)).collect();
        let kinds = kinds?;
        // Packets are followed from behind the guard of their port, where there is
        // one: it marks what it lets pass.
        if kinds.last() == Some(&"drop") && listed.iter().any(is_unguarded) {
            return Ok(None);
        }
        if let Some(kind) = kinds.iter().find(|kind| !DECIDE.contains(kind) && !ASIDE.contains(kind)) {
            return Err(Unknown(format!(
                "the statement {kind} in chain {}",
                body.get("chain").unwrap_or(&Value::Null)
            )));
        }
        if !kinds.iter().any(|kind| DECIDE.contains(kind)) {
            let marks = listed.iter().filter(|statement| statement.get("mangle").is_some());
            let mut scope = Scope { sets: &self.sets, chains: &self.names, links };
            for statement in marks {
                scope.statement(statement)?;
            }
            // What is in a set that a rule adds to, or takes from, isn't what was listed.
            for filled in listed.iter().filter_map(|statement| statement.get("set")) {
                let name = filled.get("set").and_then(Value::as_str).and_then(|name| name.strip_prefix('@'));
                let set = self.sets.iter_mut().find(|set| Some(set.name.as_str()) == name);
                set.ok_or_else(unknown)?.filled = true;
            }
            return Ok(None);
        }
        // A packet that can't be changed so, or added, breaks the rule off.
        if kinds.iter().any(|kind| ["mangle", "set"].contains(kind)) {
            return Err(unknown());
        }
        let asked = hooks::asked(body.get("expr").unwrap_or(&Value::Null));
        if asked.contains(&Asked::Family) && asked.contains(&Asked::Message) {
            return Err(unknown());
        }
        // Nobody can say what a rule does that goes on after it decided.
        let decides = kinds.iter().position(|kind| DECIDE.contains(kind));
        if decides != Some(kinds.len() - 1) {
            return Err(unknown());
        }
        let mut statements = Vec::with_capacity(listed.len());
        for statement in listed {
            let anonymous = Scope { sets: &self.sets, chains: &self.names, links }.anonymous(statement);
            statements.push(match anonymous {
                Some(found) => {
                    let (left, set) = found?;
                    self.sets.push(set);
                    Statement::Map(left, Right::Named(self.sets.len() - 1))
                }
                None => Scope { sets: &self.sets, chains: &self.names, links }.statement(statement)?,
            });
        }
        for statement in &statements {
            let (left, right) = match statement {
                Statement::Match(Match { left, right, .. }) | Statement::Map(left, right) => (left, right),
                Statement::Verdict(_) | Statement::Aside => continue,
            };
            let Left::Fields(reads) = left else { continue };
            let known = |(others, other): &(Vec<Read>, Right)| match (right, other) {
                (Right::Named(set), Right::Named(same)) => set == same && others == reads,
                _ => false,
            };
            if !self.asks.iter().any(known) {
                self.asks.push((reads.clone(), right.clone()));
            }
        }
        Ok(Some(statements))
    }

    /// What is compared with, as boxes.
    fn boxes<'r>(&'r self, right: &'r Right) -> Option<&'r Boxes> {
        match right {
            Right::Boxes(boxes) => Some(boxes),
            Right::Named(set) => self.sets.get(*set).map(|set| &set.boxes),
            Right::Bits(_) | Right::Meaning(..) => None,
        }
    }

    /// A chain, and those that are called from it.
    fn called_from(&self, chain: usize) -> Vec<&Chain> {
        let (mut seen, mut open) = (BTreeSet::from([chain]), vec![chain]);
        while let Some(next) = open.pop() {
            let rules = self.chains.get(next).into_iter().flat_map(|chain| &chain.rules);
            for statement in rules.flat_map(|rule| rule.statements.iter().flatten()) {
                let verdicts = match statement {
                    Statement::Verdict(verdict) => std::slice::from_ref(verdict),
                    Statement::Map(_, Right::Named(map)) => {
                        self.sets.get(*map).map_or(&[][..], |map| &map.verdicts)
                    }
                    _ => &[],
                };
                for verdict in verdicts {
                    if let Verdict::Jump(to) | Verdict::Goto(to) = verdict
                        && seen.insert(*to)
                    {
                        open.push(*to);
                    }
                }
            }
        }
        seen.into_iter().filter_map(|chain| self.chains.get(chain)).collect()
    }

    /// The chains of a hook, in the order in which they are called.
    pub fn at(&self, hook: &str) -> Vec<(usize, &Base)> {
        let bases =
            self.chains.iter().enumerate().filter_map(|(index, chain)| Some((index, chain.base.as_ref()?)));
        let mut found: Vec<_> = bases.filter(|(_, base)| base.hook == hook).collect();
        found.sort_by_key(|(_, base)| base.priority);
        found
    }
}

fn base(body: &Value) -> Result<Option<Base>, Unknown> {
    let unknown = || Unknown(format!("the chain {body}"));
    if body.get("hook").is_none() {
        return Ok(None);
    }
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
