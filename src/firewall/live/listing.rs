//! What nft lists, in a form that can be compared: without handles, counters
//! and the order that the kernel happens to keep elements in.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::firewall::Set;
use crate::firewall::desired::judgement::{Judgement, Marked};
use crate::topology::MarkMask;

/// Hostctl's tables, each by its family.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    pub(in crate::firewall) tables: BTreeMap<String, Table>,
}

/// One table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(in crate::firewall) struct Table {
    /// Everything but the elements of named sets.
    pub shape: Vec<Value>,
    /// The named sets' elements, each in canonical JSON. Sets that rules fill
    /// while packets pass have none: what is in them is nobody's wish.
    pub sets: BTreeMap<String, BTreeSet<String>>,
}

/// An answer of nft's that isn't what its documentation (libnftables-json(5))
/// says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nft listed something unexpected: {0}")]
pub struct UnexpectedListing(pub(in crate::firewall) String);

impl Listing {
    /// Adds the table that `nft -j list table` printed.
    ///
    /// # Errors
    /// Where the text isn't nft's JSON.
    pub fn add(&mut self, family: &str, text: &str) -> Result<(), UnexpectedListing> {
        self.add_here(family, text, &|_| None)
    }

    /// As [`Self::add`], where `index` tells a link's number by its name: nft
    /// prints the names of the namespace that it lists in the place of numbers.
    pub(in crate::firewall) fn add_here(
        &mut self,
        family: &str,
        text: &str,
        index: &dyn Fn(&str) -> Option<u32>,
    ) -> Result<(), UnexpectedListing> {
        let parsed: Value =
            serde_json::from_str(text).map_err(|error| UnexpectedListing(error.to_string()))?;
        let Some(Value::Array(objects)) = parsed.get("nftables") else {
            return Err(UnexpectedListing("no \"nftables\" array".into()));
        };
        let table = self.tables.entry(family.into()).or_default();
        for object in objects {
            let Some((kind, body)) = object.as_object().and_then(|object| object.iter().next()) else {
                return Err(UnexpectedListing(object.to_string()));
            };
            if kind == "metainfo" {
                continue;
            }
            if matches!(kind.as_str(), "set" | "map") {
                let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
                let places = index_places(body.get("type"));
                let elements = body.get("elem").and_then(Value::as_array).into_iter().flatten();
                let elements = elements.map(|element| canonical(&numbered(element.clone(), &places, index)));
                let elements = elements.collect();
                table.sets.insert(name, elements);
            }
            let mut body = body.clone();
            if let Some(fields) = body.as_object_mut() {
                fields.retain(|key, _| defines(kind, key));
                // Who holds a table is no part of what it does.
                if kind == "table" {
                    without_holder(fields);
                }
            }
            normalise(&mut body);
            table.shape.push(serde_json::json!({ kind: body }));
        }
        let filled: Vec<&str> = table.shape.iter().flat_map(filled_by).collect();
        table.sets.retain(|name, _| !filled.contains(&name.as_str()));
        // Rules keep their order; sets and chains have none.
        table.shape.sort_by_key(|object| match object.get("rule") {
            Some(rule) => (1, rule.get("chain").map(ToString::to_string).unwrap_or_default()),
            None => (0, object.to_string()),
        });
        Ok(())
    }

    /// Adds a table that is there and that nft can't list, such as a dormant
    /// one (nft 1.0.6 ends in the middle of its JSON).
    pub(in crate::firewall) fn add_unreadable(&mut self, family: &str) {
        let shape = vec![serde_json::json!({ "table": { "unreadable": true } })];
        self.tables.insert(family.into(), Table { shape, ..Table::default() });
    }

    /// Whether that table is there, with its sets.
    pub fn has(&self, family: &str) -> bool {
        self.tables.get(family).is_some_and(|table| !table.sets.is_empty())
    }

    /// Whether the kernel has none of hostctl's tables.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The elements of a set of plain texts, such as interfaces' names.
    pub(in crate::firewall) fn texts(&self, set: Set) -> Vec<String> {
        let elements = self.set(set).into_iter().flatten();
        elements.filter_map(|element| serde_json::from_str(element).ok()).collect()
    }

    /// A set's elements, where there is such a set.
    fn set(&self, set: Set) -> Option<&BTreeSet<String>> {
        let family = set.definition().families.first()?;
        self.tables.get(*family)?.sets.get(set.name())
    }

