//! Statements: what a rule asks and what it does.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::packet::Range;
use crate::reach::subject::Field;

use super::super::diagram::Diagram;
use super::super::header::Boxes;
use super::super::links::LinkNumbers;
use super::expression::{Left, at_least, status};
use super::words::Type;
use super::{Unknown, exactly, only};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(usize),
    Goto(usize),
    /// Accepted, with another source address, from these ports; only in a chain
    /// for NAT.
    Masquerade(Option<(u16, u16)>),
}

/// One of a rule's statements.
#[derive(Debug, Clone)]
pub enum Statement {
    Match(Match),
    /// One of a map's verdicts, or none.
    Map(Left, Right),
    Verdict(Verdict),
    /// Counters, logs and what else leaves the packet's way as it is.
    Aside,
}

/// A comparison.
#[derive(Debug, Clone)]
pub struct Match {
    pub left: Left,
    pub right: Right,
    pub not: bool,
}

/// What is compared with.
#[derive(Debug, Clone)]
pub enum Right {
    /// Members that stand here.
    Boxes(Boxes),
    /// A named set or map, by its place in its table.
    Named(usize),
    /// Any of these fields is 1.
    Bits(Vec<Field>),
    /// The value of a [`super::expression::Meaning`], by operator.
    Meaning(String, Value),
}

/// The bit of [`Field::Limits`] that says whether what a set allows is used up,
/// and whether its elements match then, or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub bit: u32,
    pub over: bool,
}

/// A named set or map.
#[derive(Debug, Clone)]
pub struct Set {
    pub name: String,
    pub kinds: Vec<Type>,
    pub boxes: Boxes,
    /// What a map's boxes stand for: [`Set::verdict`].
    pub verdicts: Vec<Verdict>,
    pub limit: Option<Limit>,
    /// Rules fill it, or its elements end by themselves: what is in it isn't read.
    pub filled: bool,
    /// Rows by the values of their first column, where these are few.
    rows: HashMap<u128, Vec<usize>>,
    /// The other rows.
    wide: Vec<usize>,
}

/// A range of more values isn't looked up by each.
const FEW: u128 = 2;

/// What a verdict map's first verdict is in a diagram.
const VERDICTS: u32 = 16;

impl Set {
    /// The verdict that a terminal stands for.
    pub fn verdict(&self, terminal: u32) -> Option<Verdict> {
        let index = usize::try_from(terminal.checked_sub(VERDICTS)?).ok()?;
        self.verdicts.get(index).copied()
    }

    /// A map's verdicts, each with its place in a diagram.
    pub fn verdicts(&self) -> impl Iterator<Item = (Diagram, Verdict)> {
        (VERDICTS..).map(Diagram::terminal).zip(self.verdicts.iter().copied())
    }

    /// The elements whose first column has a value, and those that may.
    pub fn with_first(&self, value: u128) -> Boxes {
        let rows = self.rows.get(&value).into_iter().flatten().chain(&self.wide);
        let mut boxes = Boxes::new(self.boxes.width);
        for &row in rows {
            let width = self.boxes.width;
            if let (Some(ranges), Some(value)) =
                (self.boxes.ranges.get(row * width..(row + 1) * width), self.boxes.values.get(row))
            {
                boxes.push(ranges, *value);
            }
        }
        boxes
    }

    fn index(&mut self) {
        for (row, ranges) in self.boxes.ranges.chunks(self.boxes.width.max(1)).enumerate() {
            match ranges.first() {
                Some((first, last)) if last - first < FEW => {
                    for value in *first..=*last {
                        self.rows.entry(value).or_default().push(row);
                    }
                }
                _ => self.wide.push(row),
            }
        }
    }

