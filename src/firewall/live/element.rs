//! An element as nft reads it → as the kernel has it (`NFTA_SET_ELEM_*` of
//! `linux/netfilter/nf_tables.h`). Pure.

use super::field::{Field, after};
use crate::firewall::desired::set::{PolicySet, Set};

/// What the elements of a set are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firewall) struct Kind {
    key: Vec<Field>,
    /// Of a map: what its values are.
    value: Option<ValueKind>,
    intervals: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueKind {
    Verdict,
    Field(Field),
}

/// An element of a set; one of a set of plain intervals is two of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firewall) struct Element {
    /// As nft writes it.
    pub text: String,
    /// The last value that a plain interval has.
    pub last: Option<Vec<u8>>,
    pub places: Vec<Place>,
}

/// What the kernel calls an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firewall) struct Place {
    pub key: Vec<u8>,
    /// The other end of a concatenation of intervals.
    pub key_end: Option<Vec<u8>>,
    /// Whether an interval ends before it.
    pub ends: bool,
    /// Whether it begins an interval that has no end.
    pub open: bool,
    pub value: Option<Value>,
    pub states: Vec<State>,
}

/// What a map has for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firewall) enum Value {
    Verdict { code: i32, chain: Option<String> },
    Bytes(Vec<u8>),
}

/// What an element counts or limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) enum State {
    /// Packets in each `unit` of seconds.
    Limit {
        rate: u64,
        unit: u64,
        burst: u32,
        over: bool,
    },
    CtCount {
        count: u32,
        over: bool,
    },
    Counter,
}

impl Kind {
    /// Of a set of hostctl's tables.
    pub fn named(set: &str) -> Option<Self> {
        if let Ok(set) = set.parse::<Set>() {
            let definition = set.definition();
            let has = |property: &str| property.starts_with("flags ") && property.contains("interval");
            return Self::of(definition.kind, definition.properties.iter().any(|property| has(property)));
        }
        Self::of(PolicySet::named(set)?.kind(), true)
    }

    /// Of a set's definition: `type ifname . ipv4_addr : verdict`. Nothing where
    /// hostctl writes no such elements itself.
    pub fn of(definition: &str, intervals: bool) -> Option<Self> {
        let fields = definition.strip_prefix("typeof ").or_else(|| definition.strip_prefix("type "))?;
        let (key, value) = match fields.split_once(" : ") {
            Some((key, "verdict")) => (key, Some(ValueKind::Verdict)),
            Some((key, value)) => (key, Some(ValueKind::Field(Field::named(value)?))),
            None => (fields, None),
        };
        let key = key.split(" . ").map(|name| Field::named(name.trim())).collect::<Option<_>>()?;
        Some(Self { key, value, intervals })
    }

    /// An element; nothing where it has what hostctl doesn't write.
    pub fn element(&self, text: &str) -> Option<Element> {
        let (front, value) = match (text.rsplit_once(" : "), self.value) {
            (Some((front, value)), Some(kind)) => (front, Some(kind.read(value)?)),
            (None, _) => (text, None),
            (Some(_), None) => return None,
        };
        let (key, states) = states(front)?;
        let (first, last) = self.key(key)?;
        let place = |key, key_end| Place {
            key,
            key_end,
            ends: false,
            open: false,
            value: value.clone(),
            states: states.clone(),
        };
        let (last, places) = match (self.intervals, self.key.len()) {
            (false, _) => (None, vec![place(first, None)]),
            (true, 1) => {
                let end = after(&last);
                let begin = Place { open: end.is_none(), ..place(first, None) };
                let end =
                    end.map(|key| Place { ends: true, value: None, states: Vec::new(), ..place(key, None) });
                (Some(last), [begin].into_iter().chain(end).collect())
            }
            (true, _) => (None, vec![place(first, Some(last))]),
        };
        Some(Element { text: text.into(), last, places })
    }

    /// Both ends of a key. The fields of a concatenation are as long as whole
    /// registers of the kernel's.
    fn key(&self, text: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        let parts: Vec<&str> = text.split(" . ").collect();
        if parts.len() != self.key.len() {
            return None;
        }
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for (part, field) in parts.iter().zip(&self.key) {
            let (low, high) = field.read(part.trim(), self.intervals)?;
            for (to, from) in [(&mut first, low), (&mut last, high)] {
                to.extend(from);
                if self.key.len() > 1 {
                    to.resize(to.len().next_multiple_of(4), 0);
                }
            }
        }
        Some((first, last))
    }
}

impl ValueKind {
    fn read(self, text: &str) -> Option<Value> {
        let text = text.trim();
        let to = |code, chain: &str| Value::Verdict { code, chain: Some(chain.trim_matches('"').into()) };
        match self {
            Self::Field(field) => field.read(text, false).map(|(value, _)| Value::Bytes(value)),
            Self::Verdict => Some(match text.split_once(' ') {
                Some(("jump", chain)) => to(-3, chain),
                Some(("goto", chain)) => to(-4, chain),
                Some(_) => return None,
                None => {
                    let code = match text {
                        "drop" => 0,
                        "accept" => 1,
                        "continue" => -1,
                        "return" => -5,
                        _ => return None,
                    };
                    Value::Verdict { code, chain: None }
                }
            }),
        }
    }
}