    /// The elements of a set that `other` doesn't have, each as its parts.
    pub(in crate::firewall) fn gone(&self, set: Set, other: &Self) -> Vec<Vec<String>> {
        let elements = |listing: &Self| listing.set(set).cloned().unwrap_or_default();
        let gone: Vec<String> = elements(self).difference(&elements(other)).cloned().collect();
        gone.iter()
            .filter_map(|text| serde_json::from_str(text).ok())
            .map(|element| parts(&element))
            .collect()
    }

    /// By which marks the loaded rules know flows; [`LoadedMarks::Unknown`] where they
    /// aren't hostctl's.
    pub fn judgement(&self) -> LoadedMarks {
        let rules =
            self.tables.values().flat_map(|table| &table.shape).filter_map(|object| object.get("rule"));
        let mut found = None;
        for rule in rules.filter(|rule| has_mark(rule)) {
            let of_rule = matched_mark(rule).or_else(|| given_mark(rule));
            let Some(Ok(mask)) =
                of_rule.map(|marked| MarkMask::new(marked.mask).map(|mask| (mask, marked.value)))
            else {
                return LoadedMarks::Unknown;
            };
            let judgement = Judgement::from_mark(mask.0, mask.1);
            if judgement.is_none() || found.is_some_and(|found| Some(found) != judgement) {
                return LoadedMarks::Unknown;
            }
            found = judgement;
        }
        found.map_or(LoadedMarks::None, LoadedMarks::Of)
    }

    /// How many rules there are, in all tables.
    pub fn rules(&self) -> usize {
        self.tables
            .values()
            .flat_map(|table| &table.shape)
            .filter(|object| object.get("rule").is_some())
            .count()
    }

    /// How many elements the sets have, in all tables.
    pub fn elements(&self) -> usize {
        self.tables.values().flat_map(|table| table.sets.values()).map(BTreeSet::len).sum()
    }
}

/// By which marks loaded rules know flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedMarks {
    /// These.
    Of(Judgement),
    /// They know nobody, and mark nobody.
    None,
    /// It can't be said: somebody changed them.
    Unknown,
}

/// Whether a rule has anything to do with flows' marks.
fn has_mark(value: &Value) -> bool {
    match value {
        Value::Object(fields) => is_mark(value) || fields.values().any(has_mark),
        Value::Array(values) => values.iter().any(has_mark),
        _ => false,
    }
}

/// `ct mark & MASK == VALUE`.
fn matched_mark(rule: &Value) -> Option<Marked> {
    let mut matches = rule.get("expr")?.as_array()?.iter().filter_map(|statement| statement.get("match"));
    let condition = matches.find(|condition| has_mark(condition))?;
    condition.get("op").filter(|op| *op == "==")?;
    let (left, right) = (condition.get("left")?, condition.get("right")?);
    // The highest bits are listed as a prefix's length.
    if let Some(prefix) = right.get("prefix") {
        let length = prefix.get("len").and_then(number).filter(|length| (1..=32).contains(length))?;
        return is_mark(left).then_some(Marked {
            value: number(prefix.get("addr")?)?,
            mask: u32::MAX.checked_shl(32 - length)?,
        });
    }
    Some(Marked { value: number(right)?, mask: masked_mark(left)? })
}

/// `ct mark set ct mark & REST | VALUE`.
fn given_mark(rule: &Value) -> Option<Marked> {
    let mut mangles = rule.get("expr")?.as_array()?.iter().filter_map(|statement| statement.get("mangle"));
    let mangle = mangles.find(|mangle| has_mark(mangle))?;
    mangle.get("key").filter(|key| has_mark(key))?;
    let [kept, value] = mangle.get("value")?.get("|")?.as_array()?.as_slice() else { return None };
    // What is set is listed among what is kept, and where that is all, so is it: nobody
    // can tell.
    let value = number(value)?;
    let kept = if is_mark(kept) { u32::MAX } else { masked_mark(kept)? };
    Some(Marked { value, mask: !kept | value })
}

/// The mask of `ct mark & MASK`.
fn masked_mark(value: &Value) -> Option<u32> {
    let [mark, mask] = value.get("&")?.as_array()?.as_slice() else { return None };
    if is_mark(mark) { number(mask) } else { None }
}

