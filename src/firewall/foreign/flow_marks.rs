//! Which bits of flows' marks (`ct mark`) other programs' rules write. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ruleset::{Foreign, Key, text};
use crate::firewall::live::rule_text::{self, only};

/// Hooks that no packet between guests passes, nor one of theirs that leads out.
const HOSTS_OWN: [&str; 2] = ["input", "output"];

/// A rule that writes bits of flows' marks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkWriter {
    /// Where it is.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Its number.
    pub handle: Option<u64>,
    /// The rule in words.
    pub text: String,
    /// Bits that may be 1 then, and need not have been.
    pub sets: u32,
    /// Bits that are 0 then, whatever they were.
    pub clears: u32,
    /// Whether it is known which: nft's JSON has but the names of some of iptables'
    /// targets.
    pub is_known: bool,
}

/// What a value has of the mark that it is written into, bit by bit: bits of the
/// packet's mark may be anything, unless the rule asks for them.
#[derive(Debug, Clone, Copy)]
struct Bits {
    /// As they were.
    same: u32,
    /// Known to be 1.
    one: u32,
    /// Known to be 0.
    zero: u32,
}

impl Bits {
    const UNKNOWN: Self = Self { same: 0, one: 0, zero: 0 };
    const SAME: Self = Self { same: u32::MAX, one: 0, zero: 0 };

    const fn number(number: u32) -> Self {
        Self { same: 0, one: number, zero: !number }
    }

    const fn and(self, other: Self) -> Self {
        Self {
            same: self.same & (other.same | other.one) | other.same & self.one,
            one: self.one & other.one,
            zero: self.zero | other.zero,
        }
    }

    const fn or(self, other: Self) -> Self {
        Self {
            same: self.same & (other.same | other.zero) | other.same & self.zero,
            one: self.one | other.one,
            zero: self.zero & other.zero,
        }
    }

    const fn xor(self, other: Self) -> Self {
        Self {
            same: self.same & other.zero | other.same & self.zero,
            one: self.one & other.zero | self.zero & other.one,
            zero: self.one & other.one | self.zero & other.zero | self.same & other.same,
        }
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// Whether it is `meta mark` or `ct mark`.
fn is_mark(value: &Value, of: &str) -> bool {
    only(value).is_some_and(|(kind, body)| kind == of && text(body, "key") == "mark")
}

/// What a value comes to, where the packet's mark is `packet`.
fn computed(value: &Value, packet: Bits) -> Bits {
    if let Some(number) = number(value) {
        return Bits::number(number);
    }
    if is_mark(value, "ct") {
        return Bits::SAME;
    }
    if is_mark(value, "meta") {
        return packet;
    }
    let Some((kind, body)) = only(value) else { return Bits::UNKNOWN };
    let Some([left, right]) = body.as_array().map(Vec::as_slice) else { return Bits::UNKNOWN };
    let (left, right) = (computed(left, packet), computed(right, packet));
    match kind {
        "&" => left.and(right),
        "|" => left.or(right),
        "^" => left.xor(right),
        _ => Bits::UNKNOWN,
    }
}

/// What a rule's statement says of the packet's mark.
fn known_packet(statement: &Value) -> Option<Bits> {
    let condition = statement.get("match").filter(|condition| text(condition, "op") == "==")?;
    let (left, value) = (condition.get("left")?, number(condition.get("right")?)?);
    if is_mark(left, "meta") {
        return Some(Bits::number(value));
    }
    let [mark, mask] = left.get("&")?.as_array()?.as_slice() else { return None };
    let mask = number(mask).filter(|_| is_mark(mark, "meta"))?;
    Some(Bits { same: 0, one: value & mask, zero: !value & mask })
}

/// What the statements of a rule write: bits that may be set, and that are cleared;
/// none where they write none; and whether that is known.
fn written(statements: &[Value]) -> Option<(u32, u32, bool)> {
    let mut packet = Bits::UNKNOWN;
    let mut found: Option<(u32, u32, bool)> = None;
    for statement in statements {
        if let Some(known) = known_packet(statement) {
            packet = known;
        }
        let Some((kind, body)) = only(statement) else { continue };
        match kind {
            "mangle" if body.get("key").is_some_and(|key| is_mark(key, "meta")) => {
                packet = computed(body.get("value")?, packet);
                // What was a flow's is a packet's now, and may be another flow's later.
                packet = Bits { same: 0, ..packet };
            }
            "mangle" if body.get("key").is_some_and(|key| is_mark(key, "ct")) => {
                let value = body.get("value")?;
                let Bits { same, one: _, zero } = computed(value, packet);
                // Of `--save-mark` with masks nft's words don't say what is kept.
                let clears = if copies_packet(value) { 0 } else { zero };
                let (sets, cleared, known) = found.unwrap_or((0, 0, true));
                found = Some((sets | !(same | zero), cleared | clears, known));
            }
            "xt" if text(body, "type") == "target" && text(body, "name") == "CONNMARK" => {
                found = Some((u32::MAX, 0, false));
            }
            _ => {}
        }
    }
    found
}

fn copies_packet(value: &Value) -> bool {
    is_mark(value, "meta")
        || match value {
            Value::Object(fields) => fields.values().any(copies_packet),
            Value::Array(values) => values.iter().any(copies_packet),
            _ => false,
        }
}

/// The chains that a value leads to.
fn targets<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                if matches!(key.as_str(), "jump" | "goto") {
                    found.extend(field.get("target").and_then(Value::as_str));
                }
                targets(field, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| targets(value, found)),
        _ => {}
    }
}

