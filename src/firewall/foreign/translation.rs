//! Rules of iptables', of which nft's JSON has but the names of their matches
//! and targets (`xt`), in nft's words.
//!
//! nft's text has most of them translated. Each such rule's text is loaded into
//! a chain of its own in a scratch namespace, and listed there as JSON: nft is
//! the only one who reads nft's language. What has no translation stays as it
//! is, and counts as "may".

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::firewall::live::rule_text::only;

use super::ruleset::Foreign;

/// Before the handle that a rule's chain is named by.
const CHAIN: &str = "hostctl-";

/// A rule that waits for its translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    /// The rule's number in its table.
    pub handle: u64,
    /// The rule, as nft's text has it.
    pub text: String,
    /// The chains that it leads to.
    targets: Vec<String>,
}

impl Foreign {
    /// The tables that have such rules, by family and name.
    pub fn extended_tables(&self) -> BTreeSet<(String, String)> {
        self.rules()
            .filter(|(.., statements)| is_extended(statements))
            .map(|((family, table), ..)| (family.into(), table.into()))
            .collect()
    }

    /// Those rules of a table whose text, in what `nft -a list table` printed,
    /// is nft's own language.
    pub fn extended(&self, family: &str, table: &str, listing: &str) -> Vec<Extended> {
        let texts: BTreeMap<u64, &str> = listing.lines().filter_map(text).collect();
        self.rules()
            .filter(|(of, _, statements)| *of == (family, table) && is_extended(statements))
            .filter_map(|(_, handle, statements)| {
                let text = texts.get(&handle?)?;
                let whole =
                    !["xt match", "xt target", "# xt", "[unsupported"].iter().any(|word| text.contains(word));
                whole.then(|| Extended {
                    handle: handle.unwrap_or_default(),
                    text: (*text).into(),
                    targets: statements.iter().filter_map(target).collect(),
                })
            })
            .collect()
    }

    /// Puts what a scratch namespace listed of [`script`] in the rules' places.
    pub fn adopt(&mut self, family: &str, table: &str, json: &str) {
        let mut translated = Self::default();
        if translated.add(json).is_err() {
            return;
        }
        let mut by_handle: BTreeMap<u64, Vec<Value>> = translated
            .chains
            .into_iter()
            .filter_map(|((_, _, chain), content)| {
                let handle = chain.strip_prefix(CHAIN)?.parse().ok()?;
                Some((handle, content.rules.into_iter().next()?.statements))
            })
            .collect();
        let chains = self
            .chains
            .iter_mut()
            .filter(|((of, within, _), _)| (of.as_str(), within.as_str()) == (family, table));
        for rule in chains.flat_map(|(_, chain)| &mut chain.rules) {
            if let Some(statements) = rule.handle.and_then(|handle| by_handle.remove(&handle)) {
                rule.statements = statements;
            }
        }
    }

    /// Each rule with its table and handle.
    fn rules(&self) -> impl Iterator<Item = ((&str, &str), Option<u64>, &[Value])> {
        self.chains.iter().flat_map(|((family, table, _), chain)| {
            chain
                .rules
                .iter()
                .map(move |rule| ((family.as_str(), table.as_str()), rule.handle, rule.statements.as_slice()))
        })
    }
}

/// The text that loads each rule into a chain of its own.
pub fn script(family: &str, rules: &[Extended]) -> String {
    let targets: BTreeSet<&String> = rules.iter().flat_map(|rule| &rule.targets).collect();
    let targets = targets.iter().map(|name| format!("add chain {family} t {name}\n"));
    let chains = rules.iter().map(|Extended { handle, text, .. }| {
        format!("add chain {family} t {CHAIN}{handle}\nadd rule {family} t {CHAIN}{handle} {text}\n")
    });
    format!("add table {family} t\n{}", targets.chain(chains).collect::<String>())
}

fn is_extended(statements: &[Value]) -> bool {
    statements.iter().filter_map(only).any(|(kind, _)| kind == "xt")
}

fn target(statement: &Value) -> Option<String> {
    let (kind, body) = only(statement)?;
    matches!(kind, "jump" | "goto").then(|| body.get("target")?.as_str().map(Into::into))?
}

/// A rule's handle and text, of a line of `nft -a list table`.
fn text(line: &str) -> Option<(u64, &str)> {
    let (text, handle) = line.trim().rsplit_once(" # handle ")?;
    if text.ends_with('{') {
        return None;
    }
    Some((handle.parse().ok()?, text))
}
