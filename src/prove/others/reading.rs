//! Rules' comparisons (libnftables-json(5)) → conditions. What isn't known of one
//! becomes a question.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::ownership::LINK_GROUP;
use crate::packet::Range;
use crate::packet::protocol::TCP;
use crate::reach::subject::{Field, Kind, state};

use super::super::diagram::Diagram;
use super::super::header::Boxes;
use super::super::links::LinkNumbers;
use super::super::rules::expression::{Left, Read, protocol_of, status};
use super::super::rules::words::Type;
use super::super::rules::{Unknown, only};
use super::condition::{Condition, Side};
use super::elements::{Elements, SetKey, bare};
use super::mark::{Whose, masked};
use super::question::Questions;
use super::tcp;

/// Reads what a rule asks.
pub struct Reading<'r> {
    pub links: &'r mut LinkNumbers,
    pub questions: &'r mut Questions,
    pub sets: &'r HashMap<SetKey, Elements>,
    /// What rules change of packets: questions about it are asked anew each time.
    pub changed: &'r HashSet<String>,
    /// The rule's family and table.
    pub of: (&'r str, &'r str),
    /// What of the rule isn't known.
    pub unknown: Vec<String>,
}

impl Reading<'_> {
    /// Whether packets are seen as frames.
    fn sees_frames(&self) -> bool {
        matches!(self.of.0, "bridge" | "netdev" | "arp")
    }

    /// What a `match` statement asks.
    pub fn comparison(&mut self, body: &Value) -> Condition {
        let left = body.get("left").unwrap_or(&Value::Null);
        let right = body.get("right").unwrap_or(&Value::Null);
        self.compared(left, body.get("op").and_then(Value::as_str).unwrap_or("=="), right)
    }

    /// Whether `left` is `right`, by an operator.
    pub fn compared(&mut self, left: &Value, operator: &str, right: &Value) -> Condition {
        let known = match masked(left) {
            Some(mark) => self.marked(mark, operator, right),
            None => self.special(left, operator, right).or_else(|_| self.fields(left, operator, right)),
        };
        known.unwrap_or_else(|_| self.ask(left, operator, right))
    }

    /// A question that is the rule's own.
    pub fn once(&mut self, text: &str) -> Condition {
        self.unknown.push(text.into());
        Condition::Question(self.questions.once(text))
    }

    /// A comparison that isn't known: a packet without what is read matches
    /// neither way.
    fn ask(&mut self, left: &Value, operator: &str, right: &Value) -> Condition {
        let (whole, short) = (left.to_string(), name(left));
        self.unknown.push(short.clone());
        let inverse = operator == "!=";
        let (bit, first) = if self.changed.iter().any(|changed| whole.contains(changed)) {
            (self.questions.once(&short), inverse)
        } else {
            let operator = if inverse { "==" } else { operator };
            self.questions.either(&format!("{whole} {operator} {right}"), &short, inverse)
        };
        let question = Condition::Question(bit);
        let question = if first == inverse { question } else { question.not() };
        let mut all = needs(left);
        all.push(question);
        Condition::All(all)
    }

    fn marked(
        &mut self,
        (whose, mask): (Whose, u32),
        operator: &str,
        right: &Value,
    ) -> Result<Condition, Unknown> {
        let unknown = || Unknown(right.to_string());
        if self.sees_frames() && whose == Whose::Flow {
            return Err(unknown());
        }
        let number =
            |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok()).ok_or_else(unknown);
        let one = |value: &Value| match value.get("range").and_then(Value::as_array).map(Vec::as_slice) {
            Some([first, last]) => Ok((number(first)?, number(last)?)),
            Some(_) => Err(unknown()),
            None => number(value).map(|number| (number, number)),
        };
        let ranges = match operator {
            "==" | "!=" => {
                let all = self.elements(right).filter(|all| !all.grows && !all.limits).ok_or_else(unknown)?;
                all.values.iter().map(one).collect::<Result<Vec<_>, _>>()?
            }
            ">=" => vec![(number(right)?, u32::MAX)],
            "<=" => vec![(0, number(right)?)],
            ">" => number(right)?.checked_add(1).map(|first| (first, u32::MAX)).into_iter().collect(),
            "<" => number(right)?.checked_sub(1).map(|last| (0, last)).into_iter().collect(),
            _ => return Err(unknown()),
        };
        let marked = Condition::Marked(whose, mask, ranges);
        Ok(if operator == "!=" { marked.not() } else { marked })
    }

    /// What isn't a field: routing's view, header chains, groups of links.
    fn special(&mut self, left: &Value, operator: &str, right: &Value) -> Result<Condition, Unknown> {
        let unknown = || Unknown(left.to_string());
        let (kind, body) = only(left)?;
        let key = body.get("key").and_then(Value::as_str).unwrap_or_default();
        if !["==", "!=", "in"].contains(&operator) {
            return Err(unknown());
        }
        let not = operator == "!=";
        let answer = |holds: Condition| Ok(if not { holds.not() } else { holds });
        match (kind, key) {
            ("payload" | "&", _) if !self.sees_frames() => {
                let first = tcp::of_first(left, operator, right).ok_or_else(unknown)?;
                let mut new = Boxes::new(1);
                new.push(&[(state::NEW, state::NEW)], Diagram::ALWAYS);
                let new = Condition::Fields(vec![Field::State], new);
                let later = Condition::All(vec![new.clone().not(), self.ask(left, operator, right)]);
                let first = if first { new } else { Condition::never() };
                Ok(Condition::All(vec![
                    Condition::Is(None, Some(TCP)),
                    Condition::Either(vec![first, later]),
                ]))
            }
            ("fib", _) if !self.sees_frames() => answer(fib(body, right).ok_or_else(unknown)?),
            // What the spec lets pass has no extension headers, as far as it is
            // looked at here.
            ("exthdr", _) if !self.sees_frames() => match (body.get("field"), right.as_bool()) {
                (None, Some(exists)) => answer(if exists { Condition::never() } else { Condition::Any }),
                _ => Ok(Condition::never()),
            },
            ("meta", "iifgroup" | "oifgroup" | "iifkind" | "oifkind") => {
                let field = if key.starts_with("iif") { Field::In } else { Field::Out };
                let ours = if key.ends_with("group") { json!(LINK_GROUP) } else { json!("bridge") };
                let all = self.elements(right).ok_or_else(unknown)?;
                let bridges = self.links_called(crate::ownership::BRIDGE_PREFIX);
                let is = Condition::Fields(vec![field], bridges);
                let others = self.ask(left, "==", right);
                let others = Condition::All(vec![is.clone().not(), others]);
                answer(if all.values.contains(&ours) { Condition::Either(vec![is, others]) } else { others })
            }
            _ => Err(unknown()),
        }
    }

    /// The members of what is compared with; none where it is a set that isn't
    /// there.
    pub fn elements(&self, right: &Value) -> Option<Elements> {
        if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
            let (family, table) = self.of;
            return self.sets.get(&(family.into(), table.into(), name.into())).cloned();
        }
        let mut found = Elements::default();
        match (right, right.get("set").and_then(Value::as_array)) {
            (_, Some(values)) | (Value::Array(values), _) => found.add(values),
            _ => found.add(std::slice::from_ref(right)),
        }
        Some(found)
    }

    fn links_called(&self, prefix: &str) -> Boxes {
        let mut boxes = Boxes::new(1);
        for name in self.links.names().filter(|name| name.starts_with(prefix)) {
            boxes.push(&[self.links.known(name).unwrap_or((1, 0))], Diagram::ALWAYS);
        }
        boxes
    }

    fn fields(&mut self, left: &Value, operator: &str, right: &Value) -> Result<Condition, Unknown> {
        let unknown = || Unknown(left.to_string());
        let not = operator == "!=";
        let reads = match Left::parse(left)? {
            Left::Fields(reads) => reads,
            Left::Masked(read, mask) if ["==", "!="].contains(&operator) => {
                let (first, last) = read.kind.range(right, self.links)?;
                if first != last || !self.is_said(read.field) {
                    return Err(unknown());
                }
                let bits = Condition::Bits(read.field, mask, first);
                return Ok(Condition::All(vec![Condition::Has(read), if not { bits.not() } else { bits }]));
            }
            _ => return Err(unknown()),
        };
        if !reads.iter().all(|read| self.is_said(read.field)) {
            return Err(unknown());
        }
        let kinds: Vec<Type> = reads.iter().map(|read| read.kind).collect();
        let holds = match (operator, kinds.as_slice()) {
            ("in" | "==" | "!=", [Type::CtStatus]) => {
                let all = self.elements(right).ok_or_else(unknown)?;
                let one = |value: &Value| {
                    let field = value.as_str().and_then(status)?;
                    let mut boxes = Boxes::new(1);
                    boxes.push(&[(1, 1)], Diagram::ALWAYS);
                    Some(Condition::Fields(vec![field], boxes))
                };
                let bits: Option<Vec<_>> = all.values.iter().map(one).collect();
                Condition::Either(bits.ok_or_else(unknown)?)
            }
            ("in" | "==" | "!=", _) => self.among(&reads, &kinds, right)?,
            (_, [kind]) => {
                let (first, last) = kind.range(right, self.links)?;
                let range = match operator {
                    ">=" => (first, u128::MAX),
                    "<=" => (0, last),
                    ">" => (last.saturating_add(1), u128::MAX),
                    "<" if first == 0 => (1, 0),
                    "<" => (0, first - 1),
                    _ => return Err(unknown()),
                };
                let mut boxes = Boxes::new(1);
                boxes.push(&[range], Diagram::ALWAYS);
                Condition::Fields(reads.iter().map(|read| read.field).collect(), boxes)
            }
            _ => return Err(unknown()),
        };
        let mut all: Vec<Condition> = reads.into_iter().map(Condition::Has).collect();
        all.push(if not { holds.not() } else { holds });
        Ok(Condition::All(all))
    }

    /// Whether headers say at these hooks what a field is: who opened a flow, and
    /// the frame that it is in, isn't looked at of packets, nor what tracking says
    /// of frames.
    fn is_said(&self, field: Field) -> bool {
        match field {
            Field::OpenedBy | Field::OpenedTo | Field::Target | Field::Limits => false,
            Field::SourceMac | Field::DestinationMac => self.sees_frames(),
            Field::State | Field::Reply | Field::Confirmed | Field::Translated | Field::Addressed => {
                !self.sees_frames()
            }
            _ => true,
        }
    }

    fn among(&mut self, reads: &[Read], kinds: &[Type], right: &Value) -> Result<Condition, Unknown> {
        let all = self.elements(right).ok_or_else(|| Unknown(right.to_string()))?;
        let mut boxes = Boxes::new(kinds.len());
        for value in &all.values {
            for row in self.rows(kinds, value)? {
                boxes.push(&row, Diagram::ALWAYS);
            }
        }
        let mut found = Condition::Fields(reads.iter().map(|read| read.field).collect(), boxes);
        if all.grows {
            let key = format!("{:?} {right} {reads:?}", self.of);
            self.unknown.push("what rules add to a set".into());
            let more = Condition::Question(self.questions.same(&key, "what rules add to a set"));
            found = Condition::Either(vec![found, more]);
        }
        if all.limits {
            let within = self.once("the limit of an element");
            found = Condition::All(vec![found, within]);
        }
        Ok(found)
    }

    /// The boxes that an element stands for: none, where it is a link that isn't
    /// there; several, where it is a pattern of names.
    fn rows(&mut self, kinds: &[Type], value: &Value) -> Result<Vec<Vec<Range>>, Unknown> {
        let parts = match value.get("concat") {
            Some(Value::Array(parts)) => parts.as_slice(),
            _ => std::slice::from_ref(value),
        };
        if parts.len() != kinds.len() {
            return Err(Unknown(value.to_string()));
        }
        let mut rows: Vec<Vec<Range>> = vec![Vec::new()];
        for (kind, part) in kinds.iter().zip(parts) {
            let ranges = self.ranges(*kind, bare(part))?;
            rows = rows
                .iter()
                .flat_map(|row| ranges.iter().map(move |range| row.iter().copied().chain([*range]).collect()))
                .collect();
        }
        Ok(rows)
    }

    fn ranges(&mut self, kind: Type, value: &Value) -> Result<Vec<Range>, Unknown> {
        match (kind, value.as_str().and_then(|text| text.strip_suffix('*'))) {
            (Type::Name, Some(prefix)) if !prefix.contains(['*', '\\']) => {
                let names: Vec<String> =
                    self.links.names().filter(|name| name.starts_with(prefix)).map(Into::into).collect();
                Ok(names.iter().filter_map(|name| self.links.known(name)).collect())
            }
            (Type::Index, None) if value.is_number() => Ok(Vec::new()),
            _ => Ok(vec![kind.range(value, self.links)?]),
        }
    }
}