impl Foreign {
    /// The rules that write any of these bits into the marks of flows that guests'
    /// packets may be of.
    pub fn mark_writers(&self, mask: u32) -> Vec<MarkWriter> {
        let passed = self.passed();
        let mut found = Vec::new();
        for (key, chain) in self.chains.iter().filter(|(key, _)| passed.contains(key)) {
            for rule in &chain.rules {
                let Some((sets, clears, is_known)) = written(&rule.statements) else { continue };
                if (sets | clears) & mask == 0 {
                    continue;
                }
                let (family, table, chain) = key.clone();
                let text = rule_text::rule(&rule.statements);
                found.push(MarkWriter {
                    family,
                    table,
                    chain,
                    handle: rule.handle,
                    text,
                    sets,
                    clears,
                    is_known,
                });
            }
        }
        found
    }

    /// The chains that a packet may pass that isn't the host's own.
    fn passed(&self) -> BTreeSet<&Key> {
        let names: BTreeMap<(&str, &str, &str), &Key> =
            self.chains.keys().map(|key| ((key.0.as_str(), key.1.as_str(), key.2.as_str()), key)).collect();
        let is_entered =
            |body: &Value| body.get("hook").is_some() && !HOSTS_OWN.contains(&text(body, "hook"));
        let mut waiting: Vec<&Key> =
            self.chains.iter().filter(|(_, chain)| is_entered(&chain.body)).map(|(key, _)| key).collect();
        // A map of verdicts may lead anywhere in its table.
        let mut of_maps: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (_, body) in &self.others {
            targets(body, of_maps.entry((text(body, "family"), text(body, "table"))).or_default());
        }
        let mut passed = BTreeSet::new();
        while let Some(key) = waiting.pop() {
            if !passed.insert(key) {
                continue;
            }
            let (family, table) = (key.0.as_str(), key.1.as_str());
            let mut led = of_maps.get(&(family, table)).cloned().unwrap_or_default();
            for rule in self.chains.get(key).iter().flat_map(|chain| &chain.rules) {
                rule.statements.iter().for_each(|statement| targets(statement, &mut led));
            }
            waiting.extend(led.into_iter().filter_map(|chain| names.get(&(family, table, chain)).copied()));
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta() -> Value {
        json!({"meta": {"key": "mark"}})
    }

    fn ct() -> Value {
        json!({"ct": {"key": "mark"}})
    }

    fn set(value: Value) -> Value {
        json!({"mangle": {"key": ct(), "value": value}})
    }

    #[test]
    fn which_bits_a_rule_writes() {
        let all = u32::MAX;
        for (statements, expected) in [
            (vec![json!({"accept": null})], None),
            (vec![json!({"match": {"op": "==", "left": ct(), "right": 7}})], None),
            (vec![set(json!(7))], Some((7, !7, true))),
            (vec![set(meta())], Some((all, 0, true))),
            (vec![set(json!({"|": [ct(), 0x80]}))], Some((0x80, 0, true))),
            (vec![set(json!({"&": [ct(), 0xffff_ff00_u32]}))], Some((0, 0xff, true))),
            (
                vec![set(json!({"|": [{"&": [ct(), 0x0fff_ffff]}, 0x3000_0000]}))],
                Some((0x3000_0000, 0xc000_0000, true)),
            ),
            (vec![set(json!({"&": [meta(), 0x00ff_0000]}))], Some((0x00ff_0000, 0, true))),
            (vec![set(json!({"^": [ct(), 1]}))], Some((1, 0, true))),
            (vec![set(json!({"<<": [ct(), 1]}))], Some((all, 0, true))),
            // wg-quick's.
            (
                vec![json!({"match": {"op": "==", "left": meta(), "right": 0xca6c}}), set(meta())],
                Some((0xca6c, 0, true)),
            ),
            (
                vec![
                    json!({"match": {"op": "==", "left": {"&": [meta(), 0xf000_0000_u32]}, "right": 0x1000_0000}}),
                    set(meta()),
                ],
                Some((0x1fff_ffff, 0, true)),
            ),
            (vec![json!({"mangle": {"key": meta(), "value": 9}}), set(meta())], Some((9, 0, true))),
            (vec![json!({"xt": {"type": "target", "name": "CONNMARK"}})], Some((all, 0, false))),
            (vec![json!({"xt": {"type": "match", "name": "connmark"}})], None),
        ] {
            assert_eq!(written(&statements), expected, "{statements:?}");
        }
    }

    #[test]
    fn only_what_guests_packets_may_pass_counts() {
        let chain = |name: &str, hook: &str| {
            let mut body = json!({"family": "ip", "table": "t", "name": name});
            if !hook.is_empty() {
                body["hook"] = json!(hook);
            }
            json!({ "chain": body })
        };
        let rule = |chain: &str, statement: Value| json!({"rule": {"family": "ip", "table": "t", "chain": chain, "handle": 7, "expr": [statement]}});
        let jump = |target: &str| json!({"jump": {"target": target}});
        let mut foreign = Foreign::default();
        let objects = [
            chain("fwd", "forward"),
            chain("out", "output"),
            chain("deep", ""),
            chain("own", ""),
            chain("mapped", ""),
            json!({"map": {"family": "ip", "table": "t", "name": "m", "elem": [["1.1.1.1", jump("mapped")]]}}),
            rule("fwd", jump("deep")),
            rule("out", jump("own")),
            rule("deep", set(json!({"|": [ct(), 0x1000_0000]}))),
            rule("own", set(json!(0x2000_0000))),
            rule("out", set(json!(0x2000_0000))),
            rule("mapped", set(json!({"|": [ct(), 0x4000_0000]}))),
        ];
        foreign.add(&json!({ "nftables": objects }).to_string()).unwrap();
        let found: Vec<_> =
            foreign.mark_writers(0xf000_0000).into_iter().map(|one| (one.chain, one.sets)).collect();
        assert_eq!(found, [("deep".into(), 0x1000_0000), ("mapped".into(), 0x4000_0000)]);
        assert_eq!(foreign.mark_writers(0x1f00), []);
    }
}
