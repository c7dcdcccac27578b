//! What a policy says about a flow, by its definition: the reference that the
//! loaded rules are compared with.

use std::net::IpAddr;

use crate::packet::protocol::{ICMP, ICMPV6, TCP, UDP};
use crate::packet::{Family, Range};
use crate::topology::{Action, PolicyProtocol, Rule, RuleList};

use super::sets::Addresses;
use super::subject::{Condition, Field, Subject};

/// A flow as one of its ends' policies sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarEnd {
    /// The other end: who opens it (ingress), or to whom (egress).
    pub address: IpAddr,
    /// The protocol's number (IANA).
    pub protocol: u8,
    /// The destination's port; means nothing where the protocol has none.
    pub port: u16,
}

/// What becomes of a flow, and by which rule; none where the default decides.
///
/// Of the rules that match, those of the lowest priority decide, and among
/// these deny wins. Where none matches, the list's default does.
pub fn decide<'l>(list: &'l RuleList, flow: &FarEnd) -> (Action, Option<&'l Rule>) {
    let matching = || list.rules.iter().filter(|rule| matches(rule, flow));
    let Some(lowest) = matching().map(|rule| rule.priority).min() else { return (list.default, None) };
    let deciding = || matching().filter(|rule| rule.priority == lowest);
    let rule = deciding().find(|rule| rule.action == Action::Deny).or_else(|| deciding().next());
    (rule.map_or(list.default, |rule| rule.action), rule)
}

fn matches(rule: &Rule, flow: &FarEnd) -> bool {
    let protocol = match rule.protocol {
        PolicyProtocol::Any => true,
        PolicyProtocol::Tcp => flow.protocol == TCP,
        PolicyProtocol::Udp => flow.protocol == UDP,
        PolicyProtocol::Icmp => flow.protocol == ICMP && flow.address.is_ipv4(),
        PolicyProtocol::Icmpv6 => flow.protocol == ICMPV6 && flow.address.is_ipv6(),
    };
    let port = rule.ports.is_empty()
        || rule.ports.iter().any(|ports| (ports.first()..=ports.last()).contains(&flow.port));
    let peer = rule.peers.as_ref().is_none_or(|peers| peers.iter().any(|net| net.contains(&flow.address)));
    protocol && port && peer
}

/// A rule list as the model asks about it: in the order of evaluation, so that
/// the first rule that matches decides.
#[derive(Debug)]
pub struct Indexed<'t> {
    list: &'t RuleList,
    rules: Vec<Asked<'t>>,
}

#[derive(Debug)]
struct Asked<'t> {
    rule: &'t Rule,
    protocols: Option<Vec<Range>>,
    ports: Option<Vec<Range>>,
    peers: Option<Addresses>,
}

impl<'t> Indexed<'t> {
    pub(super) fn new(list: &'t RuleList) -> Self {
        let mut rules: Vec<&Rule> = list.rules.iter().collect();
        rules.sort_by_key(|rule| (rule.priority, rule.action == Action::Allow));
        let asked = |rule: &'t Rule| Asked {
            rule,
            protocols: number(rule.protocol).map(|number| vec![(number, number)]),
            ports: (!rule.ports.is_empty()).then(|| {
                rule.ports.iter().map(|ports| (ports.first().into(), ports.last().into())).collect()
            }),
            peers: rule.peers.as_ref().map(|peers| Addresses::new(peers.iter().copied())),
        };
        Self { list, rules: rules.into_iter().map(asked).collect() }
    }

    /// As [`decide`], of whatever is asked about; `far` is the field that says
    /// who the other end is.
    pub fn decide<S: Subject<'t> + ?Sized>(&self, subject: &mut S, far: Field) -> (Action, Option<&'t Rule>) {
        if hides(subject) {
            return (Action::Deny, None);
        }
        for Asked { rule, protocols, ports, peers } in &self.rules {
            let family = match rule.protocol {
                PolicyProtocol::Icmp => Some(Family::V4),
                PolicyProtocol::Icmpv6 => Some(Family::V6),
                _ => None,
            };
            if family.is_some_and(|family| family != subject.family()) {
                continue;
            }
            let conditions = [
                among(Field::Protocol, protocols.as_deref()),
                among(Field::DestinationPort, ports.as_deref()),
                peers.as_ref().map_or(Condition::Any, |peers| Condition::Among(far, peers)),
            ];
            if subject.has(&conditions) {
                return (rule.action, Some(rule));
            }
        }
        (self.list.default, None)
    }

    /// Whether what no rule matches is allowed.
    pub fn is_open(&self) -> bool {
        self.list.default == Action::Allow
    }

    /// Which of the list's rules an address is a far end of.
    pub fn naming(&self, address: IpAddr) -> Vec<bool> {
        let named = |asked: &Asked<'_>| asked.peers.as_ref().is_none_or(|peers| peers.contains(address));
        self.rules.iter().map(named).collect()
    }
}

