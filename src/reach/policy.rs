//! What a policy says about a flow, by its definition: the reference that the
//! loaded rules are compared with.

use std::net::IpAddr;

use crate::packet::protocol;
use crate::topology::{Action, PolicyProtocol, Rule, RuleList};

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
    decide_by(list, flow, |_, rule| {
        rule.peers.as_ref().is_none_or(|peers| peers.iter().any(|net| net.contains(&flow.address)))
    })
}

/// As [`decide`], where `is_peer` says whether the far end is one of a rule's,
/// by the rule's place in the list.
fn decide_by<'l>(
    list: &'l RuleList,
    flow: &FarEnd,
    is_peer: impl Fn(usize, &Rule) -> bool,
) -> (Action, Option<&'l Rule>) {
    let matching = || {
        let rules = list.rules.iter().enumerate();
        rules.filter(|(index, rule)| matches(rule, flow) && is_peer(*index, rule)).map(|(_, rule)| rule)
    };
    let Some(lowest) = matching().map(|rule| rule.priority).min() else { return (list.default, None) };
    let deciding = || matching().filter(|rule| rule.priority == lowest);
    let rule = deciding().find(|rule| rule.action == Action::Deny).or_else(|| deciding().next());
    (rule.map_or(list.default, |rule| rule.action), rule)
}

fn matches(rule: &Rule, flow: &FarEnd) -> bool {
    let protocol = match rule.protocol {
        PolicyProtocol::Any => true,
        PolicyProtocol::Tcp => flow.protocol == protocol::TCP,
        PolicyProtocol::Udp => flow.protocol == protocol::UDP,
        PolicyProtocol::Icmp => flow.protocol == protocol::ICMP && flow.address.is_ipv4(),
        PolicyProtocol::Icmpv6 => flow.protocol == protocol::ICMPV6 && flow.address.is_ipv6(),
    };
    let port = rule.ports.is_empty()
        || rule.ports.iter().any(|ports| (ports.first()..=ports.last()).contains(&flow.port));
    protocol && port
}

/// A rule list whose far ends are found without looking at each.
#[derive(Debug)]
pub(super) struct Indexed<'t> {
    list: &'t RuleList,
    /// For each rule its far ends, first and last address, in order and
    /// apart; none: anybody.
    peers: Vec<Option<Vec<(IpAddr, IpAddr)>>>,
}

impl<'t> Indexed<'t> {
    pub fn new(list: &'t RuleList) -> Self {
        let ranges = |nets: &Vec<ipnet::IpNet>| {
            let mut ranges: Vec<_> = nets.iter().map(|net| (net.network(), net.broadcast())).collect();
            ranges.sort_unstable_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
            // Prefixes are apart, or one is in the other.
            ranges.dedup_by(|inner, outer| inner.1 <= outer.1);
            ranges
        };
        Self { list, peers: list.rules.iter().map(|rule| rule.peers.as_ref().map(ranges)).collect() }
    }

    fn is_peer(&self, rule: usize, address: IpAddr) -> bool {
        let Some(Some(ranges)) = self.peers.get(rule) else { return true };
        let behind = ranges.partition_point(|(first, _)| *first <= address);
        behind.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|(_, last)| *last >= address)
    }

    /// As [`decide`].
    pub fn decide(&self, flow: &FarEnd) -> (Action, Option<&'t Rule>) {
        decide_by(self.list, flow, |index, _| self.is_peer(index, flow.address))
    }

    /// Which of the rules an address is a far end of.
    pub fn naming(&self, address: IpAddr) -> Vec<bool> {
        (0..self.peers.len()).map(|rule| self.is_peer(rule, address)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            prop_assert_eq!(Indexed::new(&list).decide(&flow), decide(&list, &flow));
        }
    }
}
