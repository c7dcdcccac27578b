//! What separates the kernel's tables from the desired ones, object by object,
//! and what each difference means.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::listing::{Listing, Table};
use super::rule_text;
use crate::firewall::desired::set::{Opens, PolicySet, Set};
use crate::firewall::severity::Severity;
use crate::ownership::{TABLE, TABLE_FAMILIES};

/// One object of hostctl's tables that isn't as it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// How bad it is.
    pub severity: Severity,
    /// Which object, such as `element of set inet hostctl pairs`.
    pub object: String,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: String,
    /// The command that puts it back by hand, where one does.
    pub command: Option<String>,
}

const ABSENT: &str = "not there";
const NOTHING: &str = "nothing";

/// What one element more or less of a set opens.
fn opens(set: &str, allows: impl Fn(&str) -> Option<bool>) -> Opens {
    match set.parse::<Set>() {
        Ok(set) => set.definition().opens,
        // The sets of a policy's chain hold what it allows, or what it denies.
        Err(_) => match PolicySet::chain(set).and_then(allows) {
            Some(true) => Opens::Added,
            Some(false) => Opens::Removed,
            None => Opens::Either,
        },
    }
}

/// The differences where there is no table at all.
pub fn absence() -> Vec<Deviation> {
    TABLE_FAMILIES.map(gone).into()
}

fn gone(family: &str) -> Deviation {
    Deviation {
        severity: Severity::Critical,
        object: format!("table {family} {TABLE}"),
        found: ABSENT.into(),
        expected: "loaded: without it nothing is judged".into(),
        command: None,
    }
}

/// Every difference, from what the kernel has to what it should have.
pub fn deviations(live: &Listing, desired: &Listing) -> Vec<Deviation> {
    let mut found = Vec::new();
    for (family, wanted) in &desired.tables {
        match live.tables.get(family) {
            None => found.push(gone(family)),
            Some(table) => Tables { family, live: table, wanted }.compare(&mut found),
        }
    }
    found
}

struct Tables<'a> {
    family: &'a str,
    live: &'a Table,
    wanted: &'a Table,
}

type Rules<'a> = BTreeMap<&'a str, Vec<&'a Value>>;

/// The table's objects that aren't rules, by kind and name, and its rules.
fn sorted(table: &Table) -> (BTreeMap<(&str, &str), &Value>, Rules<'_>) {
    let (mut objects, mut rules) = (BTreeMap::new(), Rules::new());
    for object in &table.shape {
        let Some((kind, body)) = rule_text::only(object) else { continue };
        let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        if kind == "rule" {
            rules.entry(field("chain")).or_default().push(body);
        } else {
            objects.insert((kind, field("name")), body);
        }
    }
    (objects, rules)
}

