//! A packet's way through the base chains of a hook, as the kernel takes it
//! (nft(8)): an accept ends the base chain that it is in, a drop ends all.

use serde_json::Value;

use crate::firewall::live::rule_text::{self, only};

use super::legacy;
use super::matching::{Truth, is_key, matches, number};
use super::packet::{Journey, Packet};
use super::ruleset::{Base, Chain, Foreign, Key, Rule};

/// The kernel's own limit of jumps in jumps (NFT_JUMP_STACK_SIZE).
const DEPTH_MAX: usize = 16;

/// Rules looked at for one packet in one base chain. A ruleset that jumps to
/// and fro would otherwise take for ever.
const RULES_MAX: usize = 100_000;

/// What a rule does to a packet, besides letting it pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Effect {
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
    /// Its flow passes by the forward hook from now on.
    Offload,
    /// It, or a copy, leaves by another interface, past every other hook.
    Divert,
}

/// Where it happens: a rule, or the end of a base chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RulePlace {
    pub family: String,
    pub table: String,
    /// The base chain by which the packet got there.
    pub base: String,
    pub hook: String,
    pub chain: String,
    /// The rule's number; none where it is the chain's policy.
    pub handle: Option<u64>,
    /// The rule, or the policy.
    pub text: String,
}

impl RulePlace {
    /// The table's name with iptables-legacy, where it is one of its.
    pub(super) fn legacy_table(&self) -> Option<&str> {
        self.table.strip_prefix(legacy::PREFIX)
    }

    /// The iptables that has the table.
    pub(super) fn tool(&self) -> &'static str {
        match (self.family.as_str(), self.legacy_table()) {
            ("ip6", None) => "ip6tables",
            ("ip6", Some(_)) => "ip6tables-legacy",
            (_, None) => "iptables",
            (_, Some(_)) => "iptables-legacy",
        }
    }
}

/// Something that happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub effect: Effect,
    /// Whether it happens to each such packet, or perhaps to some.
    pub certain: bool,
    pub place: RulePlace,
    /// Of [`Effect::Offload`]: the devices.
    pub devices: Vec<String>,
}

/// How a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The caller's next rule.
    Return,
    /// This base chain is through with the packet.
    Accept,
    /// The packet is gone, or decided elsewhere.
    Gone,
}

/// Everything that the foreign chains do to a journey's packet.
pub(super) fn walk(foreign: &Foreign, journey: &Journey<'_>) -> Vec<Event> {
    let families: &[&str] = match (journey.frame, journey.packet.v6) {
        (true, _) => &["bridge", "netdev"],
        (false, true) => &["ip6", "inet"],
        (false, false) => &["ip", "inet"],
    };
    let mut events = Vec::new();
    let mut packet = journey.packet;
    for hook in journey.hooks {
        for (key, chain, base) in foreign.at(families, hook) {
            let device = packet.iif.or(packet.oif).unwrap_or_default();
            if !base.devices.is_empty() && !base.devices.iter().any(|name| name == device) {
                continue;
            }
            // The kernel shows only a flow's first packet to nat.
            if base.kind == "nat" && packet.reply {
                continue;
            }
            let (family, table, name) = key;
            let mut walk = Walk {
                foreign,
                family,
                table,
                base_name: name,
                base,
                packet: at(hook, packet),
                rules: 0,
                events: &mut events,
            };
            let end = walk.chain(name, chain, true, 0);
            if end == End::Return && base.drops {
                walk.event(Effect::Drop, true, name, None, "policy drop".into());
            }
            packet.mark = walk.packet.mark;
        }
    }
    events
}

/// What is known of a packet at a hook.
fn at<'a>(hook: &str, packet: Packet<'a>) -> Packet<'a> {
    if hook == "prerouting" { Packet { oif: None, to: packet.arrives_for, ..packet } } else { packet }
}

