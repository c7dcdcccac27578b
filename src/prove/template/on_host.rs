//! What is true of packets on one host: facts, as its model says them.

use crate::packet::{Family, Range};
use crate::reach::sets::NetworkSets;
use crate::reach::subject::{Condition, Delivery, Field, Kind, Subject};
use crate::reach::{Model, is_open};
use crate::topology::{Direction, IfName, Imds, Port};

use super::super::diagram::{Diagram, Diagrams};
use super::super::ground::Ground;
use super::super::header::{Boxes, Header, truth};
use super::super::links::LinkNumbers;
use super::super::space::{Of, Space, judge};
use super::fact::{Fact, Facts};

/// A host.
pub struct OnHost<'w, 't> {
    pub model: &'w Model<'t>,
    pub links: &'w LinkNumbers,
    /// The addresses of each guest, by family.
    guests: [Vec<Vec<u128>>; 2],
}

impl<'w, 't> OnHost<'w, 't> {
    pub fn new(model: &'w Model<'t>, links: &'w LinkNumbers) -> Self {
        let guests = [Family::V4, Family::V6].map(|family| {
            let networks = model.sets().networks.values();
            let senders = networks.flat_map(|network| model.senders(network, family));
            senders.map(|(_, addresses)| addresses).collect()
        });
        Self { model, links, guests }
    }

    fn guests(&self, family: Family) -> &[Vec<u128>] {
        let [v4, v6] = &self.guests;
        family.pick([v4, v6])
    }