impl Tables<'_> {
    fn compare(&self, out: &mut Vec<Deviation>) {
        let (live, live_rules) = sorted(self.live);
        let (wanted, wanted_rules) = sorted(self.wanted);
        for (&(kind, name), &body) in &wanted {
            let object = self.name(kind, name);
            match live.get(&(kind, name)) {
                None => out.push(deviation(Severity::Critical, object, ABSENT, &describe(kind, body))),
                Some(found) if *found != body => {
                    out.push(deviation(
                        Severity::Critical,
                        object,
                        &describe(kind, found),
                        &describe(kind, body),
                    ));
                }
                Some(_) => {}
            }
        }
        for (&(kind, name), body) in live.iter().filter(|(key, _)| !wanted.contains_key(key)) {
            // A base chain is passed by packets, whatever else there is.
            let base = body.get("hook").is_some();
            let severity = if base { Severity::Critical } else { Severity::Warning };
            out.push(deviation(severity, self.name(kind, name), &describe(kind, body), NOTHING));
        }
        let chains: BTreeSet<&str> = live_rules.keys().chain(wanted_rules.keys()).copied().collect();
        for chain in chains {
            let of = |rules: &Rules<'_>| {
                rules.get(chain).map(|rules| rules.iter().map(|rule| (*rule).clone()).collect())
            };
            self.compare_rules(
                chain,
                of(&live_rules).unwrap_or_default(),
                of(&wanted_rules).unwrap_or_default(),
                out,
            );
        }
        let sets: BTreeSet<&String> = self.live.sets.keys().chain(self.wanted.sets.keys()).collect();
        for set in sets {
            // Of a set that isn't there, that is all there is to say.
            if let (Some(live), Some(wanted)) = (self.live.sets.get(set), self.wanted.sets.get(set)) {
                self.compare_elements(set, live, wanted, &wanted_rules, out);
            }
        }
    }

    fn name(&self, kind: &str, name: &str) -> String {
        match kind {
            "table" => format!("table {} {TABLE}", self.family),
            _ => format!("{kind} {} {TABLE} {name}", self.family),
        }
    }

    fn compare_rules(&self, chain: &str, live: Vec<Value>, wanted: Vec<Value>, out: &mut Vec<Deviation>) {
        if live == wanted {
            return;
        }
        let object = format!("rule in chain {} {TABLE} {chain}", self.family);
        // As often as there are too many, or too few.
        let surplus = |of: &[Value], over: &[Value]| {
            let mut rest = over.to_vec();
            let unmatched = of.iter().filter(|rule| match rest.iter().position(|other| other == *rule) {
                Some(index) => {
                    rest.swap_remove(index);
                    false
                }
                None => true,
            });
            unmatched.cloned().collect::<Vec<Value>>()
        };
        let missing = surplus(&wanted, &live);
        let foreign = surplus(&live, &wanted);
        if missing.is_empty() && foreign.is_empty() {
            out.push(deviation(
                Severity::Critical,
                format!("chain {} {TABLE} {chain}", self.family),
                "its rules in another order",
                "the order that it was loaded with",
            ));
        }
        for rule in &missing {
            let severity =
                if only_permits(statements(rule)) { Severity::Warning } else { Severity::Critical };
            out.push(deviation(severity, object.clone(), ABSENT, &line(rule)));
        }
        for rule in &foreign {
            let severity = if only_denies(statements(rule)) { Severity::Warning } else { Severity::Critical };
            out.push(deviation(severity, object.clone(), &line(rule), NOTHING));
        }
    }

    fn compare_elements(
        &self,
        set: &str,
        live: &BTreeSet<String>,
        wanted: &BTreeSet<String>,
        rules: &Rules<'_>,
        out: &mut Vec<Deviation>,
    ) {
        let opens = opens(set, |chain| {
            let rules = rules.get(chain)?;
            let last = statements(rules.last()?);
            Some(last.iter().any(|statement| statement.get("goto").is_some()))
        });
        let object = format!("element of set {} {TABLE} {set}", self.family);
        let severity = |when: Opens| {
            if opens == when || opens == Opens::Either { Severity::Critical } else { Severity::Warning }
        };
        let text = |element: &String| {
            serde_json::from_str(element)
                .map_or_else(|_| element.clone(), |element| rule_text::value(&element))
        };
        let command = |verb: &str, element: &str| {
            Some(format!("nft {verb} element {} {TABLE} {set} '{{ {element} }}'", self.family))
        };
        for element in live.difference(wanted).map(text) {
            let command = command("delete", &element);
            out.push(Deviation {
                command,
                ..deviation(severity(Opens::Added), object.clone(), &element, NOTHING)
            });
        }
        for element in wanted.difference(live).map(text) {
            let command = command("add", &element);
            out.push(Deviation {
                command,
                ..deviation(severity(Opens::Removed), object.clone(), ABSENT, &element)
            });
        }
    }
}

fn deviation(severity: Severity, object: String, found: &str, expected: &str) -> Deviation {
    Deviation { severity, object, found: found.into(), expected: expected.into(), command: None }
}

fn statements(rule: &Value) -> &[Value] {
    rule.get("expr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A rule with its comment, which says what it is for.
fn line(rule: &Value) -> String {
    let text = rule_text::rule(statements(rule));
    match rule.get("comment").and_then(Value::as_str) {
        Some(comment) => format!("{text} ({comment})"),
        None => text,
    }
}

/// What is worth knowing of a table, a chain or a set.
fn describe(kind: &str, body: &Value) -> String {
    let field = |name: &str| body.get(name).map(rule_text::value);
    match (kind, field("hook")) {
        ("chain", Some(hook)) => {
            let policy = field("policy").unwrap_or_else(|| "accept".into());
            format!("at {hook}, priority {}, policy {policy}", field("prio").unwrap_or_default())
        }
        ("table", _) => match body.get("unreadable") {
            Some(_) => "a table that nft can't list, dormant perhaps: it judges nothing".into(),
            None => format!("flags {}", field("flags").unwrap_or_else(|| "none".into())),
        },
        ("set" | "map", _) => format!(
            "of {}, flags {}",
            field("type").unwrap_or_default(),
            field("flags").unwrap_or_else(|| "none".into())
        ),
        _ => "there".into(),
    }
}

/// Whether a rule does nothing but let something pass or change it on its way
/// out: without it less works, and nothing is open.
fn only_permits(statements: &[Value]) -> bool {
    verdicts(statements)
        .all(|kind| matches!(kind, "accept" | "return" | "masquerade" | "mangle" | "match" | "counter"))
}

/// Whether a rule does nothing but drop, count or log.
fn only_denies(statements: &[Value]) -> bool {
    verdicts(statements).all(|kind| matches!(kind, "drop" | "reject" | "match" | "counter" | "log" | "limit"))
}

fn verdicts(statements: &[Value]) -> impl Iterator<Item = &str> {
    statements.iter().map(|statement| rule_text::only(statement).map_or("", |(kind, _)| kind))
}

#[cfg(test)]
#[path = "deviation_tests.rs"]
mod tests;