    pub fn parse(
        kind: &str,
        body: &Value,
        limits: &mut u32,
        chains: &HashMap<String, usize>,
        links: &mut LinkNumbers,
    ) -> Result<Self, Unknown> {
        const KNOWN: [&str; 12] = [
            "family", "name", "table", "type", "handle", "flags", "elem", "map", "size", "timeout", "stmt",
            "comment",
        ];
        // What rules fill has no elements in a listing that was only loaded.
        const FLAGS: [&str; 3] = ["interval", "timeout", "dynamic"];
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
        let unknown = || Unknown(format!("the {kind} {name}"));
        let object = body.as_object().ok_or_else(unknown)?;
        let flags: Vec<&Value> =
            object.get("flags").and_then(Value::as_array).into_iter().flatten().collect();
        let filled = flags.iter().any(|flag| **flag != "interval");
        let verdicts = object.get("map").map(|map| map == "verdict");
        if !object.keys().all(|key| KNOWN.contains(&key.as_str()))
            || !flags.iter().all(|flag| FLAGS.iter().any(|known| *flag == known))
            || verdicts != (kind == "map").then_some(true)
        {
            return Err(unknown());
        }
        let kinds: Vec<Type> = match object.get("type") {
            Some(Value::String(name)) => vec![Type::named(name)?],
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| Type::named(name.as_str().ok_or_else(unknown)?))
                .collect::<Result<_, _>>()?,
            // nft 1.1 lists a set's `typeof` as it was written.
            Some(Value::Object(written)) => Left::parse(written.get("typeof").ok_or_else(unknown)?)?.kinds(),
            _ => return Err(unknown()),
        };
        let limit = match object.get("stmt").map(|stated| stated.as_array().map(Vec::as_slice)) {
            None => None,
            Some(Some([stated])) => {
                let (kind, body) = only(stated)?;
                let limit = Limit { bit: *limits, over: is_over(kind, body)? };
                *limits += 1;
                Some(limit)
            }
            Some(_) => return Err(unknown()),
        };
        if *limits > 8 {
            return Err(Unknown("a table with more than eight kinds of limits".into()));
        }
        let none = Value::Array(Vec::new());
        let elements = if filled { &none } else { object.get("elem").unwrap_or(&none) };
        let elements = elements.as_array().ok_or_else(unknown)?;
        let mut set = Self {
            name: name.into(),
            boxes: Boxes::new(kinds.len()),
            kinds,
            verdicts: Vec::new(),
            limit,
            filled,
            rows: HashMap::new(),
            wide: Vec::new(),
        };
        if kind == "map" {
            set.boxes = map(&set.kinds, elements, &mut set.verdicts, chains, links)?;
        } else {
            for element in elements {
                let element = match set.limit {
                    Some(limit) => bounded(element, limit.over)?,
                    None => element,
                };
                set.boxes.push(&row(&set.kinds, element, links)?, Diagram::ALWAYS);
            }
        }
        set.index();
        Ok(set)
    }
}

/// The pairs of a verdict map.
fn map(
    kinds: &[Type],
    pairs: &[Value],
    verdicts: &mut Vec<Verdict>,
    chains: &HashMap<String, usize>,
    links: &mut LinkNumbers,
) -> Result<Boxes, Unknown> {
    let mut boxes = Boxes::new(kinds.len());
    let mut known: HashMap<Verdict, usize> = HashMap::new();
    for pair in pairs {
        let Some([key, verdict]) = pair.as_array().map(Vec::as_slice) else {
            return Err(Unknown(format!("the pair {pair}")));
        };
        let verdict = Verdict::parse(verdict, chains)?;
        let index = *known.entry(verdict).or_insert_with(|| {
            verdicts.push(verdict);
            verdicts.len() - 1
        });
        let index = u32::try_from(index).map_err(|_| Unknown("a map of so many verdicts".into()))?;
        boxes.push(&row(kinds, key, links)?, Diagram::terminal(VERDICTS + index));
    }
    Ok(boxes)
}

/// An element's ranges.
fn row(kinds: &[Type], element: &Value, links: &mut LinkNumbers) -> Result<Vec<Range>, Unknown> {
    let parts = match element.get("concat") {
        Some(Value::Array(parts)) => parts.as_slice(),
        _ => std::slice::from_ref(element),
    };
    if parts.len() != kinds.len() {
        return Err(Unknown(format!("the element {element}")));
    }
    kinds.iter().zip(parts).map(|(kind, part)| kind.range(part, links)).collect()
}

