//! Reads and makes the rules and routes that keep networks apart, over
//! rtnetlink (rtnetlink(7), `linux/fib_rules.h`).
//!
//! They are of the protocol `kernel`: systemd-networkd removes rules that it
//! doesn't know, but those. What marks them as hostctl's is that they lead to
//! its priority or its table.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use nix::libc;
use rtnetlink::{Error, IpVersion};

use super::apart::{ALLOWED, END, OTHERS, PASS, Part, Rule};
use super::netlink::Netlink;
use crate::ownership::{JUDGED, ROUTING_TABLE};
use crate::packet::Family;

impl Netlink {
    /// The rules, and with the routes what there is of it; none where this
    /// kernel has no routing by rules.
    pub(super) async fn read_apart(&self, routes: &[RouteMessage]) -> Option<BTreeSet<Part>> {
        let mut parts: BTreeSet<Part> = routes.iter().filter_map(prohibited).collect();
        for family in Family::ALL {
            let version = family.pick([IpVersion::V4, IpVersion::V6]);
            let mut dump = self.handle.rule().get(version).execute();
            loop {
                match dump.try_next().await {
                    Ok(Some(rule)) => parts.extend(part(&rule, family)),
                    Ok(None) => break,
                    // Without IPv6 there are no rules of it.
                    Err(_) if family == Family::V6 => break,
                    Err(_) => return None,
                }
            }
        }
        Some(parts)
    }
}

/// Whether a refusal says that it is as it was to be.
pub(super) fn is_done(error: &Error, add: bool) -> bool {
    let Error::NetlinkError(message) = error else { return false };
    match message.to_io().raw_os_error() {
        Some(libc::EEXIST) => add,
        Some(libc::ENOENT | libc::ESRCH) => !add,
        _ => false,
    }
}

/// The rule that a part is.
pub(super) fn message(part: &Part) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::Kernel));
    let (family, priority) = match part {
        Part::Rule { family, rule } => {
            message.header.action = RuleAction::Goto;
            (*family, fill(rule, &mut message))
        }
        Part::Lookup { family } => (*family, look_up(&mut message)),
        // Only rules get here.
        Part::Prohibit(to) => (Family::of(to.addr()), look_up(&mut message)),
    };
    message.header.family = family.pick([AddressFamily::Inet, AddressFamily::Inet6]);
    message.attributes.push(RuleAttribute::Priority(priority));
    message
}

/// Has the routes looked up. Gives the rule's priority.
fn look_up(message: &mut RuleMessage) -> u32 {
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Table(ROUTING_TABLE));
    OTHERS
}

/// Has packets pass by the look-up. Gives the rule's priority.
fn fill(rule: &Rule, message: &mut RuleMessage) -> u32 {
    if *rule == Rule::End {
        message.header.action = RuleAction::Nop;
        return END;
    }
    message.attributes.push(RuleAttribute::Goto(END));
    match rule {
        Rule::From(interface) => message.attributes.push(RuleAttribute::Iifname(interface.clone())),
        Rule::Judged => {
            message.attributes.extend([RuleAttribute::FwMark(JUDGED), RuleAttribute::FwMask(JUDGED)]);
        }
        Rule::Allowed { bridge, to } => {
            message.header.dst_len = to.prefix_len();
            message.attributes.push(RuleAttribute::Iifname(bridge.clone()));
            message.attributes.push(RuleAttribute::Destination(to.network()));
            return ALLOWED;
        }
        Rule::End => {}
    }
    PASS
}

/// The part that a rule of the kernel's is; none where it is somebody else's.
fn part(message: &RuleMessage, family: Family) -> Option<Part> {
    let (mut priority, mut table, mut target) = (0, u32::from(message.header.table), None);
    let (mut interface, mut destination, mut mark) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Goto(number) => target = Some(*number),
            RuleAttribute::Iifname(name) => interface = Some(name.clone()),
            RuleAttribute::Destination(address) => destination = Some(*address),
            RuleAttribute::FwMark(number) => mark = Some(*number),
            _ => {}
        }
    }
    let rule = match (message.header.action, priority) {
        (RuleAction::ToTable, OTHERS) if table == ROUTING_TABLE => return Some(Part::Lookup { family }),
        (RuleAction::Nop, END) => Rule::End,
        (RuleAction::Goto, PASS | ALLOWED) if target == Some(END) => match (interface, destination, mark) {
            (Some(interface), None, None) => Rule::From(interface),
            (None, None, Some(JUDGED)) => Rule::Judged,
            (Some(bridge), Some(to), None) => {
                Rule::Allowed { bridge, to: IpNet::new(to, message.header.dst_len).ok()? }
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(Part::Rule { family, rule })
}

/// The route that keeps packets from a prefix.
pub(super) fn prohibit(to: IpNet) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = Family::of(to.addr()).pick([AddressFamily::Inet, AddressFamily::Inet6]);
    message.header.destination_prefix_length = to.prefix_len();
    message.header.kind = RouteType::Prohibit;
    message.header.protocol = RouteProtocol::Kernel;
    message.header.scope = RouteScope::Universe;
    let address = match to.network() {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    message.attributes = vec![RouteAttribute::Table(ROUTING_TABLE), RouteAttribute::Destination(address)];
    message
}

/// Whether a route is one of those.
pub(super) fn is_apart(route: &RouteMessage) -> bool {
    let ours = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Table(ROUTING_TABLE));
    route.header.kind == RouteType::Prohibit && route.attributes.iter().any(ours)
}

fn prohibited(route: &RouteMessage) -> Option<Part> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    let everything = match route.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let to = IpNet::new(address.unwrap_or(everything), route.header.destination_prefix_length).ok()?;
    Some(Part::Prohibit(to))
}
