//! Two listings → how to get from one to the other.

use std::collections::BTreeSet;

use nftables::batch::Batch;
use nftables::expr::Expression;
use nftables::schema::{Element, NfCmd, NfListObject, Nftables};
use nftables::types::NfFamily;
use serde::Deserialize;
use serde_json::Value;

use super::delta::{Delta, Parts};
use super::listing::{Listing, Table};
use crate::firewall::desired::element_text;
use crate::firewall::desired::judgement::Judgement;
use crate::firewall::desired::render::{TemplateFault, judgement_command, render_judgement};
use crate::firewall::desired::set::most_at_once;
use crate::ownership::{BRIDGE, TABLE, TABLE_FAMILIES, table};

/// What separates the kernel's tables from the desired ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Nothing.
    None,
    /// Elements only: counters, other elements and flows stay as they are.
    Elements(Delta),
    /// The tables have another shape, or aren't there: they are replaced.
    Replace {
        /// What differs, for people.
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ElementsChange {
    add: bool,
    family: String,
    set: String,
    elements: Vec<Value>,
}

impl Difference {
    /// To what it should have, from nothing.
    pub fn absent() -> Self {
        Self::Replace { reason: format!("table {} isn't there", table(TABLE_FAMILIES[0])) }
    }

    /// To the same, held: only tables that are made are.
    pub fn unheld() -> Self {
        Self::Replace { reason: "any program's flush would take the tables: they aren't held yet".into() }
    }

    /// From what the kernel has to what it should have.
    pub fn between(live: &Listing, desired: &Listing) -> Self {
        Self::judging(live, desired, None)
    }

    /// As [`Self::between`] of listings with the same marks, to what has others:
    /// elements that differ change in one transaction with the marks.
    ///
    /// # Errors
    /// Only where the template is broken.
    pub fn between_judged(
        live: &Listing,
        desired: &Listing,
        judgement: &Judgement,
    ) -> Result<Self, TemplateFault> {
        Ok(Self::judging(live, desired, Some(render_judgement(judgement)?)))
    }

    fn judging(live: &Listing, desired: &Listing, marks: Option<String>) -> Self {
        let mut changes = Vec::new();
        for (family, wanted) in &desired.tables {
            let Some(found) = live.tables.get(family) else {
                return Self::Replace { reason: format!("table {family} {TABLE} isn't there") };
            };
            if let Some(reason) = shape_differs(family, found, wanted) {
                return Self::Replace { reason };
            }
            for (set, elements) in &wanted.sets {
                let found = found.sets.get(set).cloned().unwrap_or_default();
                for (add, texts) in [(false, found.difference(elements)), (true, elements.difference(&found))]
                {
                    let parsed: Result<Vec<_>, _> = texts.map(|text| serde_json::from_str(text)).collect();
                    let Ok(elements) = parsed else {
                        return Self::Replace { reason: format!("set {set} has elements of another kind") };
                    };
                    if !add && elements.iter().any(is_unreadable) {
                        let reason = format!("set {set} has an element that nft doesn't read as it lists it");
                        return Self::Replace { reason };
                    }
                    let parts = elements.chunks(most_at_once(set));
                    changes.extend(parts.map(|elements| ElementsChange {
                        add,
                        family: family.clone(),
                        set: set.clone(),
                        elements: elements.to_vec(),
                    }));
                }
            }
        }
        if changes.is_empty() {
            return Self::None;
        }
        let mut commands: Vec<String> = changes.iter().map(command).collect();
        let mut parts = parts(&changes);
        if let Some(marks) = marks {
            let text = changes.iter().map(text).collect::<String>() + &marks;
            commands.push(judgement_command());
            if let Some(parts) = &mut parts {
                parts.rules = marks;
            }
            return Self::Elements(Delta::text(text, commands).by(parts));
        }
        if changes.iter().flat_map(|change| &change.elements).any(element_text::is_stateful) {
            return Self::Elements(Delta::text(changes.iter().map(text).collect(), commands).by(parts));
        }
        // It was JSON a moment ago.
        let json = to_nftables(&changes).and_then(|commands| serde_json::to_string(&commands));
        json.map_or_else(
            |error| Self::Replace { reason: error.to_string() },
            |json| Self::Elements(Delta::json(json, commands).by(parts)),
        )
    }
}

/// Whether an element has a link's number with its bytes in the other order, as
/// nft 1.0.6 loaded some ([`most_at_once`]): it can't be deleted by itself.
fn is_unreadable(element: &Value) -> bool {
    let parts = element.get("concat").and_then(Value::as_array);
    let is_negative =
        |part: &Value| part.as_str().is_some_and(|text| text.parse::<i64>().is_ok_and(|n| n < 0));
    parts.into_iter().flatten().any(is_negative)
}

fn shape_differs(family: &str, found: &Table, wanted: &Table) -> Option<String> {
    if found.shape == wanted.shape {
        return None;
    }
    let texts = |table: &Table| table.shape.iter().map(Value::to_string).collect::<BTreeSet<_>>();
    let (found, wanted) = (texts(found), texts(wanted));
    let foreign = found.difference(&wanted).count();
    let missing = wanted.difference(&found).count();
    Some(match (foreign, missing) {
        (0, 0) => format!("table {family} {TABLE} has its rules in another order"),
        _ => format!(
            "table {family} {TABLE}: {missing} rules, chains or sets missing, {foreign} that don't belong there"
        ),
    })
}

/// As commands for `nft -j -f -` (libnftables-json(5)).
fn to_nftables(changes: &[ElementsChange]) -> Result<Nftables<'_>, serde_json::Error> {
    let mut batch = Batch::new();
    for change in changes {
        let elements = change.elements.iter().map(Expression::deserialize);
        let element = NfListObject::Element(Element {
            family: if change.family == BRIDGE { NfFamily::Bridge } else { NfFamily::INet },
            table: TABLE.into(),
            name: change.set.as_str().into(),
            elem: elements.collect::<Result<Vec<_>, _>>()?.into(),
        });
        batch.add_cmd(if change.add { NfCmd::Add(element) } else { NfCmd::Delete(element) });
    }
    Ok(batch.to_nftables())
}

