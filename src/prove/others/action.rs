//! What a rule does.

use std::collections::HashMap;

use serde_json::Value;

use super::super::diagram::Diagram;
use super::super::header::Boxes;
use super::super::rules::only;
use super::condition::Condition;
use super::elements::LIMITS;
use super::mark::{Computed, Whose, whose};
use super::reading::Reading;
use crate::reach::subject::Field;

/// What happens to a packet, besides that it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It goes no further.
    Drop,
    /// It goes to a program, which decides.
    Queue,
    /// It gets another source.
    Masquerade,
    /// It gets another destination.
    Redirect,
    /// It isn't tracked.
    Untrack,
    /// It loses the mark by which routing knows that its sender was judged, and has
    /// no way then.
    Unmark,
    /// Something that isn't known.
    Unknown,
    /// Its flow passes by the forward hook from now on.
    Offload,
    /// It, or a copy, leaves by another interface, past every other hook.
    Divert,
}

/// How a rule ends for a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With the next rule.
    Next,
    /// This base chain is through with it.
    Accept,
    Return,
    Jump(usize),
    Goto(usize),
    /// The packet goes nowhere else.
    Gone(Effect),
    /// As accepted, with this.
    Changed(Effect),
}

/// One of a rule's statements.
#[derive(Debug, Clone)]
pub enum Step {
    /// Goes on with the packets of which it holds; told apart by number.
    If(usize, Condition),
    /// Marks them.
    Mark(Whose, Computed),
    /// Something happens, and it goes on.
    Does(Effect, Condition),
    Ends(End),
    /// As the first that holds says; it goes on with what none holds of.
    Case(Vec<(usize, Condition, End)>),
}

/// Statements that leave a packet's way as it is.
const ASIDE: [&str; 9] =
    ["counter", "log", "last", "comment", "ct helper", "ct timeout", "ct expectation", "secmark", "tunnel"];

/// What a table's rules refer to.
pub struct Scope<'s> {
    /// Chains, by name.
    pub chains: &'s HashMap<String, usize>,
    /// Flowtables' devices, by name.
    pub devices: &'s HashMap<String, Vec<String>>,
}

/// What a rule's statements do.
pub fn steps(
    statements: &[Value],
    reading: &mut Reading<'_>,
    scope: &Scope<'_>,
    conditions: &mut usize,
) -> Vec<Step> {
    let mut number = || {
        *conditions += 1;
        *conditions
    };
    let mut found = Vec::new();
    for statement in statements {
        let Ok((kind, body)) = only(statement) else {
            found.push(unknown(reading, &statement.to_string()));
            continue;
        };
        found.push(match kind {
            "match" => Step::If(number(), reading.comparison(body)),
            "vmap" => match cases(body, reading, scope) {
                Some(cases) => {
                    Step::Case(cases.into_iter().map(|(holds, end)| (number(), holds, end)).collect())
                }
                None => unknown(reading, "vmap"),
            },
            _ if LIMITS.contains(&kind) => Step::If(number(), reading.once(kind)),
            // What can't be added, for want of room, ends the rule.
            "set" | "map" | "meter" => Step::If(number(), reading.once(kind)),
            _ if ASIDE.contains(&kind) => continue,
            "mangle" => match mangle(body, reading) {
                Some(step) => step,
                None => continue,
            },
            "notrack" => Step::Does(Effect::Untrack, Condition::Any),
            "tproxy" => Step::Does(Effect::Redirect, Condition::Any),
            "dup" => Step::Does(Effect::Divert, Condition::Any),
            "flow" => Step::Does(Effect::Offload, offloaded(body, reading, scope)),
            "xt" => match extension(body, reading, &mut number) {
                Some(step) => step,
                None => continue,
            },
            _ => match end(statement, scope) {
                Some(end) => Step::Ends(end),
                None => unknown(reading, kind),
            },
        });
    }
    found
}

fn unknown(reading: &mut Reading<'_>, what: &str) -> Step {
    reading.unknown.push(what.into());
    Step::Does(Effect::Unknown, Condition::Any)
}

/// A verdict, or what comes to one.
fn end(statement: &Value, scope: &Scope<'_>) -> Option<End> {
    let (kind, body) = only(statement).ok()?;
    let target =
        || body.get("target").and_then(Value::as_str).and_then(|name| scope.chains.get(name)).copied();
    Some(match kind {
        "accept" => End::Accept,
        "return" => End::Return,
        "continue" => End::Next,
        "jump" => End::Jump(target()?),
        "goto" => End::Goto(target()?),
        "drop" | "reject" => End::Gone(Effect::Drop),
        "fwd" => End::Gone(Effect::Divert),
        "synproxy" => End::Gone(Effect::Redirect),
        "queue" => End::Changed(Effect::Queue),
        "masquerade" | "snat" => End::Changed(Effect::Masquerade),
        "dnat" | "redirect" => End::Changed(Effect::Redirect),
        _ => return None,
    })
}

