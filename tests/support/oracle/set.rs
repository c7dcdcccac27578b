//! Sets and verdict maps, named and anonymous, of single values and of
//! concatenations, exact and of intervals.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::Unknown;
use super::expression::{Left, only};
use super::statement::{Action, Chains};
use super::value::{Range, Type};

/// Most fields of a concatenation.
pub const WIDTH: usize = 4;

/// What is looked up: a value for each field, zeros for the rest.
pub type Key = [u128; WIDTH];

/// What the elements of a set that limits say of a packet whose sender keeps
/// within its bounds, as one that sends its first packet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// They match.
    Within,
    /// They don't.
    Over,
}

/// Elements, each with what a map leads to.
#[derive(Debug, Clone, Default)]
pub struct Set {
    kinds: Vec<Type>,
    exact: HashMap<Key, Element>,
    ranges: Vec<(Vec<Range>, Element)>,
    bound: Option<Bound>,
    /// How many were inserted.
    count: usize,
    /// The set's place in the listing; none of an anonymous one.
    pub place: Option<usize>,
}

/// What was found.
#[derive(Debug, Clone, Copy)]
pub struct Element {
    /// Its place in the set's list.
    pub place: usize,
    /// What a verdict map leads to.
    pub action: Option<Action>,
}

impl Set {
    pub fn find(&self, key: &Key) -> Option<Element> {
        if self.bound == Some(Bound::Over) {
            return None;
        }
        let within = |ranges: &[Range]| {
            ranges.iter().zip(key).all(|((first, last), value)| (first..=last).contains(&value))
        };
        let range = || self.ranges.iter().find(|(ranges, _)| within(ranges)).map(|(_, element)| element);
        self.exact.get(key).or_else(range).copied()
    }

    /// The key of an element that limits as the others of its set do.
    fn bounded<'v>(&self, element: &'v Value) -> Result<&'v Value, Unknown> {
        let Some(bound) = self.bound else { return Ok(element) };
        let unknown = || Unknown(format!("element {element} of a set that limits"));
        let fields = element.get("elem").and_then(Value::as_object).ok_or_else(unknown)?;
        let stated = fields.iter().filter(|(key, _)| *key != "val");
        let [stated] = stated.collect::<Vec<_>>().try_into().map_err(|_| unknown())?;
        (limits(stated.0, stated.1)? == bound).then(|| fields.get("val")).flatten().ok_or_else(unknown)
    }

    fn insert(&mut self, element: &Value, action: Option<Action>) -> Result<(), Unknown> {
        let element = self.bounded(element)?;
        let parts = match element.get("concat") {
            Some(Value::Array(parts)) => parts.as_slice(),
            _ => std::slice::from_ref(element),
        };
        if parts.len() != self.kinds.len() || parts.len() > WIDTH {
            return Err(Unknown(format!("element {element} of {:?}", self.kinds)));
        }
        let ranges: Result<Vec<Range>, _> =
            self.kinds.iter().zip(parts).map(|(kind, part)| kind.range(part)).collect();
        let ranges = ranges?;
        let found = Element { place: self.count, action };
        self.count += 1;
        if ranges.iter().all(|(first, last)| first == last) {
            let mut key = [0; WIDTH];
            for (place, (value, _)) in key.iter_mut().zip(&ranges) {
                *place = *value;
            }
            self.exact.insert(key, found);
        } else {
            self.ranges.push((ranges, found));
        }
        Ok(())
    }

    /// The right side of a comparison: a value, a range, or `{ … }`.
    pub fn anonymous(kinds: &[Type], value: &Value) -> Result<Self, Unknown> {
        let mut set = Self { kinds: kinds.to_vec(), ..Self::default() };
        match value.get("set") {
            Some(Value::Array(elements)) => {
                elements.iter().try_for_each(|element| set.insert(element, None))?;
            }
            _ => set.insert(value, None)?,
        }
        Ok(set)
    }

    /// The pairs of a verdict map.
    pub fn map(kinds: &[Type], pairs: &Value, chains: &Chains) -> Result<Self, Unknown> {
        let unknown = || Unknown(format!("map {pairs}"));
        let mut set = Self { kinds: kinds.to_vec(), ..Self::default() };
        for pair in pairs.as_array().ok_or_else(unknown)? {
            match pair.as_array().map(Vec::as_slice) {
                Some([key, action]) => set.insert(key, Some(Action::parse(action, chains)?))?,
                _ => return Err(unknown()),
            }
        }
        Ok(set)
    }
}

