//! Elements → the messages of nf_tables that add, delete and read them, and what
//! the kernel says of them (`linux/netfilter/nf_tables.h`). Pure.

use super::element::{Element, Place, State, Value};
use super::message::{
    GENERIC, HEADER, Unexpected, attribute, attributes, be32, be64, name, nested, request, text,
};
use crate::ownership::{BRIDGE, TABLE};

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_…`
const NEW_ELEMENTS: u16 = 10 << 8 | 12;
const GET_ELEMENTS: u16 = 10 << 8 | 13;
const DELETE_ELEMENTS: u16 = 10 << 8 | 14;

const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;

/// An attribute's length has 16 bits, and the kernel answers a refusal with the
/// whole message.
const ELEMENTS_MAX: usize = 32 * 1024;

/// `NFTA_SET_ELEM_LIST_TABLE`, …
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
/// `NFTA_LIST_ELEM`.
const LISTED: u16 = 1;

/// `NFTA_SET_ELEM_KEY`, …
const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const USERDATA: u16 = 6;
const EXPRESSION: u16 = 7;
const KEY_END: u16 = 10;
const EXPRESSIONS: u16 = 11;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;

/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`, `NFTA_VERDICT_CODE`, `NFTA_VERDICT_CHAIN`.
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// Elements of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firewall) struct SetElements {
    pub family: &'static str,
    pub set: String,
    pub elements: Vec<Element>,
}

/// What a message does with its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) enum Verb {
    Add,
    Delete,
}

/// A message, with where in it each of its elements is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firewall) struct Written<'a> {
    pub bytes: Vec<u8>,
    pub verb: Verb,
    pub set: &'a str,
    pub elements: Vec<(usize, &'a str)>,
}

impl Written<'_> {
    /// The element at that place, and the first where the kernel doesn't tell.
    pub fn element_at(&self, place: Option<usize>) -> &str {
        let found = self.elements.iter().rfind(|(at, _)| place.is_some_and(|place| *at <= place));
        found.or(self.elements.first()).map(|(_, text)| *text).unwrap_or_default()
    }
}

impl SetElements {
    /// The messages that add or delete them, numbered from `sequence` on.
    pub fn messages(&self, verb: Verb, sequence: u32) -> Vec<Written<'_>> {
        let (kind, flags) = match verb {
            Verb::Add => (NEW_ELEMENTS, NLM_F_ACK | NLM_F_CREATE),
            Verb::Delete => (DELETE_ELEMENTS, NLM_F_ACK),
        };
        let head = [name(LIST_TABLE, TABLE), name(LIST_SET, &self.set)].concat();
        let mut found = Vec::new();
        let (mut list, mut places) = (Vec::new(), Vec::new());
        let message = |number: usize, list: &[Vec<u8>]| {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let attributes = [head.clone(), nested(LIST_ELEMENTS, list)].concat();
            request(kind, flags, sequence.wrapping_add(number), (family(self.family), 0), &attributes)
        };
        let begin = HEADER + GENERIC + head.len() + 4;
        let mut size = 0;
        for element in &self.elements {
            for place in &element.places {
                let bytes = listed(place, verb == Verb::Add);
                if size + bytes.len() > ELEMENTS_MAX {
                    let bytes = message(found.len(), &std::mem::take(&mut list));
                    found.push(Written {
                        bytes,
                        verb,
                        set: &self.set,
                        elements: std::mem::take(&mut places),
                    });
                    size = 0;
                }
                places.push((begin + size, element.text.as_str()));
                size += bytes.len();
                list.push(bytes);
            }
        }
        if !list.is_empty() {
            let bytes = message(found.len(), &list);
            found.push(Written { bytes, verb, set: &self.set, elements: places });
        }
        found
    }
}

/// `NFPROTO_*`.
fn family(name: &str) -> u8 {
    if name == BRIDGE { 7 } else { 1 }
}

/// The message that asks for one element.
pub(in crate::firewall) fn question(family_name: &str, set: &str, place: &Place, sequence: u32) -> Vec<u8> {
    let list = nested(LIST_ELEMENTS, &[listed(place, false)]);
    let attributes = [name(LIST_TABLE, TABLE), name(LIST_SET, set), list].concat();
    request(GET_ELEMENTS, NLM_F_ACK, sequence, (family(family_name), 0), &attributes)
}