/// What a packet has to be for an expression to have a value.
fn needs(left: &Value) -> Vec<Condition> {
    let Ok((kind, body)) = only(left) else { return Vec::new() };
    match (kind, body) {
        ("payload", _) => {
            let protocol = body.get("protocol").and_then(Value::as_str).unwrap_or_default();
            let kind = match protocol {
                "ip" => Some(Kind::Ipv4),
                "ip6" => Some(Kind::Ipv6),
                "arp" => Some(Kind::Arp),
                _ => None,
            };
            match (kind, protocol_of(protocol)) {
                (Some(kind), _) => vec![Condition::Is(Some(kind), None)],
                (None, Some((number, kind))) => vec![Condition::Is(kind, Some(number))],
                (None, None) => Vec::new(),
            }
        }
        ("tcp option" | "sctp chunk", _) => {
            protocol_of(kind).map(|(number, kind)| Condition::Is(kind, Some(number))).into_iter().collect()
        }
        (_, Value::Array(parts)) => parts.iter().flat_map(needs).collect(),
        _ => Vec::new(),
    }
}

/// An expression, in short.
fn name(left: &Value) -> String {
    let Ok((kind, body)) = only(left) else { return "a value".into() };
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    match (kind, body) {
        ("payload", _) => match (text("protocol"), text("field")) {
            (Some(protocol), Some(field)) => format!("{protocol} {field}"),
            _ => "bytes of the packet".into(),
        },
        ("fib", _) => "what routing says (fib)".into(),
        ("&" | "|" | "^" | "<<" | ">>", Value::Array(parts)) => parts.first().map(name).unwrap_or_default(),
        ("concat", Value::Array(parts)) => parts.iter().map(name).collect::<Vec<_>>().join(" . "),
        _ => match text("key").or_else(|| text("name")) {
            Some(key) => format!("{kind} {key}"),
            None => kind.into(),
        },
    }
}

/// What routing says of addresses that packets have which the spec lets pass:
/// guests, the tailnet and the internet have routes by the links that they come
/// by.
fn fib(body: &Value, right: &Value) -> Option<Condition> {
    let flags: Vec<&str> = match body.get("flags") {
        Some(Value::Array(flags)) => flags.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(flag)) => vec![flag],
        _ => Vec::new(),
    };
    match body.get("result").and_then(Value::as_str)? {
        "oif" | "oifname" if flags.contains(&"saddr") => match right {
            Value::Bool(exists) => Some(if *exists { Condition::Any } else { Condition::never() }),
            Value::Number(number) if number.as_u64() == Some(0) => Some(Condition::never()),
            _ => None,
        },
        "type" => {
            let side = if flags.contains(&"daddr") { Side::Destination } else { Side::Source };
            let values = right.get("set").and_then(Value::as_array).map(Vec::as_slice);
            let values = values.unwrap_or(std::slice::from_ref(right));
            let words: Option<Vec<String>> =
                values.iter().map(|value| value.as_str().map(Into::into)).collect();
            Some(Condition::Routed(side, words?))
        }
        _ => None,
    }
}