fn is_mark(value: &Value) -> bool {
    value.get("ct").is_some_and(|ct| ct.get("key").is_some_and(|key| key == "mark"))
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// Whether a key says what an object is. Each version of nft prints more of
/// what became of it since (handles, the `count` of what rules added), and none
/// of that is anybody's wish: what isn't known here isn't compared.
fn defines(kind: &str, key: &str) -> bool {
    matches!(key, "family" | "table" | "name" | "comment")
        || match kind {
            "table" => key == "flags",
            "chain" => matches!(key, "type" | "hook" | "prio" | "policy" | "dev"),
            "set" | "map" => {
                matches!(
                    key,
                    "type"
                        | "map"
                        | "flags"
                        | "size"
                        | "timeout"
                        | "gc-interval"
                        | "policy"
                        | "auto-merge"
                        | "stmt"
                )
            }
            "rule" => matches!(key, "chain" | "expr"),
            // Hostctl makes no other: whatever it is, it doesn't belong there.
            _ => key != "handle",
        }
}

/// Takes the flags `owner` and `persist` from a table, however this nft calls
/// them (1.0.6 knows no `persist`). Any other stays: what is turned off judges
/// nothing, and nft 1.0.6 prints anything for it.
fn without_holder(fields: &mut serde_json::Map<String, Value>) {
    let flags = match fields.remove("flags") {
        None => return,
        Some(Value::Array(flags)) => flags,
        Some(flag) => vec![flag],
    };
    let holder = |flag: &Value| ["owner", "persist", "unknown"].iter().any(|word| flag == word);
    let others: Vec<Value> = flags.into_iter().filter(|flag| !holder(flag)).collect();
    if !others.is_empty() {
        fields.insert("flags".into(), others.into());
    }
}

/// Where a set's elements have a link's number.
fn index_places(kind: Option<&Value>) -> Vec<usize> {
    let kinds = match kind {
        Some(Value::Array(kinds)) => kinds.as_slice(),
        Some(kind) => std::slice::from_ref(kind),
        None => &[],
    };
    kinds.iter().enumerate().filter(|(_, kind)| **kind == "iface_index").map(|(place, _)| place).collect()
}

/// An element with links' numbers in the place of their names.
fn numbered(mut element: Value, places: &[usize], index: &dyn Fn(&str) -> Option<u32>) -> Value {
    for &place in places {
        let part = match element.get_mut("concat") {
            Some(parts) => parts.get_mut(place),
            None => Some(&mut element),
        };
        if let Some(part) = part
            && let Some(number) = part.as_str().and_then(index)
        {
            *part = Value::String(number.to_string());
        }
    }
    element
}

/// The sets that a rule adds elements to. Not each version of nft lists the
/// flag `dynamic`.
fn filled_by(object: &Value) -> impl Iterator<Item = &str> {
    let statements = object.get("rule").and_then(|rule| rule.get("expr")).and_then(Value::as_array);
    statements.into_iter().flatten().filter_map(filled_set)
}

fn filled_set(statement: &Value) -> Option<&str> {
    statement.get("set")?.get("set")?.as_str()?.strip_prefix('@')
}

/// The parts of an element, as nft writes them.
fn parts(element: &Value) -> Vec<String> {
    if let Some(Value::Array(values)) = element.get("concat") {
        return values.iter().flat_map(parts).collect();
    }
    if let Some(prefix) = element.get("prefix") {
        let address = prefix.get("addr").and_then(Value::as_str).unwrap_or_default();
        return vec![format!("{address}/{}", prefix.get("len").unwrap_or(&Value::Null))];
    }
    vec![element.as_str().map_or_else(|| element.to_string(), Into::into)]
}

/// What an element may have beside its key that says what it is for.
const STATED: [&str; 2] = ["limit", "ct count"];

/// One text for all ways to write an element: its key, and what it limits.
fn canonical(element: &Value) -> String {
    let mut element = match element {
        // Of a map: its key and its value.
        Value::Array(pair) => pair.iter().map(bare).collect(),
        element => bare(element),
    };
    normalise(&mut element);
    element.to_string()
}

/// An element that counts, limits or times out is wrapped, with its key in
/// "val": without what became of it since.
fn bare(element: &Value) -> Value {
    let mut element = element.clone();
    if let Some(Value::Object(wrapped)) = element.get_mut("elem") {
        wrapped.retain(|key, _| key == "val" || STATED.contains(&key.as_str()));
        if let Some(Value::Object(count)) = wrapped.get_mut("ct count") {
            count.retain(|key, _| matches!(key.as_str(), "val" | "inv"));
        }
        if wrapped.len() == 1
            && let Some(key) = wrapped.remove("val")
        {
            return key;
        }
    }
    element
}

/// Zeroes counters and sorts anonymous sets.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                match (key.as_str(), &mut *field) {
                    ("counter", Value::Object(_)) => *field = Value::Null,
                    ("set", Value::Array(elements)) => {
                        elements.iter_mut().for_each(normalise);
                        elements.sort_by_key(Value::to_string);
                    }
                    _ => normalise(field),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(normalise),
        _ => {}
    }
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod judgement_tests;

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = r#"{"nftables": [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "hostctl", "handle": 3}},
        {"set": {"family": "inet", "name": "net4", "table": "hostctl", "type": "ipv4_addr", "handle": 8,
                 "elem": [{"prefix": {"addr": "10.2.0.0", "len": 24}}, {"prefix": {"addr": "10.1.0.0", "len": 24}}]}},
        {"rule": {"family": "inet", "table": "hostctl", "chain": "b", "handle": 9,
                  "expr": [{"counter": {"packets": 7, "bytes": 588}}, {"drop": null}]}},
        {"rule": {"family": "inet", "table": "hostctl", "chain": "b", "handle": 10, "expr": [{"accept": null}]}}]}"#;

    #[test]
    fn handles_counters_and_element_order_do_not_matter() {
        let mut one = Listing::default();
        one.add("inet", LISTED).unwrap();
        let other = LISTED
            .replace("\"handle\": 8", "\"handle\": 88")
            .replace("588", "0")
            .replace("10.2.0.0", "X")
            .replace("10.1.0.0", "10.2.0.0")
            .replace('X', "10.1.0.0");
        let mut two = Listing::default();
        two.add("inet", &other).unwrap();
        assert_eq!(one, two);
        assert_eq!((one.rules(), one.elements()), (2, 2));
    }

    #[test]
    fn the_order_of_rules_matters() {
        let swapped = LISTED
            .replace("\"accept\"", "\"X\"")
            .replace("\"drop\"", "\"accept\"")
            .replace("\"X\"", "\"drop\"");
        let (mut one, mut two) = (Listing::default(), Listing::default());
        one.add("inet", LISTED).unwrap();
        two.add("inet", &swapped).unwrap();
        assert_ne!(one, two);
    }

    #[test]
    fn elements_that_rules_added_do_not_matter() {
        let rule = r#"{"set": {"op": "update", "elem": {"meta": {"key": "iifname"}}, "set": "@net4",
                       "stmt": [{"limit": {"rate": 5, "per": "second"}}]}}, {"drop": null}"#;
        let filled = LISTED.replace(r#"{"drop": null}"#, rule);
        let emptied = filled.replace(r#"{"prefix": {"addr": "10.2.0.0", "len": 24}}, "#, "");
        let (mut one, mut two) = (Listing::default(), Listing::default());
        one.add("inet", &filled).unwrap();
        two.add("inet", &emptied).unwrap();
        assert_eq!(one, two);
        assert_eq!(one.elements(), 0);
        let another = emptied.replace("\"rate\": 5", "\"rate\": 6");
        let mut three = Listing::default();
        three.add("inet", &another).unwrap();
        assert_ne!(two, three);
    }

    #[test]
    fn who_holds_a_table_is_no_difference_and_any_other_flag_is() {
        let flagged = |flags: &str| {
            let mut listing = Listing::default();
            let table = format!(r#""name": "hostctl", "flags": {flags}, "handle": 3"#);
            listing.add("inet", &LISTED.replace(r#""name": "hostctl", "handle": 3"#, &table)).unwrap();
            listing
        };
        let mut plain = Listing::default();
        plain.add("inet", LISTED).unwrap();
        for flags in [r#""owner""#, r#"["owner", "unknown"]"#, r#"["owner", "persist"]"#, r#""persist""#] {
            assert_eq!(flagged(flags), plain, "{flags}");
        }
        for flags in [r#""dormant""#, r#"["dormant", "owner"]"#, r#""hostctl""#, r#"["owner", 7]"#] {
            assert_ne!(flagged(flags), plain, "{flags}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["", "[]", "{}", "{\"nftables\": 1}", "{\"nftables\": [1]}"] {
            assert!(Listing::default().add("inet", text).is_err(), "{text}");
        }
    }
}