/// As messages of hostctl's own, where all of it is understood.
fn parts(changes: &[ElementsChange]) -> Option<Parts> {
    let mut parts = Parts::default();
    let mut fits = |change: &ElementsChange| {
        let family = TABLE_FAMILIES.into_iter().find(|family| *family == change.family)?;
        let texts = element_texts(change.add, &change.elements);
        parts.push(change.add, family, &change.set, &texts).then_some(())
    };
    changes.iter().try_for_each(&mut fits)?;
    Some(parts)
}

/// As a line for `nft -f -`.
fn text(change: &ElementsChange) -> String {
    let ElementsChange { add, family, set, elements } = change;
    let verb = if *add { "add" } else { "delete" };
    format!("{verb} element {family} {TABLE} {set} {{ {} }}\n", element_texts(*add, elements).join(", "))
}

fn command(change: &ElementsChange) -> String {
    // Names need no quotes where a person types them.
    let elements = element_texts(change.add, &change.elements).into_iter();
    let elements: Vec<String> = elements.map(|element| element.replace('"', "")).collect();
    super::delta::element_command(change.add, &change.family, &change.set, &elements)
}

fn element_texts(add: bool, elements: &[Value]) -> Vec<String> {
    let text = if add { element_text::added } else { element_text::deleted };
    elements.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(elements: &str, rule: &str) -> Listing {
        let text = format!(
            r#"{{"nftables": [
                {{"table": {{"family": "inet", "name": "hostctl"}}}},
                {{"set": {{"family": "inet", "name": "net4", "table": "hostctl", "type": "ipv4_addr", "elem": [{elements}]}}}},
                {{"rule": {{"family": "inet", "table": "hostctl", "chain": "b", "expr": [{{"{rule}": null}}]}}}}]}}"#
        );
        let mut listing = Listing::default();
        listing.add("inet", &text).unwrap();
        listing
    }

    #[test]
    fn elements_alone_are_a_delta() {
        let live = listing(r#""10.0.0.1", {"prefix": {"addr": "10.1.0.0", "len": 24}}"#, "drop");
        let desired = listing(r#""10.0.0.1", {"concat": ["br-a", "10.0.0.2"]}"#, "drop");
        let Difference::Elements(delta) = Difference::between(&live, &desired) else { panic!() };
        assert_eq!(
            delta.commands(),
            [
                "nft delete element inet hostctl net4 '{ 10.1.0.0/24 }'",
                "nft add element inet hostctl net4 '{ br-a . 10.0.0.2 }'"
            ]
        );
        let live = listing(
            r#"{"concat": [{"range": ["10.0.0.1", "10.0.0.9"]}, "tcp", {"range": [80, 90]}]}"#,
            "drop",
        );
        let desired = listing(r#"[{"concat": ["br-a", "10.0.0.2"]}, {"jump": {"target": "p_in"}}]"#, "drop");
        let Difference::Elements(ranges) = Difference::between(&live, &desired) else { panic!() };
        assert_eq!(
            ranges.commands(),
            [
                "nft delete element inet hostctl net4 '{ 10.0.0.1-10.0.0.9 . tcp . 80-90 }'",
                "nft add element inet hostctl net4 '{ br-a . 10.0.0.2 : jump p_in }'"
            ]
        );
        assert_eq!(
            delta.input(),
            (
                true,
                r#"{"nftables":[{"delete":{"element":{"family":"inet","table":"hostctl","name":"net4","elem":[{"prefix":{"addr":"10.1.0.0","len":24}}]}}},{"add":{"element":{"family":"inet","table":"hostctl","name":"net4","elem":[{"concat":["br-a","10.0.0.2"]}]}}}]}"#
            )
        );
        assert_eq!(Difference::between(&desired, &desired), Difference::None);
    }

    #[test]
    fn another_shape_or_no_table_is_a_replacement() {
        let (live, desired) = (listing("", "accept"), listing("", "drop"));
        let Difference::Replace { reason } = Difference::between(&live, &desired) else { panic!() };
        assert_eq!(reason, "table inet hostctl: 1 rules, chains or sets missing, 1 that don't belong there");
        assert!(matches!(Difference::between(&Listing::default(), &desired), Difference::Replace { .. }));
        let turned = listing(r#"{"concat": ["br-a", "-402456576", "10.0.0.2"]}"#, "drop");
        let Difference::Replace { reason } = Difference::between(&turned, &desired) else { panic!() };
        assert_eq!(reason, "set net4 has an element that nft doesn't read as it lists it");
    }
}
