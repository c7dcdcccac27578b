//! The packets of every host, as the model asks about them: what it asks of the
//! sets of one host is a fact.

use std::collections::HashMap;

use crate::packet::{Family, Range};
use crate::reach::Model;
use crate::reach::sets::{NetworkSets, SetId, Sets};
use crate::reach::subject::{Condition, Delivery, Field, Judges, Kind, Subject};
use crate::topology::{Action, HostPort, Port, Transport};

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::Header;
use super::super::rules::Unknown;
use super::fact::{Fact, Facts};

/// What the model's sets mean.
pub struct Means<'m> {
    sets: HashMap<(SetId, Field), Option<Fact>>,
    port: Option<&'m Port>,
    open: &'m [HostPort],
}

impl<'m> Means<'m> {
    /// Of what is sent at a port, from a network's bridge, or from elsewhere.
    pub fn new(model: &'m Model<'_>, port: Option<&'m Port>, network: Option<&NetworkSets<'_>>) -> Self {
        let sets = model.sets();
        let (source, destination, out) = (Field::Source, Field::Destination, Field::Out);
        let mut means = HashMap::from([
            ((sets.denied.id, destination), Some(Fact::ToDenied)),
            ((sets.resolvers.id, destination), Some(Fact::ToResolver)),
            ((sets.closed.id, destination), Some(Fact::ToClosed)),
            ((sets.prefixes.id, source), Some(Fact::FromNetworks)),
            ((sets.prefixes.id, destination), Some(Fact::ToNetworks)),
            ((sets.bridges.id, out), Some(Fact::ToBridge)),
            ((sets.tailscale.id, out), Some(Fact::ToTailscaleNetwork)),
            ((sets.tailnet.id, out), Some(Fact::ToTailnet)),
            ((sets.exit_names.id, out), Some(Fact::ToUplink)),
            ((sets.exits.id, out), Some(Fact::ToExit)),
            ((sets.guests.id, destination), Some(Fact::ToGuest)),
            ((sets.metadata.id, destination), Some(Fact::ToMetadata)),
            ((sets.services.id, destination), Some(Fact::ToService)),
            // fe80::/10 stands in the rules themselves.
            ((sets.link_local.id, source), None),
            ((sets.link_local.id, destination), None),
        ]);
        if let Some(network) = network {
            means.extend([
                ((network.sources.id, source), Some(Fact::FromGuest)),
                ((network.gateway.id, destination), Some(Fact::ToGateway)),
                ((network.public.id, source), Some(Fact::FromPublic)),
                ((network.lan.id, destination), Some(Fact::ToLan)),
                ((network.connected.id, out), Some(Fact::ToConnected)),
                ((network.exits.id, out), Some(Fact::ToOwnExit)),
            ]);
        }
        Self { sets: means, port, open: &model.topology().allow_input }
    }

    /// What it means that a field has what the port's guest has there.
    fn own(&self, field: Field, values: &[Range]) -> Option<Fact> {
        let port = self.port?;
        let one = |number: u128| vec![(number, number)];
        let mac = one(port.mac.number());
        let v4 = one(u32::from(port.address).into());
        let v6 = port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]);
        let v6: Vec<Range> = v6.map(|address| (u128::from(address), u128::from(address))).collect();
        match field {
            Field::SourceMac if values == mac => Some(Fact::OwnMac),
            Field::SenderMac if values == mac => Some(Fact::OwnSenderMac),
            Field::Source if values == v4 || values == v6 => Some(Fact::OwnSource),
            Field::Destination if values == v4 => Some(Fact::OwnDestination),
            Field::Target if values == v6 => Some(Fact::OwnTarget),
            _ => None,
        }
    }

    /// What it means that a packet is for one of the host's services.
    fn open_port(&self, conditions: &[Condition<'_>]) -> Option<Fact> {
        let [Condition::Is(Field::Protocol, protocol), Condition::Is(Field::DestinationPort, port), _] =
            conditions
        else {
            return None;
        };
        let open = self.open.iter().find(|open| {
            let number = match open.protocol {
                Transport::Tcp => crate::packet::protocol::TCP,
                Transport::Udp => crate::packet::protocol::UDP,
            };
            *protocol == [(number.into(), number.into())] && *port == [(open.port.into(), open.port.into())]
        })?;
        Some(if open.from.is_empty() { Fact::OpenPort } else { Fact::OpenPortToSome })
    }
}

/// What packets are judged.
#[derive(Clone, Copy)]
pub struct Of<'s> {
    pub header: &'s Header,
    pub delivery: Delivery,
    pub means: &'s Means<'s>,
    pub facts: &'s Facts,
}

/// The packets that are judged.
pub struct EveryHost<'s> {
    of: Of<'s>,
    diagrams: &'s mut Diagrams,
    /// What a policy names, where one is asked.
    names: Option<Fact>,
    unknown: Option<Unknown>,
    answers: Vec<bool>,
    place: usize,
    rest: Diagram,
    open: Vec<(Vec<bool>, Diagram)>,
}

