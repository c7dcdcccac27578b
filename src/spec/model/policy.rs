//! Policies: what may reach a guest, and what a guest may reach. The JSON of
//! VPC tools before hostctl is read as it is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::spec::{Issue, Peer, Peers, PolicySubnet, Ports, SpecPath};

/// Where a rule stands that names no priority.
pub const DEFAULT_PRIORITY: u16 = 100;

/// Most rules of one direction of a policy.
pub const RULES_MAX: usize = 1000;

/// A security group. A direction that has rules denies what none of them
/// allows; one without is open; `default` says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The version of the policy's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"1.0")]
    pub version: Option<PolicyVersion>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"HTTP from anywhere")]
    pub description: Option<String>,
    /// The only subnet that it may be attached to, by its prefix or its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"web")]
    pub subnet: Option<PolicySubnet>,
    /// The only subnet that it may be attached to, as `NETWORK-SUBNET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"prod-web")]
    pub namespace: Option<String>,
    /// What becomes of a flow that no rule matches: for both directions, or
    /// for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"deny")]
    pub default: Option<PolicyDefault>,
    /// Rules for flows that are opened to its guests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [[{ "port": 443, "protocol": "tcp", "source": "0.0.0.0/0" }]]))]
    pub ingress: Option<Vec<PolicyRule>>,
    /// Rules for flows that its guests open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [[{ "destination": "0.0.0.0/0" }]]))]
    pub egress: Option<Vec<PolicyRule>>,
}

/// The version of a policy's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyVersion {
    /// The only one.
    #[serde(rename = "1.0")]
    V1,
}

/// What becomes of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It may be opened.
    #[default]
    Allow,
    /// It may not.
    Deny,
}

/// What becomes of a flow that no rule matches, by direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "DefaultText", into = "DefaultText")]
pub struct PolicyDefault {
    /// Of one to a guest; none says nothing.
    pub ingress: Option<Action>,
    /// Of one from a guest; none says nothing.
    pub egress: Option<Action>,
}

/// How a [`PolicyDefault`] is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a default is \"allow\", \"deny\", or a table of ingress and egress")]
enum DefaultText {
    /// For both directions.
    Both(Action),
    /// For each.
    #[serde(deserialize_with = "each")]
    Each(DefaultEach),
}

/// A table: serde would take a list of the fields' values too.
fn each<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DefaultEach, D::Error> {
    let mut actions = BTreeMap::<String, Option<Action>>::deserialize(deserializer)?;
    let mut take = |direction: Direction| actions.remove(direction.as_str()).flatten();
    let each = DefaultEach { ingress: take(Direction::Ingress), egress: take(Direction::Egress) };
    match actions.into_keys().next() {
        None => Ok(each),
        Some(key) => Err(D::Error::custom(format!("no direction {key}"))),
    }
}

/// A default for each direction.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DefaultEach {
    /// To a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"deny")]
    ingress: Option<Action>,
    /// From a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"allow")]
    egress: Option<Action>,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyRule {
    /// Destination ports: one, a range such as `"8000-8080"`, or a list of
    /// these; default: all. Only with `protocol` tcp or udp.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 22)]
    pub port: Option<Ports>,
    /// The protocol; default: any.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(example = &"tcp")]
    pub protocol: PolicyProtocol,
    /// Who opens the flow (ingress only): a prefix, an address,
    /// `network:NAME`, `policy:NAME`, or a list of these; default: anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"10.0.0.0/16")]
    pub source: Option<Peers>,
    /// To whom (egress only), written as `source` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"10.0.0.0/16")]
    pub destination: Option<Peers>,
    /// What becomes of the flow; default: allow.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(example = &"allow")]
    pub action: Action,
    /// Rules of a lower number are asked first (default: 100); of those with
    /// the same one, deny wins.
    #[serde(skip_serializing_if = "is_usual")]
    #[schemars(example = 100)]
    pub priority: u16,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"HTTP from anywhere")]
    pub description: Option<String>,
}

/// The protocol of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyProtocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 792: IPv4's.
    Icmp,
    /// RFC 4443: IPv6's.
    Icmpv6,
    /// Every protocol there is.
    #[default]
    Any,
}

/// Which way a rule looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To a guest.
    Ingress,
    /// From a guest.
    Egress,
}