/// What stands behind a key, and the key.
fn states(text: &str) -> Option<(&str, Vec<State>)> {
    const WORDS: [&str; 3] = [" limit ", " ct count ", " counter"];
    let begin = WORDS.iter().filter_map(|word| text.find(word)).min();
    let Some((key, rest)) = begin.and_then(|begin| text.split_at_checked(begin)) else {
        return Some((text, Vec::new()));
    };
    let mut words = rest.split_whitespace().peekable();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        found.push(match word {
            "counter" => State::Counter,
            "ct" => {
                words.next_if_eq(&"count")?;
                let over = words.next_if_eq(&"over").is_some();
                State::CtCount { count: words.next()?.parse().ok()?, over }
            }
            "limit" => {
                words.next_if_eq(&"rate")?;
                let over = words.next_if_eq(&"over").is_some();
                let (rate, unit) = words.next()?.split_once('/')?;
                // nft(8): five packets more where none are said.
                let mut burst = 5;
                if words.next_if_eq(&"burst").is_some() {
                    burst = words.next()?.parse().ok()?;
                    words.next_if_eq(&"packets")?;
                }
                State::Limit { rate: rate.parse().ok()?, unit: seconds(unit)?, burst, over }
            }
            _ => return None,
        });
    }
    Some((key, found))
}

fn seconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "second" => 1,
        "minute" => 60,
        "hour" => 60 * 60,
        "day" => 24 * 60 * 60,
        "week" => 7 * 24 * 60 * 60,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strum::IntoEnumIterator;

    use super::*;
    use crate::firewall::desired::set::FilledBy;

    fn element(definition: &str, intervals: bool, text: &str) -> Option<Element> {
        Kind::of(definition, intervals).unwrap().element(text)
    }

    #[test]
    fn every_set_that_a_topology_fills_is_understood() {
        for set in Set::iter() {
            if set.definition().filled_by == FilledBy::Topology {
                assert!(Kind::named(set.name()).is_some(), "{}", set.name());
            }
        }
    }

    #[test]
    fn fields_of_a_concatenation_are_whole_registers() {
        let found =
            element("type ipv4_addr . inet_proto . inet_service", true, "10.0.0.0/8 . tcp . 80-90").unwrap();
        let place = &found.places[0];
        assert_eq!(place.key, [10, 0, 0, 0, 6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(place.key_end.as_deref(), Some(&[10, 255, 255, 255, 6, 0, 0, 0, 0, 90, 0, 0][..]));
        let found = element("type ether_addr", false, "02:00:00:00:00:01").unwrap();
        assert_eq!(found.places[0].key.len(), 6);
    }

    #[test]
    fn a_plain_interval_is_its_beginning_and_what_follows_it() {
        let found = element("type ipv4_addr", true, "10.0.0.0/24").unwrap();
        let places: Vec<_> = found.places.iter().map(|place| (place.key.as_slice(), place.ends)).collect();
        assert_eq!(places, [(&[10, 0, 0, 0][..], false), (&[10, 0, 1, 0], true)]);
        let found = element("type ipv4_addr", true, "224.0.0.0/3").unwrap();
        assert_eq!(found.places.len(), 1);
        assert!(found.places[0].open);
    }

    #[test]
    fn limits_and_verdicts_are_read() {
        let text = "\"vm-a\" limit rate over 5/minute burst 7 packets";
        let found = element("type ifname", false, text).unwrap();
        let limit = State::Limit { rate: 5, unit: 60, burst: 7, over: true };
        assert_eq!(found.places[0].states, [limit]);
        let found =
            element("type ifname . ether_addr", false, "\"a\" . 02:00:00:00:00:01 ct count 64").unwrap();
        assert_eq!(found.places[0].states, [State::CtCount { count: 64, over: false }]);
        let found = element("type ipv4_addr : verdict", false, "10.0.0.1 : jump \"x\"").unwrap();
        let verdict = Value::Verdict { code: -3, chain: Some("x".into()) };
        assert_eq!(found.places[0].value, Some(verdict));
        let found = element("type ipv4_addr : mark", false, "10.0.0.1 counter : 0x7").unwrap();
        assert_eq!(found.places[0].states, [State::Counter]);
        assert_eq!(found.places[0].value, Some(Value::Bytes(7_u32.to_ne_bytes().to_vec())));
        assert_eq!(element("type ipv4_addr", false, "10.0.0.1 limit rate 5 mbytes/second"), None);
        assert_eq!(element("type ipv4_addr", false, "10.0.0.1 timeout 5s"), None);
        assert_eq!(element("type ipv4_addr", false, "10.0.0.1 : drop"), None);
        assert_eq!(element("type ipv4_addr", false, "10.0.0.1 . 10.0.0.2"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_an_end(text in "[\\PC]{0,60}", parts in "[0-9a-f:./ -]{0,40}") {
            for set in Set::iter() {
                if let Some(kind) = Kind::named(set.name()) {
                    _ = (kind.element(&text), kind.element(&parts));
                }
            }
        }
    }
}