    /// Where the model says yes.
    pub fn asked(
        &self,
        ground: &mut Ground,
        header: &Header,
        asks: &mut impl FnMut(&mut Space<'_>) -> bool,
    ) -> Diagram {
        let (links, senders) = (self.links, self.guests(header.family()));
        let of = Of { header, links, delivery: Delivery::Out, senders, flow: None };
        let said = judge(&mut ground.diagrams, &mut ground.known, of, Diagram::ALWAYS, asks);
        let yes = said.into_iter().filter(|(_, yes)| *yes);
        yes.fold(Diagram::NEVER, |all, (these, _)| ground.diagrams.or(all, these))
    }

    /// Where a guest is meant that has a policy.
    pub fn judged(
        &self,
        diagrams: &mut Diagrams,
        header: &Header,
        policy: &str,
        direction: Direction,
    ) -> Diagram {
        let mut boxes = Boxes::new(2);
        for network in self.model.sets().networks.values() {
            let Some(link) = self.links.known(network.network.bridge.as_str()) else { continue };
            let elsewhere = |way_in: u128| !(link.0..=link.1).contains(&way_in);
            if direction == Direction::Egress && header.constant(Field::In).is_some_and(elsewhere) {
                continue;
            }
            for (_, addresses) in network.policed(direction).lists.iter().filter(|(of, _)| *of == policy) {
                for range in addresses.ranges(header.family()) {
                    boxes.push(&[link, *range], Diagram::ALWAYS);
                }
            }
        }
        let fields = match direction {
            Direction::Ingress => [Field::Out, Field::Destination],
            Direction::Egress => [Field::In, Field::Source],
        };
        header.boxes(diagrams, &fields, &boxes)
    }

    /// Where each fact is true on this host, of what comes in by a link; with no link
    /// those that have nothing to do with it.
    pub fn facts(&self, ground: &mut Ground, header: &Header, link: Option<&str>) -> Facts {
        let model = self.model;
        let port = model.port_of(link);
        let network = link.and_then(|link| model.network_of_bridge(link));
        // What laws say of both.
        let shared = [Fact::FromNetworks, Fact::ToBridge, Fact::ToExit];
        Facts::of(|fact| match self.of_link(fact, header, link, port, network) {
            Some(is) => truth(is),
            None if link.is_some() && !fact.is_of_way_in() && !shared.contains(&fact) => Diagram::NEVER,
            None => self.of_packet(ground, header, fact, (port, network)),
        })
    }

    /// What is the same for all that comes in by a link.
    fn of_link(
        &self,
        fact: Fact,
        header: &Header,
        link: Option<&str>,
        port: Option<&Port>,
        network: Option<&NetworkSets<'t>>,
    ) -> Option<bool> {
        let (model, topology) = (self.model, self.model.topology());
        let is = |name: &IfName| Some(name.as_str()) == link;
        Some(match fact {
            Fact::FromPort => port.is_some(),
            Fact::FromBridge => network.is_some(),
            Fact::FromUplink => model.sets().exit_names.names.iter().any(is),
            Fact::FromTailnet => topology.tailscale.iter().any(is),
            Fact::FromUnforwarded => model.vicinity().opened.iter().any(is),
            Fact::FromTailscaleNetwork => network.is_some_and(|sets| sets.network.tailscale),
            Fact::FromImdsNetwork => network.is_some_and(|sets| sets.network.imds == Imds::Host),
            Fact::UnforwardedFamily => header.kind == Kind::Ipv6 && model.vicinity().closed6,
            _ => return None,
        })
    }

    fn of_packet(
        &self,
        ground: &mut Ground,
        header: &Header,
        fact: Fact,
        (port, network): (Option<&Port>, Option<&NetworkSets<'t>>),
    ) -> Diagram {
        let sets = self.model.sets();
        let one = |number: u128| vec![(number, number)];
        let mac = port.map(|port| one(port.mac.number())).unwrap_or_default();
        let v4 = port.map(|port| one(u32::from(port.address).into())).unwrap_or_default();
        let v6: Vec<Range> = port
            .and_then(|port| port.v6.as_ref())
            .into_iter()
            .flat_map(|v6| [v6.address, v6.link_local])
            .map(|address| (u128::from(address), u128::from(address)))
            .collect();
        let own = if header.kind == Kind::Ipv6 { &v6 } else { &v4 };
        let macs = network.map(|network| self.model.senders(network, header.family())).unwrap_or_default();
        let macs: Vec<Range> = macs.into_iter().map(|(mac, _)| (mac, mac)).collect();
        let (source, destination) = (Field::Source, Field::Destination);
        let condition = match (fact, network) {
            (Fact::OwnMac, _) => Condition::Is(Field::SourceMac, &mac),
            (Fact::OwnSenderMac, _) => Condition::Is(Field::SenderMac, &mac),
            (Fact::OwnSource, _) => Condition::Is(source, own),
            (Fact::OwnDestination, _) => Condition::Is(destination, &v4),
            (Fact::OwnTarget, _) => Condition::Is(Field::Target, &v6),
            (Fact::FromGuest, Some(network)) => Condition::Among(source, &network.sources),
            (Fact::FromGuestsMac, _) => Condition::Is(Field::SourceMac, &macs),
            (Fact::ToBridge, _) => Condition::By(&sets.bridges),
            (Fact::ToGuest, _) => Condition::To(&sets.guests),
            (Fact::ToConnected, Some(network)) => Condition::By(&network.connected),
            (Fact::ToUplink, _) => Condition::By(&sets.exit_names),
            (Fact::ToTailnet, _) => Condition::By(&sets.tailnet),
            (Fact::ToTailscaleNetwork, _) => Condition::By(&sets.tailscale),
            (Fact::ToExit, _) => Condition::By(&sets.exits),
            (Fact::ToOwnExit, Some(network)) => Condition::By(&network.exits),
            (Fact::FromNetworks, _) => Condition::Among(source, &sets.prefixes),
            (Fact::FromPublic, Some(network)) => Condition::Among(source, &network.public),
            (Fact::ToNetworks, _) => Condition::Among(destination, &sets.prefixes),
            (Fact::ToGateway, Some(network)) => Condition::Among(destination, &network.gateway),
            (Fact::ToClosed, _) => Condition::Among(destination, &sets.closed),
            (Fact::ToDenied, _) => Condition::Among(destination, &sets.denied),
            (Fact::ToLan, Some(network)) => Condition::Among(destination, &network.lan),
            (Fact::ToResolver, _) => Condition::Among(destination, &sets.resolvers),
            (Fact::ToMetadata, _) => Condition::Among(destination, &sets.metadata),
            (Fact::ToService, _) => Condition::Among(destination, &sets.services),
            (Fact::OpenedByItself, _) => Condition::SameGuest(source, Field::OpenedBy),
            (Fact::OpenedToItself, _) => Condition::SameGuest(source, Field::OpenedTo),
            (Fact::OpenPort | Fact::OpenPortToSome, _) => {
                let open = self.model.topology().allow_input.iter();
                let open = open.filter(|open| open.from.is_empty() == (fact == Fact::OpenPort));
                let open: Vec<_> = open.collect();
                let mut is = |space: &mut Space<'_>| open.iter().any(|open| is_open(space, open));
                return self.asked(ground, header, &mut is);
            }
            (Fact::HasEgress, Some(network)) => {
                let lists = &network.policed(Direction::Egress).lists;
                let mut is = |space: &mut Space<'_>| lists.iter().any(|(_, all)| space.among(source, all));
                return self.asked(ground, header, &mut is);
            }
            (Fact::HasIngress, _) => {
                return sets.lists.keys().fold(Diagram::NEVER, |all, policy| {
                    let these = self.judged(&mut ground.diagrams, header, policy, Direction::Ingress);
                    ground.diagrams.or(all, these)
                });
            }
            (Fact::ToReceivers, _) => {
                let of = sets.networks.values();
                let these = of.filter(|network| !network.policed(Direction::Ingress).lists.is_empty());
                let links = these.filter_map(|network| self.links.known(network.network.bridge.as_str()));
                return header.among(&mut ground.diagrams, Field::Out, &links.collect::<Vec<_>>());
            }
            // The rest is looked at by policy, and by who has a part of the ports.
            _ => return Diagram::NEVER,
        };
        self.asked(ground, header, &mut |space| space.has(&[condition]))
    }
}