impl Default for PolicyRule {
    fn default() -> Self {
        Self {
            port: None,
            protocol: PolicyProtocol::Any,
            source: None,
            destination: None,
            action: Action::Allow,
            priority: DEFAULT_PRIORITY,
            description: None,
        }
    }
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The key of its rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The key of the far end in one of its rules.
    pub const fn peer(self) -> &'static str {
        match self {
            Self::Ingress => "source",
            Self::Egress => "destination",
        }
    }
}

impl PolicyProtocol {
    /// Its word in the spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Any => "any",
        }
    }
}

impl PolicyRule {
    /// The far end of its flows; none is anybody.
    pub fn peers(&self, direction: Direction) -> Option<&Peers> {
        match direction {
            Direction::Ingress => self.source.as_ref(),
            Direction::Egress => self.destination.as_ref(),
        }
    }

    fn check(&self, direction: Direction, path: &SpecPath, issues: &mut Vec<Issue>) {
        // Where a protocol was written, and refused, this follows from it.
        if self.port.is_some() && self.protocol == PolicyProtocol::Any {
            let (message, hint) = ("a port without a protocol", "add protocol: tcp or udp");
            issues.push(Issue::dangling(path.clone().key("port"), message, hint));
        }
        let mut issue = |key: &str, message: String, hint: &str| {
            issues.push(Issue::new(path.clone().key(key), message, hint));
        };
        match (&self.port, self.protocol) {
            (None, _) | (Some(_), PolicyProtocol::Tcp | PolicyProtocol::Udp | PolicyProtocol::Any) => {}
            (Some(_), other) => {
                issue("port", format!("{} has no ports", other.as_str()), "remove port, or take tcp or udp");
            }
        }
        let (wrong, other) = match direction {
            Direction::Ingress => (self.destination.is_some(), Direction::Egress),
            Direction::Egress => (self.source.is_some(), Direction::Ingress),
        };
        if wrong {
            let message = format!("an {} rule has no {}", direction.as_str(), other.peer());
            issue(other.peer(), message, "ingress rules have a source, egress rules a destination");
        }
        let family = match self.protocol {
            PolicyProtocol::Icmp => Some((true, "icmp is IPv4's", "take protocol icmpv6")),
            PolicyProtocol::Icmpv6 => Some((false, "icmpv6 is IPv6's", "take protocol icmp")),
            _ => None,
        };
        let peers = self.peers(direction).map(Peers::as_slice).unwrap_or_default();
        if let Some((v4, what, hint)) = family
            && !peers.is_empty()
            && peers.iter().all(|peer| matches!(peer, Peer::Net(net) if net.addr().is_ipv4() != v4))
        {
            issue("protocol", format!("{what}, and no such address is named: nothing would match"), hint);
        }
    }
}

impl Policy {
    /// Its rules for a direction.
    pub fn rules(&self, direction: Direction) -> Option<&[PolicyRule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// What becomes of a flow that no rule matches; none where the policy has
    /// nothing to say about the direction.
    pub fn default_of(&self, direction: Direction) -> Option<Action> {
        let said = self.default.and_then(|default| match direction {
            Direction::Ingress => default.ingress,
            Direction::Egress => default.egress,
        });
        said.or_else(|| self.rules(direction).map(|_| Action::Deny))
    }

    /// What is wrong with it on its own; `path` is its own.
    pub fn issues(&self, path: &SpecPath) -> Vec<Issue> {
        let mut issues = Vec::new();
        for direction in Direction::ALL {
            let rules = self.rules(direction).unwrap_or_default();
            let path = path.clone().key(direction.as_str());
            if rules.len() > RULES_MAX {
                let message = format!("{} rules: at most {RULES_MAX} are", rules.len());
                issues.push(Issue::new(path.clone(), message, "use lists and ranges in fewer rules"));
            }
            for (index, rule) in rules.iter().enumerate().take(RULES_MAX) {
                rule.check(direction, &path.clone().index(index), &mut issues);
            }
        }
        issues
    }
}

impl From<DefaultText> for PolicyDefault {
    fn from(text: DefaultText) -> Self {
        match text {
            DefaultText::Both(action) => Self { ingress: Some(action), egress: Some(action) },
            DefaultText::Each(DefaultEach { ingress, egress }) => Self { ingress, egress },
        }
    }
}

impl From<PolicyDefault> for DefaultText {
    fn from(default: PolicyDefault) -> Self {
        match (default.ingress, default.egress) {
            (Some(ingress), Some(egress)) if ingress == egress => Self::Both(ingress),
            (ingress, egress) => Self::Each(DefaultEach { ingress, egress }),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_usual(priority: &u16) -> bool {
    *priority == DEFAULT_PRIORITY
}