/// Its key alone, or all of it.
fn listed(place: &Place, whole: bool) -> Vec<u8> {
    let data = |kind, bytes: &[u8]| nested(kind, &[attribute(DATA_VALUE, bytes)]);
    let mut parts = Vec::new();
    if place.ends {
        parts.push(attribute(FLAGS, &INTERVAL_END.to_be_bytes()));
    }
    parts.push(data(KEY, &place.key));
    parts.extend(place.key_end.as_ref().map(|end| data(KEY_END, end)));
    if whole {
        parts.extend(place.value.as_ref().map(|value| match value {
            Value::Bytes(bytes) => data(DATA, bytes),
            Value::Verdict { code, chain } => {
                let mut verdict = vec![attribute(VERDICT_CODE, &code.to_be_bytes())];
                verdict.extend(chain.as_ref().map(|chain| name(VERDICT_CHAIN, chain)));
                nested(DATA, &[nested(DATA_VERDICT, &verdict)])
            }
        }));
        if place.open {
            // What nft knows it by: NFTNL_UDATA_SET_ELEM_FLAGS, of four bytes,
            // NFTNL_SET_ELEM_F_INTERVAL_OPEN (libnftnl's udata.h).
            parts.push(attribute(USERDATA, &[&[1, 4][..], &1_u32.to_ne_bytes()].concat()));
        }
        match place.states.as_slice() {
            [] => {}
            [state] => parts.push(nested(EXPRESSION, &expression(*state))),
            several => {
                let list: Vec<_> = several.iter().map(|state| nested(LISTED, &expression(*state))).collect();
                parts.push(nested(EXPRESSIONS, &list));
            }
        }
    }
    nested(LISTED, &parts)
}

/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
fn expression(state: State) -> [Vec<u8>; 2] {
    let flag = |over: bool| u32::from(over).to_be_bytes();
    let (what, values) = match state {
        // NFTA_LIMIT_RATE, _UNIT, _BURST, _TYPE (packets), _FLAGS.
        State::Limit { rate, unit, burst, over } => (
            "limit",
            vec![
                attribute(1, &rate.to_be_bytes()),
                attribute(2, &unit.to_be_bytes()),
                attribute(3, &burst.to_be_bytes()),
                attribute(4, &0_u32.to_be_bytes()),
                attribute(5, &flag(over)),
            ],
        ),
        // NFTA_CONNLIMIT_COUNT, _FLAGS.
        State::CtCount { count, over } => {
            ("connlimit", vec![attribute(1, &count.to_be_bytes()), attribute(2, &flag(over))])
        }
        // NFTA_COUNTER_BYTES, _PACKETS.
        State::Counter => ("counter", vec![attribute(1, &[0; 8]), attribute(2, &[0; 8])]),
    };
    [name(1, what), nested(2, &values)]
}

/// The elements of an answer to a [`question`], past its `struct nfgenmsg`.
pub(in crate::firewall) fn read(payload: &[u8]) -> Result<Vec<Place>, Unexpected> {
    let mut found = Vec::new();
    for (kind, value) in attributes(payload.get(GENERIC..).ok_or(Unexpected)?)? {
        if kind == LIST_ELEMENTS {
            for (_, element) in attributes(value)? {
                found.push(read_place(element)?);
            }
        }
    }
    Ok(found)
}

fn read_place(element: &[u8]) -> Result<Place, Unexpected> {
    let mut place =
        Place { key: Vec::new(), key_end: None, ends: false, open: false, value: None, states: Vec::new() };
    for (kind, value) in attributes(element)? {
        match kind {
            KEY => place.key = bytes(value)?,
            KEY_END => place.key_end = Some(bytes(value)?),
            FLAGS => place.ends = be32(value)? & INTERVAL_END != 0,
            DATA => place.value = Some(read_value(value)?),
            EXPRESSION => place.states.extend(read_state(value)?),
            EXPRESSIONS => {
                for (_, one) in attributes(value)? {
                    place.states.extend(read_state(one)?);
                }
            }
            _ => {}
        }
    }
    Ok(place)
}

fn bytes(value: &[u8]) -> Result<Vec<u8>, Unexpected> {
    let found = attributes(value)?.into_iter().find(|(kind, _)| *kind == DATA_VALUE);
    found.map(|(_, bytes)| bytes.to_vec()).ok_or(Unexpected)
}