fn cases(body: &Value, reading: &mut Reading<'_>, scope: &Scope<'_>) -> Option<Vec<(Condition, End)>> {
    let key = body.get("key")?;
    let elements = reading.elements(body.get("data")?)?;
    let mut found = Vec::new();
    for pair in &elements.values {
        let [wanted, verdict] = pair.as_array()?.as_slice() else { return None };
        let mut holds = reading.compared(key, "==", wanted);
        if elements.limits {
            holds = Condition::All(vec![holds, reading.once("the limit of an element")]);
        }
        found.push((holds, end(verdict, scope)?));
    }
    if elements.grows {
        let more = reading.once("what rules add to a map");
        found.push((more, End::Changed(Effect::Unknown)));
    }
    Some(found)
}

/// What a rule writes into a packet, or about it; none where its way stays as it
/// is.
fn mangle(body: &Value, reading: &mut Reading<'_>) -> Option<Step> {
    let key = body.get("key").unwrap_or(&Value::Null);
    let value = body.get("value").unwrap_or(&Value::Null);
    if let Some(whose) = whose(key) {
        return Some(Step::Mark(whose, Computed::parse(value, reading.questions)));
    }
    let (kind, inner) = only(key).ok()?;
    let text = |name: &str| inner.get(name).and_then(Value::as_str).unwrap_or_default();
    let does = |effect| Some(Step::Does(effect, Condition::Any));
    match (kind, text("key"), text("field")) {
        ("meta", "priority" | "nftrace" | "secmark", _) | ("tcp option", ..) => None,
        ("ct", "helper" | "label" | "labels" | "event" | "secmark", _) => None,
        ("meta", "broute", _) => does(Effect::Divert),
        ("payload", _, "saddr" | "sport" | "saddr ether" | "saddr ip") => does(Effect::Masquerade),
        ("payload", _, "daddr" | "dport" | "daddr ether" | "daddr ip") => does(Effect::Redirect),
        ("payload", _, "dscp" | "ecn" | "ttl" | "hoplimit" | "flowlabel" | "checksum" | "csum") => None,
        _ => Some(unknown(reading, &format!("what is written into {kind} {}{}", text("key"), text("field")))),
    }
}

/// Of a flowtable's devices.
fn offloaded(body: &Value, reading: &mut Reading<'_>, scope: &Scope<'_>) -> Condition {
    let name = body.get("flowtable").and_then(Value::as_str).unwrap_or_default();
    let Some(devices) = scope.devices.get(name.trim_start_matches('@')) else { return Condition::Any };
    let mut boxes = Boxes::new(1);
    for device in devices {
        boxes.push(&[reading.links.number(device)], Diagram::ALWAYS);
    }
    Condition::Either(vec![
        Condition::Fields(vec![Field::In], boxes.clone()),
        Condition::Fields(vec![Field::Out], boxes),
    ])
}

/// A match or target of iptables' own, of which nft's JSON has but the name
/// (iptables-extensions(8)).
fn extension(body: &Value, reading: &mut Reading<'_>, number: &mut impl FnMut() -> usize) -> Option<Step> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("type"), text("name"));
    if kind != "target" {
        return (name != "comment").then(|| Step::If(number(), reading.once(&format!("xt match {name}"))));
    }
    let ends = |end| Some(Step::Ends(end));
    match name {
        "ACCEPT" => ends(End::Accept),
        "RETURN" => ends(End::Return),
        "REJECT" | "DROP" | "TARPIT" => ends(End::Gone(Effect::Drop)),
        "NFQUEUE" => ends(End::Changed(Effect::Queue)),
        "MASQUERADE" | "SNAT" => ends(End::Changed(Effect::Masquerade)),
        "DNAT" | "REDIRECT" => ends(End::Changed(Effect::Redirect)),
        "TPROXY" => Some(Step::Does(Effect::Redirect, Condition::Any)),
        "SYNPROXY" => ends(End::Gone(Effect::Redirect)),
        "FLOWOFFLOAD" => Some(Step::Does(Effect::Offload, Condition::Any)),
        "TEE" => Some(Step::Does(Effect::Divert, Condition::Any)),
        "NOTRACK" => Some(Step::Does(Effect::Untrack, Condition::Any)),
        // With --notrack it doesn't track; else it says what tracks.
        "CT" => {
            let perhaps = reading.once("xt target CT");
            Some(Step::Does(Effect::Untrack, perhaps))
        }
        "MARK" => Some(Step::Mark(Whose::Packet, Computed::parse(&Value::Null, reading.questions))),
        // It saves, or restores.
        "CONNMARK" => {
            reading.unknown.push("xt target CONNMARK".into());
            Some(Step::Mark(Whose::Packet, Computed::parse(&Value::Null, reading.questions)))
        }
        "LOG" | "NFLOG" | "ULOG" | "TRACE" | "AUDIT" | "TCPMSS" | "TCPOPTSTRIP" | "CLASSIFY" | "CHECKSUM"
        | "DSCP" | "TOS" | "ECN" | "TTL" | "HL" | "SECMARK" | "CONNSECMARK" | "RATEEST" | "IDLETIMER"
        | "LED" | "SET" | "SYSRQ" | "ACCOUNT" => None,
        _ => Some(unknown(reading, &format!("xt target {name}"))),
    }
}
