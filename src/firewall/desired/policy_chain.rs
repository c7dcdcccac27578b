//! A policy as nft has it: for each direction one chain and the sets that it
//! looks flows up in.

use strum::IntoEnumIterator;

use crate::packet::Family;
use crate::packet::protocol::TCP;
use crate::topology::{Action, Direction, Policy, RuleList};

use super::policy_boxes::{BOXES_MAX, Boxes};
use super::set::{Elements, ElementsBySet, PolicySet};

/// A policy that takes more elements than can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "policy {policy} is too complicated: its {} rules cut addresses and ports into more than {BOXES_MAX} parts \
     (use fewer ranges of ports, or the same ones for each prefix)",
    .direction.as_str()
)]
pub struct PolicyTooLarge {
    /// The policy's id.
    pub policy: String,
    /// Which of its rules.
    pub direction: Direction,
}

/// One direction of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firewall) struct PolicyChain {
    pub chain: String,
    /// For people: `ingress of web, db`.
    pub(super) what: String,
    /// The far end's field of a packet.
    pub(super) far: String,
    /// Whether what the sets don't hold is allowed.
    pub open: bool,
    pub(super) sets: ElementsBySet<PolicySet>,
}

/// The name of a policy's chain. Ids are of letters, digits, hyphens,
/// underscores and dots.
pub(in crate::firewall) fn chain_name(policy: &Policy, direction: Direction) -> String {
    let suffix = match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    };
    format!("policy_{}_{suffix}", policy.id)
}

impl PolicyChain {
    pub fn new(policy: &Policy, direction: Direction, list: &RuleList) -> Result<Self, PolicyTooLarge> {
        let boxes = |family| {
            let too_large = |_| PolicyTooLarge { policy: policy.id.clone(), direction };
            Boxes::new(list, family).map_err(too_large)
        };
        let (v4, v6) = (boxes(Family::V4)?, boxes(Family::V6)?);
        let mut sets = ElementsBySet::default();
        sets.extend(PolicySet::Ports4, ports(&v4, Family::V4));
        sets.extend(PolicySet::Ports6, ports(&v6, Family::V6));
        sets.extend(PolicySet::Protocols4, protocols(&v4, Family::V4));
        sets.extend(PolicySet::Protocols6, protocols(&v6, Family::V6));
        let names: Vec<&str> = policy.names.iter().map(|name| name.as_str()).collect();
        Ok(Self {
            chain: chain_name(policy, direction),
            what: format!("{} of {}", direction.as_str(), names.join(", ")),
            far: match direction {
                Direction::Ingress => "saddr".into(),
                Direction::Egress => "daddr".into(),
            },
            open: list.default == Action::Allow,
            sets,
        })
    }

    /// Its sets: names and elements.
    pub fn sets(&self) -> impl Iterator<Item = (String, &[String])> {
        PolicySet::iter().map(|set| (set.name(&self.chain), self.sets.of(&set)))
    }

    /// The same without elements.
    pub fn bare(&self) -> Self {
        Self { sets: ElementsBySet::default(), ..self.clone() }
    }
}

fn ports(boxes: &Boxes, family: Family) -> Elements {
    let element = |b: &super::policy_boxes::PortBox| {
        let protocol = if b.protocol == TCP { "tcp" } else { "udp" };
        format!("{} . {protocol} . {}", family.text(b.addresses), numbers(b.ports.0, b.ports.1))
    };
    boxes.ports.iter().map(element).collect()
}

fn protocols(boxes: &Boxes, family: Family) -> Elements {
    let element = |b: &super::policy_boxes::ProtocolBox| {
        format!("{} . {}", family.text(b.addresses), numbers(b.protocols.0.into(), b.protocols.1.into()))
    };
    boxes.protocols.iter().map(element).collect()
}

fn numbers(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}