/// Whether what is over a limit matches it, or what is within.
fn is_over(kind: &str, body: &Value) -> Result<bool, Unknown> {
    let unknown = || Unknown(format!("the limit {kind} {body}"));
    if !["limit", "ct count"].contains(&kind) {
        return Err(unknown());
    }
    match body.get("inv") {
        None => Ok(false),
        Some(Value::Bool(over)) => Ok(*over),
        Some(_) => Err(unknown()),
    }
}

/// The key of an element that limits as the others of its set do.
fn bounded(element: &Value, over: bool) -> Result<&Value, Unknown> {
    let unknown = || Unknown(format!("the element {element} of a set that limits"));
    let fields = element.get("elem").and_then(Value::as_object).ok_or_else(unknown)?;
    let mut stated = fields.iter().filter(|(key, _)| *key != "val");
    match (stated.next(), stated.next()) {
        (Some((kind, body)), None) if is_over(kind, body)? == over => fields.get("val").ok_or_else(unknown),
        _ => Err(unknown()),
    }
}

impl Verdict {
    fn parse(value: &Value, chains: &HashMap<String, usize>) -> Result<Self, Unknown> {
        let unknown = || Unknown(format!("the statement {value}"));
        let (kind, body) = only(value)?;
        let target = || {
            let name = body.get("target").and_then(Value::as_str);
            name.and_then(|name| chains.get(name)).copied().ok_or_else(unknown)
        };
        Ok(match kind {
            "accept" if body.is_null() => Self::Accept,
            "drop" if body.is_null() => Self::Drop,
            "return" if body.is_null() => Self::Return,
            "jump" => Self::Jump(target()?),
            "goto" => Self::Goto(target()?),
            "masquerade" => Self::Masquerade(ports(body).ok_or_else(unknown)?),
            _ => return Err(unknown()),
        })
    }
}

/// The ports that a masquerade takes; none: any.
fn ports(body: &Value) -> Option<Option<(u16, u16)>> {
    if body.is_null() {
        return Some(None);
    }
    let object = body.as_object()?;
    if !object.keys().all(|key| ["port", "flags"].contains(&key.as_str())) {
        return None;
    }
    let Some(port) = object.get("port") else { return Some(None) };
    let port_number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    match port.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        Some([first, last]) => Some(Some((port_number(first)?, port_number(last)?))),
        Some(_) => None,
        None => port_number(port).map(|port| Some((port, port))),
    }
}

/// What the statements of a table refer to.
pub struct Scope<'s> {
    pub sets: &'s [Set],
    pub chains: &'s HashMap<String, usize>,
    pub links: &'s mut LinkNumbers,
}

