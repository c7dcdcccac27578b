//! Where something happens, for people and for remedies.

use crate::firewall::{Foreign, legacy_table};
use crate::prove::Happening;

/// Where it happens: a rule, or the end of a base chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RulePlace {
    pub family: String,
    pub table: String,
    /// The base chain by which the packet got there.
    pub base: String,
    pub hook: String,
    pub chain: String,
    /// The rule's number; none where it is the chain's policy.
    pub handle: Option<u64>,
    /// The rule, or the policy.
    pub text: String,
}

impl RulePlace {
    /// Where one of these happens.
    pub(super) fn of(happening: &Happening, foreign: &Foreign) -> Self {
        let place = &happening.place;
        let text = match place.rule {
            _ if happening.given_up => "more rules than hostctl follows".into(),
            None => "policy drop".into(),
            Some(rule) => foreign
                .rule_text(&place.family, &place.table, &place.chain, rule)
                .unwrap_or_else(|| format!("rule {}", rule + 1)),
        };
        Self {
            family: place.family.clone(),
            table: place.table.clone(),
            base: place.base.clone(),
            hook: place.hook.clone(),
            chain: place.chain.clone(),
            handle: place.handle,
            text,
        }
    }

    /// The table's name with iptables-legacy, where it is one of its.
    pub(super) fn legacy_table(&self) -> Option<&str> {
        legacy_table(&self.table)
    }

    /// The iptables that has the table.
    pub(super) fn tool(&self) -> &'static str {
        match (self.family.as_str(), self.legacy_table()) {
            ("ip6", None) => "ip6tables",
            ("ip6", Some(_)) => "ip6tables-legacy",
            (_, None) => "iptables",
            (_, Some(_)) => "iptables-legacy",
        }
    }
}
