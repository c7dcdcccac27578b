//! What a policy says about a flow, by its definition: the reference that the
//! loaded rules are compared with.

use std::net::IpAddr;

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
    let matching = || list.rules.iter().filter(|rule| matches(rule, flow));
    let Some(lowest) = matching().map(|rule| rule.priority).min() else { return (list.default, None) };
    let deciding = || matching().filter(|rule| rule.priority == lowest);
    let rule = deciding().find(|rule| rule.action == Action::Deny).or_else(|| deciding().next());
    (rule.map_or(list.default, |rule| rule.action), rule)
}

fn matches(rule: &Rule, flow: &FarEnd) -> bool {
    let protocol = match rule.protocol {
        PolicyProtocol::Any => true,
        PolicyProtocol::Tcp => flow.protocol == 6,
        PolicyProtocol::Udp => flow.protocol == 17,
        PolicyProtocol::Icmp => flow.protocol == 1 && flow.address.is_ipv4(),
        PolicyProtocol::Icmpv6 => flow.protocol == 58 && flow.address.is_ipv6(),
    };
    let port = rule.ports.is_empty()
        || rule.ports.iter().any(|ports| (ports.first()..=ports.last()).contains(&flow.port));
    let peer = rule.peers.as_ref().is_none_or(|peers| peers.iter().any(|net| net.contains(&flow.address)));
    protocol && port && peer
}