impl Scope<'_> {
    /// The set called `@name`, where it has these types.
    fn named(&self, name: &str, kinds: &[Type]) -> Result<usize, Unknown> {
        // What is read as bytes may be listed as an address.
        let fits = |a: &Type, b: &Type| {
            a == b || matches!((a, b), (Type::Integer, Type::Ipv6) | (Type::Ipv6, Type::Integer))
        };
        let found = self.sets.iter().position(|set| {
            name.strip_prefix('@') == Some(set.name.as_str())
                && set.kinds.len() == kinds.len()
                && set.kinds.iter().zip(kinds).all(|(a, b)| fits(a, b))
        });
        found.ok_or_else(|| Unknown(format!("the set {name}, as it is asked")))
    }

    pub fn statement(&mut self, value: &Value) -> Result<Statement, Unknown> {
        let unknown = || Unknown(format!("the statement {value}"));
        let (kind, body) = only(value)?;
        Ok(match kind {
            "match" => Statement::Match(self.comparison(body)?),
            "vmap" => {
                let [key, data] = exactly(body, ["key", "data"])?;
                let left = Left::parse(key)?;
                if !matches!(left, Left::Fields(_)) {
                    return Err(unknown());
                }
                match data {
                    Value::String(name) => {
                        let named = self.named(name, &left.kinds())?;
                        Statement::Map(left, Right::Named(named))
                    }
                    // Its verdicts are the table's to keep.
                    _ => return Err(unknown()),
                }
            }
            "counter" | "log" => Statement::Aside,
            "mangle" if is_aside(body) => Statement::Aside,
            _ => Statement::Verdict(Verdict::parse(value, self.chains)?),
        })
    }

    /// An anonymous verdict map, as a set of the table's.
    pub fn anonymous(&mut self, value: &Value) -> Option<Result<(Left, Set), Unknown>> {
        let (kind, body) = only(value).ok()?;
        let pairs = body.get("data")?.get("set")?.as_array().filter(|_| kind == "vmap")?;
        Some((|| {
            let left = Left::parse(body.get("key").unwrap_or(&Value::Null))?;
            let kinds = left.kinds();
            let mut verdicts = Vec::new();
            let boxes = map(&kinds, pairs, &mut verdicts, self.chains, self.links)?;
            let (name, rows) = (String::new(), HashMap::new());
            let mut set =
                Set { name, kinds, boxes, verdicts, limit: None, filled: false, rows, wide: Vec::new() };
            set.index();
            Ok((left, set))
        })())
    }

    fn comparison(&mut self, body: &Value) -> Result<Match, Unknown> {
        let unknown = || Unknown(format!("the comparison {body}"));
        let [operator, left, right] = exactly(body, ["op", "left", "right"])?;
        let operator = operator.as_str().ok_or_else(unknown)?;
        let left = Left::parse(left)?;
        let kinds = left.kinds();
        let (not, equals) = (operator == "!=", ["==", "!=", "in"].contains(&operator));
        if matches!(left, Left::Meaning(_)) {
            return Ok(Match { left, right: Right::Meaning(operator.into(), right.clone()), not: false });
        }
        if kinds == [Type::CtStatus] {
            let words = right.as_array().map_or(std::slice::from_ref(right), Vec::as_slice);
            let bits: Option<Vec<Field>> = words.iter().map(|word| word.as_str().and_then(status)).collect();
            let bits = bits.filter(|_| operator == "in");
            return Ok(Match { left, right: Right::Bits(bits.ok_or_else(unknown)?), not });
        }
        let mut boxes = Boxes::new(kinds.len());
        match (right, kinds.as_slice()) {
            (Value::String(name), _) if equals && name.starts_with('@') => {
                let named = self.named(name, &kinds)?;
                return Ok(Match { left, right: Right::Named(named), not });
            }
            // Flags: any of them.
            (Value::Array(words), [kind @ Type::CtState]) if equals => {
                for word in words {
                    boxes.push(&[kind.range(word, self.links)?], Diagram::ALWAYS);
                }
            }
            // Links and what frames carry have no order here.
            (_, [kind])
                if matches!(operator, ">=" | "<=")
                    && !matches!(kind, Type::Name | Type::Index | Type::Carried) =>
            {
                let (first, last) = kind.range(right, self.links)?;
                let range = if operator == ">=" { at_least(first) } else { (0, last) };
                boxes.push(&[range], Diagram::ALWAYS);
            }
            _ if equals => match right.get("set") {
                Some(Value::Array(elements)) => {
                    for element in elements {
                        boxes.push(&row(&kinds, element, self.links)?, Diagram::ALWAYS);
                    }
                }
                _ => boxes.push(&row(&kinds, right, self.links)?, Diagram::ALWAYS),
            },
            _ => return Err(unknown()),
        }
        Ok(Match { left, right: Right::Boxes(boxes), not })
    }
}

/// What the firewall says to routing, which no rule of its own reads, and a
/// segment size that is made to fit.
fn is_aside(body: &Value) -> bool {
    let mark = json!({ "meta": { "key": "mark" } });
    let size = json!({ "tcp option": { "name": "maxseg", "field": "size" } });
    body.get("key").is_some_and(|key| *key == mark || *key == size)
}
