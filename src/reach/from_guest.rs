//! What a guest sends: to the host, to other guests, into the world.

use crate::packet::protocol::{TCP, UDP};
use crate::packet::{icmp, icmpv6, port};
use crate::topology::{IfName, Imds, Nat, SubnetKind};

use super::judge::{Decision, Said, Way, is_discovery, is_reply, only, said};
use super::sets::NetworkSets;
use super::subject::{Condition, Delivery, Field, Judges, Subject, state};
use super::{Checkpoint, Key, Model, Verdict};

impl<'t> Model<'t> {
    /// From the bridge of a network.
    pub(super) fn guest_sends<S: Subject<'t>>(
        &self,
        subject: &mut S,
        network: &NetworkSets<'t>,
        way: &mut Way,
    ) -> Decision {
        let name = &network.network.name;
        let claims = is_claim(subject);
        if !claims && !subject.among(Field::Source, &network.sources) {
            return way.drop(
                Checkpoint::Prerouting,
                said(subject, |flow| only(format!("{} is no guest's of network {name}", flow.source))),
            );
        }
        way.pass(
            Checkpoint::Prerouting,
            said(subject, |flow| only(format!("{} is a guest's of network {name}", flow.source))),
        );
        match subject.delivery() {
            Delivery::Host => self.guest_to_host(subject, network, way),
            // RFC 4291, 2.5.6. Before the host looks for a way.
            _ if subject.among(Field::Source, &self.sets.link_local) => {
                way.drop(Checkpoint::Forward, || only("what is from a link-local address isn't routed"))
            }
            _ if subject.among(Field::Destination, &self.sets.link_local) => way
                .drop(Checkpoint::Input, || {
                    only("link-local addresses reach nobody: guests meet on the host")
                }),
            Delivery::Nowhere => way.drop(
                Checkpoint::Forward,
                said(subject, |flow| only(format!("the host has no route to {}", flow.destination))),
            ),
            Delivery::Out if self.is_about_anothers_flow(subject) => {
                way.drop(Checkpoint::Forward, || only("an error about another's flow"))
            }
            Delivery::Out if subject.goes_by(&self.sets.bridges) => self.between(subject, network, way),
            Delivery::Out => self.out(subject, network, way),
        }
    }

    /// Replies, a ping of the gateway, and neighbour discovery.
    fn guest_to_host<S: Subject<'t>>(
        &self,
        subject: &mut S,
        network: &NetworkSets<'t>,
        way: &mut Way,
    ) -> Decision {
        if is_reply(subject) && subject.has(&[Condition::SameGuest(Field::Source, Field::OpenedTo)]) {
            way.pass(Checkpoint::Input, || only("a reply to the host"));
            return Decision::of(Verdict::Allowed);
        }
        if is_discovery(subject) {
            way.pass(Checkpoint::Input, || only("finding its neighbours"));
            return Decision::of(Verdict::Allowed);
        }
        if !subject.among(Field::Destination, &network.gateway) {
            return way.drop(
                Checkpoint::Input,
                said(subject, |flow| {
                    only(if self.is_own(flow.destination) {
                        format!("{} is the host's: a guest gets nothing there", flow.destination)
                    } else {
                        format!("{} is a group's: it reaches nobody", flow.destination)
                    })
                }),
            );
        }
        if !subject.is_message([&[icmp::ECHO], &[icmpv6::ECHO]]) {
            return way
                .drop(Checkpoint::Input, || only("of its gateway a guest gets a ping and nothing else"));
        }
        way.pass(Checkpoint::Input, || only("ping of its own gateway"));
        self.policed(subject, [Judges::Senders(network)], way)
    }

    /// To a guest, of the same network or another.
    fn between<S: Subject<'t>>(&self, subject: &mut S, from: &NetworkSets<'t>, way: &mut Way) -> Decision {
        let own = &from.network.name;
        if !subject.goes_by(&from.connected) {
            return way.drop(
                Checkpoint::Forward,
                said(subject, |flow| {
                    only(format!("{own} and {} are not peered", self.name_at(flow.destination)))
                }),
            );
        }
        way.pass(
            Checkpoint::Forward,
            said(subject, |flow| match self.network_of(flow.destination) {
                Some((_, to)) if to.name != *own => {
                    let key = Key::Peering(own.clone(), to.name.clone());
                    (format!("{own} and {} are peered", to.name), Some(key))
                }
                _ => ("same network".into(), Some(Key::Network(own.clone(), "cidr"))),
            }),
        );
        if !subject.has(&[Condition::To(&self.sets.guests)]) {
            return way.drop(
                Checkpoint::Forward,
                said(subject, |flow| only(format!("no guest has {}", flow.destination))),
            );
        }
        self.policed(subject, [Judges::Senders(from), Judges::Receivers], way)
    }

    /// To a link that isn't a network's.
    fn out<S: Subject<'t>>(&self, subject: &mut S, from: &NetworkSets<'t>, way: &mut Way) -> Decision {
        let (sets, network) = (&self.sets, from.network);
        let key = |key| Some(Key::Network(network.name.clone(), key));
        if is_reply(subject)
            && network.tailscale
            && subject.goes_by(&sets.tailnet)
            && subject.has(&[Condition::SameGuest(Field::Source, Field::OpenedTo)])
        {
            way.pass(Checkpoint::Forward, || ("a reply to the tailnet".into(), key("tailscale")));
            return Decision::of(Verdict::Allowed);
        }
        // It would leave with the guest's own address.
        if subject.is(Field::State, &[state::INVALID, state::UNTRACKED]) {
            return way.drop(Checkpoint::Forward, || only("what is of no flow isn't masqueraded"));
        }
        if subject.among(Field::Destination, &sets.denied) {
            return way.drop(
                Checkpoint::Forward,
                said(subject, |flow| {
                    (format!("no guest reaches {}", flow.destination), Some(Key::Host("deny")))
                }),
            );
        }
        let asks = subject.is_to(&[TCP.into(), UDP.into()], port::DNS);
        let resolver = asks && subject.among(Field::Destination, &sets.resolvers);
        if !resolver && subject.among(Field::Destination, &sets.metadata) {
            return self.to_metadata(subject, from, way);
        }
        if !subject.goes_by(&from.exits) {
            let link = subject.flow().and_then(|(_, link)| link.cloned());
            return way.drop(Checkpoint::Forward, || self.no_exit(from, link));
        }
        if subject.among(Field::Destination, &sets.closed)
            && let Some(dropped) = self.beside_the_internet(subject, from, resolver, way)
        {
            return dropped;
        }
        let public = subject.among(Field::Source, &from.public);
        let subnet = said(subject, |flow| {
            let subnet = self.sender(network, flow.source).map(|port| port.subnet.clone());
            let subnet = network.subnets.iter().find(|other| Some(&other.name) == subnet.as_ref());
            let Some(subnet) = subnet else { return only("of no subnet") };
            let kind = match subnet.kind {
                SubnetKind::Public => "public",
                SubnetKind::Private => "private",
            };
            let what = format!("{} is a {kind} subnet of {}", subnet.name, network.name);
            (what, Some(Key::Subnet(network.name.clone(), subnet.name.clone(), "type")))
        });
        if !public {
            return way.drop(Checkpoint::Forward, subnet);
        }
        way.pass(Checkpoint::Forward, subnet);
        self.leave(subject, from, way)
    }

    /// To a cloud's metadata service, or a twin of it.
    fn to_metadata<S: Subject<'t>>(
        &self,
        subject: &mut S,
        from: &NetworkSets<'t>,
        way: &mut Way,
    ) -> Decision {
        let (sets, network) = (&self.sets, from.network);
        let key = || Some(Key::Network(network.name.clone(), "imds"));
        if network.imds != Imds::Host {
            return way.drop(
                Checkpoint::Forward,
                said(subject, |flow| (format!("{} is a cloud's: imds = \"deny\"", flow.destination), key())),
            );
        }
        let served =
            subject.among(Field::Destination, &sets.services) && subject.is_to(&[TCP.into()], port::HTTP);
        if !served || !subject.goes_by(&sets.exits) {
            return way.drop(Checkpoint::Forward, || {
                ("imds = \"host\" lets TCP port 80 pass and nothing else".into(), key())
            });
        }
        way.pass(
            Checkpoint::Forward,
            said(subject, |flow| (format!("{} is a cloud's: imds = \"host\"", flow.destination), key())),
        );
        self.leave(subject, from, way)
    }

    /// To what lies behind an uplink and isn't the internet; none where it passes.
    fn beside_the_internet<S: Subject<'t>>(
        &self,
        subject: &mut S,
        from: &NetworkSets<'t>,
        resolver: bool,
        way: &mut Way,
    ) -> Option<Decision> {
        let key = || Some(Key::Network(from.network.name.clone(), "lan"));
        if resolver {
            way.pass(
                Checkpoint::Forward,
                said(subject, |flow| {
                    (format!("{} is a resolver of the guests'", flow.destination), Some(Key::Host("dns")))
                }),
            );
            return None;
        }
        if subject.among(Field::Destination, &from.lan) {
            way.pass(
                Checkpoint::Forward,
                said(subject, |flow| (format!("{} is of the LAN", flow.destination), key())),
            );
            return None;
        }
        let words = said(subject, |flow| {
            let to = flow.destination;
            (format!("{to} is private or the uplink's own, not the internet: lan = false"), key())
        });
        Some(way.drop(Checkpoint::Forward, words))
    }

    /// Why a network's guests don't go out by a link.
    fn no_exit(&self, from: &NetworkSets<'t>, link: Option<IfName>) -> Said {
        let key = Some(Key::Network(from.network.name.clone(), "nat"));
        let link = link.as_ref().map(IfName::as_str).unwrap_or_default();
        match &from.network.nat {
            _ if self.topology().tailscale.as_ref().is_some_and(|tailnet| tailnet.as_str() == link) => {
                ("guests answer the tailnet and open nothing to it".into(), Some(Key::Host("tailscale")))
            }
            Nat::Off => ("nat = false: its subnets go nowhere".into(), key),
            Nat::Named(_) => (format!("{link} isn't one of nat's interfaces"), key),
            Nat::Uplinks => (format!("{link} isn't an uplink"), Some(Key::Host("uplink"))),
        }
    }

    /// By the sender's policy and the uplink.
    fn leave<S: Subject<'t>>(&self, subject: &mut S, from: &NetworkSets<'t>, way: &mut Way) -> Decision {
        let decision = self.policed(subject, [Judges::Senders(from)], way);
        if decision.verdict != Verdict::Allowed {
            return decision;
        }
        let link = subject.flow().and_then(|(_, link)| link.cloned());
        way.pass(Checkpoint::Postrouting, || {
            let link = link.as_ref().map(IfName::as_str).unwrap_or_default();
            only(format!("leaves by {link}, masqueraded as the host"))
        });
        Decision { masqueraded: true, ..decision }
    }

    /// Whether it is an error, or a connection announced, about a flow that
    /// isn't the sender's.
    fn is_about_anothers_flow<S: Subject<'t>>(&self, subject: &mut S) -> bool {
        subject.is(Field::State, &[state::RELATED])
            && !subject.has(&[Condition::SameGuest(Field::Source, Field::OpenedBy)])
            && !subject.has(&[Condition::SameGuest(Field::Source, Field::OpenedTo)])
    }

    fn name_at(&self, address: std::net::IpAddr) -> String {
        self.network_of(address).map(|(_, network)| network.name.to_string()).unwrap_or_default()
    }
}

/// Whether it claims an address before having any (RFC 4862, 5.4), which its
/// port lets pass for the guest's own alone.
fn is_claim<'t>(subject: &mut impl Subject<'t>) -> bool {
    subject.is_message([&[], &[icmpv6::NEIGHBOUR_SOLICITATION]]) && subject.is(Field::Source, &[0])
}
