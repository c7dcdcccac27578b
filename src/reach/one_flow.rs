//! One flow's first packet, as the model asks about it.

use crate::packet::protocol::{ICMP, ICMPV6};
use crate::packet::{Family, number};
use crate::topology::{Action, IfName, Port};

use super::route::Route;
use super::sets::{Addresses, Sets, find};
use super::subject::{Condition, Delivery, Field, Judges, Subject, depth, fragment, state};
use super::{Entry, Flow, Model};

/// A first packet leaves a guest with a hop limit of 64 (RFC 1700).
const HOPS: u128 = 64;

/// The first packet of a flow.
pub(super) struct OneFlow<'m, 't> {
    model: &'m Model<'t>,
    flow: &'m Flow,
    delivery: Delivery,
    out: Option<&'m IfName>,
}

impl<'m, 't> OneFlow<'m, 't> {
    /// `exit` is where it is routed to, if it is not routed to a guest or the
    /// host.
    pub fn new(model: &'m Model<'t>, flow: &'m Flow, exit: Option<&'m IfName>) -> Self {
        let (delivery, out) = match model.route(flow.destination) {
            Route::Host | Route::Group => (Delivery::Host, None),
            Route::Bridge(network) => (Delivery::Out, Some(&network.bridge)),
            Route::Link(link) => (Delivery::Out, Some(exit.unwrap_or(link))),
            Route::Nowhere => (Delivery::Nowhere, None),
        };
        Self { model, flow, delivery, out }
    }

    /// The value of a field; none where the packet has none of it.
    fn value(&self, field: Field) -> Option<u128> {
        let flow = self.flow;
        let is_message = [ICMP, ICMPV6].contains(&flow.protocol);
        let echo = u128::from(Family::of(flow.source).echo().0);
        Some(match field {
            Field::State => state::NEW,
            Field::Reply | Field::Confirmed | Field::Translated | Field::Addressed | Field::Long => 0,
            Field::Limits => 0,
            Field::Fragment => fragment::NONE,
            Field::Depth => depth::TARGET,
            Field::Source | Field::OpenedBy => number(flow.source),
            Field::Destination | Field::OpenedTo => number(flow.destination),
            Field::Protocol => flow.protocol.into(),
            Field::DestinationPort => flow.port.into(),
            Field::MessageType if is_message => echo,
            Field::SourceMac => self.port()?.mac.number(),
            // Its bridge's: no group's.
            Field::DestinationMac => 0,
            Field::HopLimit if flow.source.is_ipv6() => HOPS,
            _ => return None,
        })
    }

    /// Where a guest sends it.
    fn port(&self) -> Option<&'t Port> {
        match &self.flow.entry {
            Entry::Guest(interface) => self.model.port(interface.as_str()),
            Entry::Host | Entry::Interface(_) => None,
        }
    }

    fn holds(&self, condition: &Condition<'_>) -> bool {
        match condition {
            Condition::Is(field, values) => self
                .value(*field)
                .is_some_and(|value| values.iter().any(|(first, last)| (*first..=*last).contains(&value))),
            Condition::Among(field, addresses) => self.is_among(*field, addresses),
            Condition::By(links) => self.out.is_some_and(|out| links.names.contains(out)),
            Condition::To(guests) => self
                .out
                .and_then(|out| guests.by_link.get(out))
                .is_some_and(|there| self.is_among(Field::Destination, there)),
            Condition::SameGuest(a, b) => self.value(*a) == self.value(*b),
            Condition::Any => true,
        }
    }

    fn is_among(&self, field: Field, addresses: &Addresses) -> bool {
        let family = Family::of(self.flow.source);
        self.value(field).is_some_and(|value| find(addresses.ranges(family), value))
    }

    /// The guest at either end that those have judge.
    pub fn judged(&self, judges: &Judges<'_, 't>) -> Option<&'t Port> {
        match judges {
            Judges::Senders(network) => self.model.sender(network.network, self.flow.source),
            Judges::Receivers => self.model.guest_at(self.flow.destination),
        }
    }
}

impl<'t> Subject<'t> for OneFlow<'_, 't> {
    fn family(&self) -> Family {
        Family::of(self.flow.source)
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn has(&mut self, conditions: &[Condition<'_>]) -> bool {
        conditions.iter().all(|condition| self.holds(condition))
    }

    fn denied(&mut self, sets: &Sets<'t>, judges: Judges<'_, 't>) -> bool {
        let Some(port) = self.judged(&judges) else { return false };
        let Some(policy) = self.model.topology().policy(port) else { return false };
        let Some(list) = sets.list(&policy.id, judges.direction()) else { return false };
        list.decide(self, judges.far()).0 == Action::Deny
    }

    fn flow(&self) -> Option<(&Flow, Option<&IfName>)> {
        Some((self.flow, self.out))
    }
}