fn read_value(value: &[u8]) -> Result<Value, Unexpected> {
    let inner = attributes(value)?;
    let Some((_, verdict)) = inner.iter().find(|(kind, _)| *kind == DATA_VERDICT) else {
        return bytes(value).map(Value::Bytes);
    };
    let (mut code, mut chain) = (None, None);
    for (kind, value) in attributes(verdict)? {
        match kind {
            VERDICT_CODE => code = Some(be32(value)?.cast_signed()),
            VERDICT_CHAIN => chain = Some(text(value)?.to_string()),
            _ => {}
        }
    }
    Ok(Value::Verdict { code: code.ok_or(Unexpected)?, chain })
}

/// What it limits or counts; nothing where hostctl sets no such thing.
fn read_state(value: &[u8]) -> Result<Option<State>, Unexpected> {
    let (mut what, mut data) = ("", &[][..]);
    for (kind, value) in attributes(value)? {
        match kind {
            1 => what = text(value)?,
            2 => data = value,
            _ => {}
        }
    }
    let fields = attributes(data)?;
    let field = |wanted: u16| fields.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let number = |kind| field(kind).ok_or(Unexpected).and_then(be32);
    let long = |kind| field(kind).ok_or(Unexpected).and_then(be64);
    let over = |kind| field(kind).map_or(Ok(0), be32).map(|flags| flags & 1 != 0);
    Ok(match what {
        "limit" if field(4).map_or(Ok(0), be32)? == 0 => {
            Some(State::Limit { rate: long(1)?, unit: long(2)?, burst: number(3)?, over: over(5)? })
        }
        "connlimit" => Some(State::CtCount { count: number(1)?, over: over(2)? }),
        "counter" => Some(State::Counter),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::firewall::live::element::Kind;
    use crate::firewall::live::message::messages;
    use crate::ownership::INET;

    fn elements(set: &str, texts: &[String]) -> SetElements {
        let kind = Kind::named(set).unwrap();
        let elements = texts.iter().map(|text| kind.element(text).unwrap()).collect();
        SetElements { family: INET, set: set.into(), elements }
    }

    fn texts(count: u32) -> Vec<String> {
        let limit = "limit rate over 5/second burst 7 packets";
        (0..count)
            .map(|n| format!("\"br-{}\" . 02:00:00:00:{:02x}:{:02x} {limit}", n / 9, n / 256, n % 256))
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for (set, text) in [
            ("new_flows", &texts(1)[0]),
            ("flows", &"\"br-a\" . 02:00:00:00:00:01 ct count 64".to_string()),
            ("ingress4", &"\"br-a\" . 10.0.0.1 : jump policy_a_in".to_string()),
            ("public4", &"\"br-a\" . 7 . 10.0.0.0/24".to_string()),
        ] {
            let wanted = elements(set, std::slice::from_ref(text));
            let written = wanted.messages(Verb::Add, 1);
            let message = messages(&written[0].bytes).unwrap()[0];
            assert_eq!(read(message.payload), Ok(wanted.elements[0].places.clone()), "{set}");
        }
    }

    #[test]
    fn many_elements_are_several_messages_and_each_is_found_again() {
        let wanted = elements("new_flows", &texts(2000));
        let written = wanted.messages(Verb::Add, 7);
        assert!(written.len() > 3, "{}", written.len());
        let mut read_back = Vec::new();
        for (index, one) in written.iter().enumerate() {
            let message = messages(&one.bytes).unwrap()[0];
            assert_eq!(usize::try_from(message.sequence).unwrap(), 7 + index);
            read_back.extend(read(message.payload).unwrap());
            for (at, text) in &one.elements {
                assert_eq!(one.element_at(Some(*at)), *text);
                assert_eq!(one.element_at(Some(at + 8)), *text);
                let length = u16::from_ne_bytes([one.bytes[*at], one.bytes[at + 1]]);
                let kind = Kind::named("new_flows").unwrap();
                let place = read_place(&one.bytes[at + 4..at + usize::from(length)]).unwrap();
                assert_eq!(kind.element(text).unwrap().places, [place]);
            }
        }
        let places: Vec<_> = wanted.elements.iter().flat_map(|element| element.places.clone()).collect();
        assert_eq!(read_back, places);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            _ = read(&bytes);
        }

        /// Where a length, a kind or a value lies.
        #[test]
        fn a_damaged_answer_is_read_to_an_end(at in 0_usize..200, byte: u8, cut in 0_usize..200) {
            let wanted = elements("ingress4", &["\"br-a\" . 10.0.0.1 : jump policy_a_in".to_string()]);
            let mut bytes = wanted.messages(Verb::Add, 1)[0].bytes.split_off(HEADER);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            _ = read(&bytes);
        }
    }
}