/// Whether it can't be told what it is, or to which port: a policy lets nothing
/// pass that it can't judge (RFC 7112).
fn hides<'t, S: Subject<'t> + ?Sized>(subject: &mut S) -> bool {
    if !subject.has(&[Condition::Is(Field::Protocol, &[(0, u8::MAX as u128)])]) {
        return true;
    }
    let tcp_udp = [(TCP.into(), TCP.into()), (UDP.into(), UDP.into())];
    subject.has(&[Condition::Is(Field::Protocol, &tcp_udp)])
        && !subject.has(&[Condition::Is(Field::DestinationPort, &[(0, u16::MAX as u128)])])
}

fn among(field: Field, values: Option<&[Range]>) -> Condition<'_> {
    values.map_or(Condition::Any, |values| Condition::Is(field, values))
}

fn number(protocol: PolicyProtocol) -> Option<u128> {
    Some(match protocol {
        PolicyProtocol::Any => return None,
        PolicyProtocol::Tcp => TCP.into(),
        PolicyProtocol::Udp => UDP.into(),
        PolicyProtocol::Icmp => ICMP.into(),
        PolicyProtocol::Icmpv6 => ICMPV6.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use super::super::sets::{Sets, find};
    use super::super::subject::{Delivery, Judges};

    impl Subject<'_> for FarEnd {
        fn family(&self) -> Family {
            Family::of(self.address)
        }

        fn delivery(&self) -> Delivery {
            Delivery::Nowhere
        }

        fn has(&mut self, conditions: &[Condition<'_>]) -> bool {
            conditions.iter().all(|condition| match condition {
                Condition::Is(Field::Protocol, values) => find(values, self.protocol.into()),
                Condition::Is(Field::DestinationPort, values) => find(values, self.port.into()),
                Condition::Among(_, addresses) => addresses.contains(self.address),
                other => matches!(other, Condition::Any),
            })
        }

        fn denied(&mut self, _: &Sets<'_>, _: Judges<'_, '_>) -> bool {
            false
        }
    }

    proptest! {
        #[test]
        fn an_index_finds_the_same(
            rules in proptest::collection::vec(
                (proptest::option::of(proptest::collection::vec((0u32..64, 26u8..=32), 0..6)), any::<bool>(), 0u16..3),
                0..6,
            ),
            address in 0u32..70,
        ) {
            let net = |(address, prefix): (u32, u8)| {
                ipnet::IpNet::V4(ipnet::Ipv4Net::new(address.into(), prefix).unwrap().trunc())
            };
            let rules = rules.into_iter().enumerate().map(|(index, (peers, deny, priority))| Rule {
                policy: "p".to_string().try_into().unwrap(),
                index,
                priority,
                action: if deny { Action::Deny } else { Action::Allow },
                protocol: PolicyProtocol::Any,
                ports: Vec::new(),
                peers: peers.map(|peers| peers.into_iter().map(net).collect()),
                description: None,
            });
            let list = RuleList { default: Action::Deny, rules: rules.collect() };
            let flow = FarEnd { address: IpAddr::V4(address.into()), protocol: 6, port: 80 };
            prop_assert_eq!(Indexed::new(&list).decide(&mut { flow }, Field::Source), decide(&list, &flow));
        }
    }
}
