//! Frames at guests' ports, and ARP between guests and their gateway.

use crate::packet::{Family, Range};
use crate::reach::subject::{Delivery, Field, Kind, state};
use crate::topology::Port;

use super::super::diagram::Diagram;
use super::super::space::{Of, judge};
use super::condition::Own;
use super::traffic::{Collect, NOWHERE, Stretch, Traffic, Way};
use super::walk::Station;
use super::ways::{ALL, ARP, DEVICES, FRAMES, GUESTS};

impl<'t> Collect<'_, 't> {
    /// The ways of frames at guests' ports, where somebody looks at those.
    pub fn frames(&mut self, ports: &[&'t Port]) -> Vec<Way> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for port in ports {
            let name = port.interface.as_str();
            let traffic = |who: String, outbound| Traffic {
                who,
                ours: name.into(),
                outbound,
                reply: false,
                keeps_source: true,
            };
            let plain = self.tracked(state::NEW, false);
            let nowhere = self.one(Field::Out, NOWHERE);
            let passed = self.let_in(port);
            let space = self.all(&[passed, plain, nowhere]);
            self.add(&mut from, traffic(format!("frames from {name}"), true), space);
            let addresses: Vec<Range> = match (self.header.kind, &port.v6) {
                (Kind::Ipv6, Some(v6)) => {
                    [v6.address, v6.link_local].map(|own| (own.into(), own.into())).into()
                }
                (Kind::Ipv6, None) => Vec::new(),
                _ => vec![(u32::from(port.address).into(), u32::from(port.address).into())],
            };
            let addressed = self.is(Field::Destination, &addresses);
            let nowhere = self.one(Field::In, NOWHERE);
            let there = self.one(Field::Out, self.link(name).0);
            let space = self.all(&[addressed, plain, nowhere, there]);
            self.add(&mut to, traffic(format!("frames to {name}"), false), space);
        }
        let at =
            |hook, families, early| Station { hook, families, priorities: ALL, early, own: Own::default() };
        let inward =
            vec![at("ingress", DEVICES, true), at("prerouting", FRAMES, true), at("input", FRAMES, true)];
        let outward =
            vec![at("output", FRAMES, false), at("postrouting", FRAMES, false), at("egress", DEVICES, false)];
        [(from, inward), (to, outward)]
            .map(|(flows, stations)| vec![Stretch { flows, stations, guest: GUESTS, forgotten: &[] }])
            .into()
    }

    /// What a port lets in.
    fn let_in(&mut self, port: &Port) -> Diagram {
        let mut header = self.header.clone();
        let number = self.link(port.interface.as_str()).0;
        header.fix(Field::In, number);
        for field in [Field::State, Field::Reply, Field::Confirmed] {
            header.fix(field, 0);
        }
        let of =
            Of { header: &header, links: self.links, delivery: Delivery::Host, senders: &[], flow: None };
        let model = self.model;
        let judged = judge(self.diagrams, self.known, of, Diagram::ALWAYS, &mut |subject| {
            model.refused_at(subject, port).is_none()
        });
        let passed = judged.into_iter().filter(|(_, passes)| *passes);
        let passed = passed.fold(Diagram::NEVER, |all, (these, _)| self.diagrams.or(all, these));
        let entry = self.one(Field::In, number);
        self.diagrams.and(passed, entry)
    }

    /// ARP between a network's guests and their gateway.
    pub fn arp(&mut self) -> Vec<Way> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        let plain = self.tracked(state::NEW, false);
        let model = self.model;
        for network in model.sets().networks.values() {
            let (name, bridge) = (&network.network.name, network.network.bridge.as_str());
            let traffic = |who: String, outbound| Traffic {
                who,
                ours: bridge.into(),
                outbound,
                reply: false,
                keeps_source: true,
            };
            let guests = self.guests(network);
            let addresses: Vec<Range> = model
                .senders(network, Family::V4)
                .into_iter()
                .flat_map(|(_, own)| own)
                .map(|own| (own, own))
                .collect();
            let asks = self.is(Field::Operation, &[(1, 2)]);
            let (nowhere, here) = (self.one(Field::Out, NOWHERE), self.one(Field::In, self.link(bridge).0));
            let well = self.one(Field::Malformed, 0);
            let space = self.all(&[guests, asks, nowhere, here, plain, well]);
            self.add(&mut from, traffic(format!("ARP of guests of {name}"), true), space);
            let gateway = self.is(Field::Source, network.gateway.ranges(Family::V4));
            let guests = self.is(Field::Destination, &addresses);
            let (nowhere, there) = (self.one(Field::In, NOWHERE), self.one(Field::Out, self.link(bridge).0));
            let space = self.all(&[gateway, guests, asks, nowhere, there, plain, well]);
            self.add(&mut to, traffic(format!("the host's ARP to guests of {name}"), false), space);
        }
        let at = |hook, early| Station { hook, families: ARP, priorities: ALL, early, own: Own::default() };
        [(from, vec![at("input", true)]), (to, vec![at("output", false)])]
            .map(|(flows, stations)| vec![Stretch { flows, stations, guest: GUESTS, forgotten: &[] }])
            .into()
    }
}