/// Whether what is within a limit matches it, or what is over.
fn limits(kind: &str, body: &Value) -> Result<Bound, Unknown> {
    let unknown = || Unknown(format!("limit {kind} {body}"));
    if !["limit", "ct count"].contains(&kind) {
        return Err(unknown());
    }
    match body.get("inv") {
        None => Ok(Bound::Within),
        Some(Value::Bool(true)) => Ok(Bound::Over),
        Some(_) => Err(unknown()),
    }
}

/// The named sets of a table.
#[derive(Debug, Clone, Default)]
pub struct Sets {
    sets: Vec<Set>,
    names: BTreeMap<String, usize>,
}

impl Sets {
    /// Adds a `set` or `map` of a listing.
    pub fn add(&mut self, kind: &str, body: &Value, chains: &Chains, place: usize) -> Result<(), Unknown> {
        const KNOWN: [&str; 11] =
            ["family", "name", "table", "type", "handle", "flags", "elem", "map", "size", "timeout", "stmt"];
        // What rules fill has no elements in a listing that was only loaded.
        const FLAGS: [&str; 3] = ["interval", "timeout", "dynamic"];
        let unknown = || Unknown(format!("{kind} {body}"));
        let object = body.as_object().ok_or_else(unknown)?;
        let flags = object.get("flags").map_or(Ok(true), |flags| {
            flags
                .as_array()
                .map(|flags| flags.iter().all(|flag| FLAGS.iter().any(|known| flag == known)))
                .ok_or_else(unknown)
        })?;
        let verdicts = object.get("map").map(|map| map == "verdict");
        if !object.keys().all(|key| KNOWN.contains(&key.as_str()))
            || !flags
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
            Some(Value::Object(written)) if written.len() == 1 => {
                Left::parse(written.get("typeof").ok_or_else(unknown)?)?.kinds()
            }
            _ => return Err(unknown()),
        };
        let none = Value::Array(Vec::new());
        let elements = object.get("elem").unwrap_or(&none);
        let mut set = if kind == "map" {
            Set::map(&kinds, elements, chains)?
        } else {
            let bound = match object.get("stmt").map(|stated| stated.as_array().map(Vec::as_slice)) {
                None => None,
                Some(Some([stated])) => {
                    let (kind, body) = only(stated)?;
                    Some(limits(kind, body)?)
                }
                Some(_) => return Err(unknown()),
            };
            let mut set = Set { kinds, bound, ..Set::default() };
            for element in elements.as_array().ok_or_else(unknown)? {
                set.insert(element, None)?;
            }
            set
        };
        let name = object.get("name").and_then(Value::as_str).ok_or_else(unknown)?;
        self.names.insert(format!("@{name}"), self.sets.len());
        set.place = Some(place);
        self.sets.push(set);
        Ok(())
    }

    /// The set called `@name`, where it is of these types.
    pub fn find(&self, name: &str, kinds: &[Type]) -> Result<usize, Unknown> {
        let found = self.names.get(name).copied();
        let fits = |index: &usize| self.sets.get(*index).is_some_and(|set| set.kinds == kinds);
        found.filter(fits).ok_or_else(|| Unknown(format!("set {name} of {kinds:?}")))
    }

    pub fn get(&self, index: usize) -> Result<&Set, Unknown> {
        self.sets.get(index).ok_or_else(|| Unknown(format!("set {index}")))
    }
}
