//! Statements: what a rule does.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Unknown;
use super::expression::{Left, Match, fields, only};
use super::set::{Set, Sets};

/// A table's chains by name.
pub type Chains = BTreeMap<String, usize>;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Accept,
    Drop,
    Return,
    Jump(usize),
    Goto(usize),
    /// Accepted with another source address; only in a chain for NAT.
    Masquerade,
}

impl Action {
    pub fn parse(value: &Value, chains: &Chains) -> Result<Self, Unknown> {
        let unknown = || Unknown(format!("action {value}"));
        let (kind, body) = only(value)?;
        let target = || {
            let [name] = fields(body, ["target"])?;
            name.as_str().and_then(|name| chains.get(name)).copied().ok_or_else(unknown)
        };
        Ok(match kind {
            "accept" if body.is_null() => Self::Accept,
            "drop" if body.is_null() => Self::Drop,
            "return" if body.is_null() => Self::Return,
            "jump" => Self::Jump(target()?),
            "goto" => Self::Goto(target()?),
            "masquerade" if body.is_null() || is_masquerade_of_ports(body) => Self::Masquerade,
            _ => return Err(unknown()),
        })
    }
}

/// With ports that can't be guessed, and that aren't the host's.
fn is_masquerade_of_ports(body: &Value) -> bool {
    let ends = body.get("port").and_then(|port| port.get("range")).and_then(Value::as_array);
    let ends: Vec<u64> = ends.into_iter().flatten().filter_map(Value::as_u64).collect();
    matches!(ends.as_slice(), [first, last] if 1024 <= *first && first < last && *last < 32768)
        // nft 1.1.7 has a list of flags.
        && [json!("fully-random"), json!(["fully-random"])]
            .into_iter()
            .any(|flags| *body == json!({ "port": { "range": ends }, "flags": flags }))
}

/// Whether a match is for frames that no guard judged.
fn is_unguarded(body: &Value) -> bool {
    let mark = json!({ "&": [{ "meta": { "key": "mark" } }, hostctl::ownership::GUARDED] });
    *body == json!({ "op": "!=", "left": mark, "right": hostctl::ownership::GUARDED })
}

/// One of a rule's statements.
#[derive(Debug, Clone)]
pub enum Statement {
    Match(Match),
    Map(Left, Right),
    Act(Action),
    /// Lets some packets on to the rest of the rule and others not.
    Limit,
    /// Lets none on while its sender keeps within its bounds, and one that
    /// sends its first packet does.
    Bound,
    /// Counters, logs, and a segment size that is made smaller: the packet
    /// goes on.
    Aside,
}

/// The map of a [`Statement::Map`].
#[derive(Debug, Clone)]
pub enum Right {
    Anonymous(Set),
    Named(usize),
}

impl Statement {
    pub fn parse(value: &Value, sets: &Sets, chains: &Chains) -> Result<Self, Unknown> {
        let unknown = || Unknown(format!("statement {value}"));
        let (kind, body) = only(value)?;
        Ok(match kind {
            // Frames come here as from a guard, where their port has one.
            "match" if is_unguarded(body) => Self::Bound,
            "match" => Self::Match(Match::parse(body, sets)?),
            "vmap" => {
                let [key, data] = fields(body, ["key", "data"])?;
                let key = Left::parse(key)?;
                let right = match data {
                    Value::String(name) => Right::Named(sets.find(name, &key.kinds())?),
                    data => {
                        let [pairs] = fields(data, ["set"])?;
                        Right::Anonymous(Set::map(&key.kinds(), pairs, chains)?)
                    }
                };
                Self::Map(key, right)
            }
            "limit" => Self::limit(body)?,
            "set" => {
                let [op, element, set, each] = fields(body, ["op", "elem", "set", "stmt"])?;
                let known = ["add", "update"].contains(&op.as_str().ok_or_else(unknown)?);
                let key = Left::parse(element)?;
                sets.find(set.as_str().ok_or_else(unknown)?, &key.kinds())?;
                match each.as_array().map(Vec::as_slice) {
                    Some([each]) if known => match only(each)? {
                        ("limit", body) => Self::limit(body)?,
                        ("ct count", body) => {
                            let [_, over] = fields(body, ["val", "inv"])?;
                            (*over == Value::Bool(true)).then_some(Self::Bound).ok_or_else(unknown)?
                        }
                        _ => return Err(unknown()),
                    },
                    _ => return Err(unknown()),
                }
            }
            "counter" => fields(body, ["packets", "bytes"]).map(|_| Self::Aside)?,
            "log" => fields(body, ["prefix"]).map(|_| Self::Aside)?,
            "mangle" => {
                let [key, mtu] = fields(body, ["key", "value"])?;
                // What the firewall says to routing; no rule of its own reads it.
                let judged = *key == json!({ "meta": { "key": "mark" } })
                    && *mtu == json!({ "|": [{ "meta": { "key": "mark" } }, hostctl::ownership::JUDGED] });
                let clamps = *key == json!({ "tcp option": { "name": "maxseg", "field": "size" } })
                    && *mtu == json!({ "rt": { "key": "mtu" } });
                (clamps || judged).then_some(Self::Aside).ok_or_else(unknown)?
            }
            _ => Self::Act(Action::parse(value, chains)?),
        })
    }

    /// A rate, which a packet is within or over.
    fn limit(body: &Value) -> Result<Self, Unknown> {
        if body.get("inv").is_none() {
            return fields(body, ["rate", "burst", "per"]).map(|_| Self::Limit);
        }
        let [.., over] = fields(body, ["rate", "burst", "per", "inv"])?;
        let unknown = || Unknown(format!("limit {body}"));
        (*over == Value::Bool(true)).then_some(Self::Bound).ok_or_else(unknown)
    }
}