struct Walk<'w, 'p> {
    foreign: &'w Foreign,
    family: &'w str,
    table: &'w str,
    base_name: &'w str,
    base: &'w Base,
    packet: Packet<'p>,
    rules: usize,
    events: &'w mut Vec<Event>,
}

impl<'w> Walk<'w, '_> {
    fn event(&mut self, effect: Effect, certain: bool, chain: &str, handle: Option<u64>, text: String) {
        let place = RulePlace {
            family: self.family.into(),
            table: self.table.into(),
            base: self.base_name.into(),
            hook: self.base.hook.clone(),
            chain: chain.into(),
            handle,
            text,
        };
        self.events.push(Event { effect, certain, place, devices: Vec::new() });
    }

    fn key(&self, name: &str) -> Key {
        (self.family.into(), self.table.into(), name.into())
    }

    /// Takes the packet through a chain. Where it isn't certain that it gets
    /// there, nothing that happens in it is.
    fn chain(&mut self, name: &str, chain: &'w Chain, certain: bool, depth: usize) -> End {
        for rule in &chain.rules {
            self.rules += 1;
            if self.rules > RULES_MAX {
                return End::Accept;
            }
            if depth > DEPTH_MAX || self.rules == RULES_MAX {
                // Said once.
                self.rules = RULES_MAX + 1;
                self.event(Effect::Drop, false, name, rule.handle, "more rules than hostctl follows".into());
                return End::Accept;
            }
            match self.rule(name, rule, certain, depth) {
                None => {}
                Some(end) => return end,
            }
        }
        End::Return
    }

    /// The end of the chain, where this rule is it.
    fn rule(&mut self, chain: &str, rule: &'w Rule, certain: bool, depth: usize) -> Option<End> {
        let mut truth = if certain { Truth::Yes } else { Truth::Perhaps };
        for statement in &rule.statements {
            let Some((kind, body)) = only(statement) else { continue };
            let verdict = match kind {
                "match" => {
                    let foreign = self.foreign;
                    let (family, table) = (self.family, self.table);
                    let sets = move |name: &str| named(foreign, family, table, name);
                    truth = truth.and(matches(body, &self.packet, &sets));
                    if truth == Truth::No {
                        return None;
                    }
                    continue;
                }
                "vmap" => match self.vmap(body, &mut truth) {
                    Some(verdict) => verdict,
                    None => continue,
                },
                "limit" | "quota" | "connlimit" | "ct count" => {
                    truth = truth.and(Truth::Perhaps);
                    continue;
                }
                "xt" => match self.xt(body, &mut truth) {
                    Some(verdict) => verdict,
                    None => continue,
                },
                "mangle" => {
                    self.mangle(body, truth);
                    continue;
                }
                _ => statement,
            };
            if let Some(end) = self.verdict(chain, rule, verdict, truth, depth) {
                return Some(end);
            }
        }
        None
    }

    /// Carries a statement out that ends the chain, or changes the packet.
    fn verdict(
        &mut self,
        chain: &str,
        rule: &'w Rule,
        statement: &'w Value,
        truth: Truth,
        depth: usize,
    ) -> Option<End> {
        let (kind, body) = only(statement)?;
        let certain = truth == Truth::Yes;
        // What happens only perhaps is noted, and the packet goes on.
        let ends = |end: End| certain.then_some(end);
        let effect = match kind {
            "accept" => return ends(End::Accept),
            "return" => return ends(End::Return),
            "jump" | "goto" => {
                let target = body.get("target").and_then(Value::as_str).unwrap_or_default();
                let foreign = self.foreign;
                let inner = foreign.chains.get(&self.key(target))?;
                return match (self.chain(target, inner, certain, depth + 1), kind) {
                    _ if !certain => None,
                    (End::Return, "jump") => None,
                    (end, _) => Some(end),
                };
            }
            "drop" | "reject" => Effect::Drop,
            "queue" => Effect::Queue,
            "masquerade" | "snat" => Effect::Masquerade,
            "dnat" | "redirect" | "tproxy" => Effect::Redirect,
            "notrack" => Effect::Untrack,
            "flow" => Effect::Offload,
            "fwd" | "dup" => Effect::Divert,
            _ => return None,
        };
        self.event(effect, certain, chain, rule.handle, rule_text::rule(&rule.statements));
        match effect {
            Effect::Drop | Effect::Queue => ends(End::Gone),
            Effect::Masquerade | Effect::Redirect => ends(End::Accept),
            Effect::Divert if kind == "fwd" => ends(End::Gone),
            Effect::Offload => {
                let flowtable = body.get("flowtable").and_then(Value::as_str).unwrap_or_default();
                let devices = self.foreign.flowtables.get(&self.key(flowtable.trim_start_matches('@')));
                if let (Some(devices), Some(event)) = (devices, self.events.last_mut()) {
                    event.devices = devices.clone();
                }
                None
            }
            _ => None,
        }
    }

    /// The verdict of a map, where the packet has one for certain; of several
    /// that it may have, the worst.
    fn vmap(&mut self, body: &'w Value, truth: &mut Truth) -> Option<&'w Value> {
        let (key, data) = (body.get("key")?, body.get("data")?);
        let elements = match (data.as_str(), only(data)) {
            (Some(name), _) => named(self.foreign, self.family, self.table, name.trim_start_matches('@'))?,
            (None, Some(("set", Value::Array(elements)))) => elements,
            _ => return None,
        };
        let (foreign, family, table) = (self.foreign, self.family, self.table);
        let sets = move |name: &str| named(foreign, family, table, name);
        let mut perhaps: Option<&'w Value> = None;
        for element in elements {
            let (Some(wanted), Some(verdict)) = (element.get(0), element.get(1)) else { continue };
            match is_key(key, wanted, &self.packet, &sets) {
                Truth::Yes => return Some(verdict),
                Truth::Perhaps => {
                    let drops = only(verdict).is_some_and(|(kind, _)| kind == "drop");
                    perhaps = perhaps.filter(|_| !drops).or(Some(verdict));
                }
                Truth::No => {}
            }
        }
        *truth = truth.and(Truth::Perhaps);
        perhaps
    }

    /// A match or target of iptables', of which nft's JSON has but the name.
    fn xt(&self, body: &Value, truth: &mut Truth) -> Option<&'static Value> {
        let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        if field("type") != "target" {
            if field("name") != "comment" {
                *truth = truth.and(Truth::Perhaps);
            }
            return None;
        }
        verdict_of_target(field("name"))
    }

    fn mangle(&mut self, body: &Value, truth: Truth) {
        let key = body.get("key").and_then(|key| key.get("meta")).and_then(|meta| meta.get("key"));
        if key.and_then(Value::as_str) == Some("mark") {
            let value = body.get("value").and_then(|value| number(value, &self.packet));
            self.packet.mark = if truth == Truth::Yes { value } else { None };
        }
    }
}

fn named<'f>(foreign: &'f Foreign, family: &str, table: &str, name: &str) -> Option<&'f [Value]> {
    foreign.sets.get(&(family.into(), table.into(), name.into())).map(Vec::as_slice)
}

/// What iptables' targets do, in nft's words (iptables-extensions(8)).
fn verdict_of_target(name: &str) -> Option<&'static Value> {
    use std::sync::LazyLock;
    macro_rules! statement {
        ($kind:literal) => {{
    static STATEMENT: LazyLock<Value> = LazyLock::new(|| serde_json::json!({ $kind: null }));
            Some(&*STATEMENT)
        }};
    }
    match name {
        "REJECT" | "DROP" | "TARPIT" => statement!("reject"),
        "NFQUEUE" => statement!("queue"),
        "MASQUERADE" | "SNAT" => statement!("masquerade"),
        "DNAT" | "REDIRECT" | "TPROXY" => statement!("redirect"),
        "FLOWOFFLOAD" => statement!("flow"),
        "TEE" => statement!("dup"),
        _ => None,
    }
}