/// Judges `space`: what `judge` says, each answer with the packets that it is
/// said of.
///
/// # Errors
/// Where the model asks what no fact is about.
pub fn judge<T>(
    diagrams: &mut Diagrams,
    of: Of<'_>,
    names: Option<Fact>,
    space: Diagram,
    judge: &mut impl FnMut(&mut EveryHost<'_>) -> T,
) -> Result<Vec<(Diagram, T)>, Unknown> {
    let mut open = vec![(Vec::new(), space)];
    let mut found = Vec::new();
    while let Some((answers, rest)) = open.pop() {
        if rest == Diagram::NEVER {
            continue;
        }
        let (unknown, place) = (None, 0);
        let mut space = EveryHost { of, diagrams, names, unknown, answers, place, rest, open: Vec::new() };
        let said = judge(&mut space);
        if let Some(unknown) = space.unknown {
            return Err(unknown);
        }
        found.push((space.rest, said));
        open.append(&mut space.open);
    }
    Ok(found)
}

impl EveryHost<'_> {
    /// Goes on with the packets of which the answer is the same.
    fn answer(&mut self, holds: impl FnOnce(&mut Self) -> Result<Diagram, Unknown>) -> bool {
        self.place += 1;
        if let Some(answer) = self.answers.get(self.place - 1) {
            return *answer;
        }
        let holds = holds(self).unwrap_or_else(|unknown| {
            self.unknown.get_or_insert(unknown);
            Diagram::NEVER
        });
        let yes = self.diagrams.and(self.rest, holds);
        let no = self.diagrams.minus(self.rest, holds);
        let answer = yes != Diagram::NEVER;
        if answer && no != Diagram::NEVER {
            let mut answers = self.answers.clone();
            answers.push(false);
            self.open.push((answers, no));
            self.rest = yes;
        }
        self.answers.push(answer);
        answer
    }

    fn fact(&mut self, field: Field, fact: Fact) -> Diagram {
        let there = self.of.header.present(self.diagrams, field);
        let is = self.of.facts.is(fact);
        self.diagrams.and(there, is)
    }

    fn among(&mut self, field: Field, ranges: &[Range]) -> Diagram {
        let there = self.of.header.present(self.diagrams, field);
        let is = self.of.header.among(self.diagrams, field, ranges);
        self.diagrams.and(there, is)
    }

    fn set(&mut self, id: SetId, field: Field, ranges: &[Range]) -> Result<Diagram, Unknown> {
        match (self.of.means.sets.get(&(id, field)).copied(), self.names) {
            (Some(Some(fact)), _) | (None, Some(fact)) => Ok(self.fact(field, fact)),
            (Some(None), _) => Ok(self.among(field, ranges)),
            (None, None) => Err(Unknown(format!("what the model means by a set that it asks {field:?} of"))),
        }
    }

    fn holds(&mut self, condition: &Condition<'_>) -> Result<Diagram, Unknown> {
        let means = self.of.means;
        match condition {
            Condition::Any => Ok(Diagram::ALWAYS),
            Condition::Is(field, values) => Ok(match means.own(*field, values) {
                Some(fact) => self.fact(*field, fact),
                None => self.among(*field, values),
            }),
            Condition::Among(field, addresses) => {
                self.set(addresses.id, *field, addresses.ranges(self.of.header.family()))
            }
            Condition::By(links) => self.set(links.id, Field::Out, &[]),
            Condition::To(guests) => self.set(guests.id, Field::Destination, &[]),
            Condition::SameGuest(Field::Source, Field::OpenedBy) => {
                Ok(self.fact(Field::Source, Fact::OpenedByItself))
            }
            Condition::SameGuest(Field::Source, Field::OpenedTo) => {
                Ok(self.fact(Field::Source, Fact::OpenedToItself))
            }
            Condition::SameGuest(..) => Err(Unknown(format!("what the model means by {condition:?}"))),
        }
    }

    fn all(&mut self, conditions: &[Condition<'_>]) -> Result<Diagram, Unknown> {
        if let Some(fact) = self.of.means.open_port(conditions) {
            let protocol = self.fact(Field::Protocol, fact);
            let port = self.fact(Field::DestinationPort, fact);
            return Ok(self.diagrams.and(protocol, port));
        }
        let mut all = Diagram::ALWAYS;
        for condition in conditions {
            let holds = self.holds(condition)?;
            all = self.diagrams.and(all, holds);
        }
        Ok(all)
    }

    /// What the policy denies that one end has, if it has one: it allows by
    /// default or denies, and names what is the other way.
    fn denied_by<'t>(&mut self, sets: &Sets<'t>, judges: Judges<'_, 't>) -> Result<Diagram, Unknown> {
        let [has, is_open, names] = match judges {
            Judges::Senders(_) => [Fact::HasEgress, Fact::EgressIsOpen, Fact::EgressNames],
            Judges::Receivers => [Fact::HasIngress, Fact::IngressIsOpen, Fact::IngressNames],
        };
        let mut denied = [Diagram::NEVER; 2];
        for (policy, denied) in super::schematic::POLICIES.into_iter().zip(&mut denied) {
            let Some(list) = sets.list(policy, judges.direction()) else { continue };
            let far = judges.far();
            let mut decide = |space: &mut EveryHost<'_>| list.decide(space, far).0;
            for (space, action) in judge(self.diagrams, self.of, Some(names), Diagram::ALWAYS, &mut decide)? {
                if action == Action::Deny {
                    *denied = self.diagrams.or(*denied, space);
                }
            }
        }
        let [open, closed] = denied;
        let denied = self.diagrams.choose(self.of.facts.is(is_open), open, closed);
        Ok(self.diagrams.and(self.of.facts.is(has), denied))
    }
}

impl<'t> Subject<'t> for EveryHost<'_> {
    fn family(&self) -> Family {
        self.of.header.family()
    }

    fn kind(&self) -> Kind {
        self.of.header.kind
    }

    fn delivery(&self) -> Delivery {
        self.of.delivery
    }

    fn has(&mut self, conditions: &[Condition<'_>]) -> bool {
        self.answer(|subject| subject.all(conditions))
    }

    fn denied(&mut self, sets: &Sets<'t>, judges: Judges<'_, 't>) -> bool {
        self.answer(|subject| subject.denied_by(sets, judges))
    }
}
