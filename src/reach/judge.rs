//! Follows a packet through the host: where it meets it, and the policies of
//! both ends. What a guest sends is followed in `from_guest`, what others send
//! in `from_elsewhere`, a frame at a guest's port in `port`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::packet::{Family, icmp, icmpv6};
use crate::topology::{Action, IfName, Name, Network, Port, Topology};

use super::one_flow::OneFlow;
use super::sets::{NetworkSets, Sets};
use super::subject::{Condition, Field, Judges, Subject, state};
use super::{Checkpoint, Entry, Flow, Judgement, Key, Stage, Verdict, Vicinity};

/// Who may reach whom on one host.
#[derive(Debug)]
pub struct Model<'t> {
    topology: &'t Topology,
    pub(super) vicinity: &'t Vicinity,
    pub(super) sets: Sets<'t>,
    ports: HashMap<&'t str, &'t Port>,
    bridges: HashMap<&'t str, &'t Network>,
    pub(super) guests: HashMap<IpAddr, &'t Port>,
    /// Networks by their first address: prefixes don't overlap.
    pub(super) prefixes: BTreeMap<IpAddr, (IpNet, &'t Network)>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision {
    /// Whether it arrives.
    pub verdict: Verdict,
    /// Whether it leaves with the host's own address for its source.
    pub masqueraded: bool,
}

impl Decision {
    pub(super) const fn of(verdict: Verdict) -> Self {
        Self { verdict, masqueraded: false }
    }
}

/// The stages so far; none where nobody asks for reasons.
pub(super) struct Way(Option<Vec<Stage>>);

/// What is found at a stage, and the key of the spec that says so.
pub(super) type Said = (String, Option<Key>);

impl Way {
    pub fn pass(&mut self, place: Checkpoint, said: impl FnOnce() -> Said) {
        self.add(place, true, said);
    }

    pub fn drop(&mut self, place: Checkpoint, said: impl FnOnce() -> Said) -> Decision {
        self.add(place, false, said);
        Decision::of(Verdict::Dropped)
    }

    /// One that nobody asks for.
    pub const fn silent() -> Self {
        Self(None)
    }

    fn add(&mut self, place: Checkpoint, passes: bool, said: impl FnOnce() -> Said) {
        if let Some(stages) = &mut self.0 {
            let (what, decided_by) = said();
            stages.push(Stage { place, what, decided_by, passes });
        }
    }

    fn judgement(self, Decision { verdict, masqueraded }: Decision) -> Judgement {
        Judgement { verdict, masqueraded, way: self.0.unwrap_or_default() }
    }
}

/// What is said of a flow; a space has no words.
pub(super) fn said<'t, S: Subject<'t>>(
    subject: &S,
    words: impl FnOnce(&Flow) -> Said,
) -> impl FnOnce() -> Said {
    move || subject.flow().map_or_else(|| only(""), |(flow, _)| words(flow))
}

/// Words, and no key.
pub(super) fn only(text: impl Into<String>) -> Said {
    (text.into(), None)
}

impl<'t> Model<'t> {
    /// The model of `topology` on a host with this `vicinity`.
    pub fn new(topology: &'t Topology, vicinity: &'t Vicinity) -> Self {
        let addresses = |port: &'t Port| {
            let v6 = port.v6.as_ref().map(|v6| IpAddr::V6(v6.address));
            [Some(IpAddr::V4(port.address)), v6].into_iter().flatten().map(move |address| (address, port))
        };
        let prefixes = topology.networks.iter().flat_map(|network| {
            let nets = [Some(IpNet::V4(network.cidr)), network.cidr6.map(IpNet::V6)];
            nets.into_iter().flatten().map(move |net| (net.network(), (net, network)))
        });
        Self {
            topology,
            vicinity,
            sets: Sets::new(topology, vicinity),
            ports: topology.ports().map(|port| (port.interface.as_str(), port)).collect(),
            bridges: topology.networks.iter().map(|network| (network.bridge.as_str(), network)).collect(),
            guests: topology.ports().flat_map(addresses).collect(),
            prefixes: prefixes.collect(),
        }
    }

    /// What becomes of a flow's first packet.
    pub fn judge(&self, flow: &Flow) -> Judgement {
        self.judge_by(flow, None)
    }

    /// As [`Self::judge_by`], without the reasons.
    pub(super) fn verdict(&self, flow: &Flow, exit: Option<&IfName>) -> Verdict {
        self.follow(flow, exit, &mut Way::silent()).verdict
    }

    /// As [`Self::judge`], where what a guest sends into the world is routed
    /// to the link `exit`.
    pub(super) fn judge_by(&self, flow: &Flow, exit: Option<&IfName>) -> Judgement {
        let mut way = Way(Some(Vec::new()));
        let decision = self.follow(flow, exit, &mut way);
        way.judgement(decision)
    }

    /// Enters the host with a flow's first packet.
    fn follow(&self, flow: &Flow, exit: Option<&IfName>, way: &mut Way) -> Decision {
        if flow.source.is_ipv4() != flow.destination.is_ipv4() {
            return way.drop(Checkpoint::Prerouting, || only("no packet has addresses of two families"));
        }
        let subject = &mut OneFlow::new(self, flow, exit);
        match &flow.entry {
            Entry::Guest(interface) => match self.ports.get(interface.as_str()) {
                None => way.drop(Checkpoint::Port, || only(format!("no guest has a port {interface}"))),
                Some(port) => {
                    let port: &'t Port = port;
                    if let Some(dropped) = self.at_port(subject, port, way) {
                        return dropped;
                    }
                    match self.sets.networks.get(&port.network) {
                        Some(network) => self.guest_sends(subject, network, way),
                        None => way.drop(Checkpoint::Prerouting, || {
                            only(format!("there is no network {}", port.network))
                        }),
                    }
                }
            },
            Entry::Host => self.host_sends(subject, way),
            Entry::Interface(interface) => self.link_sends(subject, interface, way),
        }
    }

    /// What becomes of packets that come in by a link; none where it is the
    /// host itself that sends. Packets from a guest's bridge are taken to have
    /// passed a port of it.
    pub(crate) fn decide<S: Subject<'t>>(&self, subject: &mut S, link: Option<&str>) -> Decision {
        let way = &mut Way::silent();
        match link {
            None => self.host_sends(subject, way),
            Some(link) => self.link_sends_by(subject, link, way),
        }
    }

    /// As [`Self::decide`], with the reasons.
    pub(crate) fn reasons<S: Subject<'t>>(&self, subject: &mut S, link: Option<&str>) -> Judgement {
        let mut way = Way(Some(Vec::new()));
        let decision = match link {
            None => self.host_sends(subject, &mut way),
            Some(link) => self.link_sends_by(subject, link, &mut way),
        };
        way.judgement(decision)
    }

    /// The topology that it is of.
    pub(crate) fn topology(&self) -> &'t Topology {
        self.topology
    }

    /// What it assumes of the host.
    pub(crate) fn vicinity(&self) -> &'t Vicinity {
        self.vicinity
    }

    /// Its sets.
    pub(crate) fn sets(&self) -> &Sets<'t> {
        &self.sets
    }

    /// The guest's port of that name.
    pub(crate) fn port(&self, interface: &str) -> Option<&'t Port> {
        self.ports.get(interface).copied()
    }

    /// The network with that bridge.
    pub(super) fn bridge(&self, interface: &str) -> Option<&'t Network> {
        self.bridges.get(interface).copied()
    }

    /// The sets of the network with that bridge.
    pub(crate) fn network_of_bridge(&self, interface: &str) -> Option<&NetworkSets<'t>> {
        self.bridge(interface).and_then(|network| self.sets.networks.get(&network.name))
    }

    /// The bridge of the network that an address is in.
    pub(crate) fn bridge_of(&self, address: IpAddr) -> Option<&str> {
        self.network_of(address).map(|(_, network)| network.bridge.as_str())
    }

    /// The guest's port that a link is.
    pub(crate) fn port_of(&self, interface: Option<&str>) -> Option<&'t Port> {
        interface.and_then(|interface| self.port(interface))
    }

    /// A network's guests: each one's MAC, and its addresses of a family, the
    /// link-local one among them.
    pub(crate) fn senders(&self, network: &NetworkSets<'t>, family: Family) -> Vec<(u128, Vec<u128>)> {
        network
            .ports
            .iter()
            .map(|port| {
                let addresses = match family {
                    Family::V4 => vec![u32::from(port.address).into()],
                    Family::V6 => {
                        port.v6.iter().flat_map(|v6| [v6.address.into(), v6.link_local.into()]).collect()
                    }
                };
                (port.mac.number(), addresses)
            })
            .collect()
    }

    /// Whether a packet of the host's is for an address of a network that no
    /// guest has.
    pub(crate) fn is_for_nobody<S: Subject<'t>>(&self, subject: &mut S) -> bool {
        subject.goes_by(&self.sets.bridges)
            && !subject.has(&[Condition::To(&self.sets.guests)])
            && subject.among(Field::Destination, &self.sets.prefixes)
    }

    /// Whether guests of the two networks may talk to each other.
    pub(super) fn connected(&self, a: &Name, b: &Name) -> bool {
        let bridge = self.topology.network(b).map(|network| &network.bridge);
        let sets = self.sets.networks.get(a);
        sets.zip(bridge).is_some_and(|(sets, bridge)| sets.connected.names.contains(bridge))
    }

    /// The guest of a network that has an address, be it link-local.
    pub(super) fn sender(&self, network: &Network, address: IpAddr) -> Option<&'t Port> {
        match self.guest_at(address) {
            Some(port) => Some(port).filter(|port| port.network == network.name),
            None if crate::packet::is_link_local6(address) => {
                let own =
                    |port: &&Port| port.v6.as_ref().is_some_and(|v6| IpAddr::V6(v6.link_local) == address);
                self.topology.ports().filter(|port| port.network == network.name).find(own)
            }
            None => None,
        }
    }

    /// By the policies of both ends, as far as they are guests. A policy judges
    /// who opens a flow, so replies and what belongs to a flow pass; without
    /// neighbour discovery there is no packet to judge.
    pub(super) fn policed<'a, S: Subject<'t>>(
        &self,
        subject: &mut S,
        judges: impl IntoIterator<Item = Judges<'a, 't>>,
        way: &mut Way,
    ) -> Decision
    where
        't: 'a,
    {
        if is_reply(subject) || is_error(subject) || is_discovery(subject) {
            return Decision::of(Verdict::Allowed);
        }
        for judges in judges {
            let denied = subject.denied(&self.sets, judges);
            if let Some((place, said)) = subject.flow().and_then(|(flow, _)| self.by_policy(flow, judges)) {
                way.add(place, !denied, || said);
            }
            if denied {
                return Decision::of(Verdict::Dropped);
            }
        }
        Decision::of(Verdict::Allowed)
    }

    /// What the policy of one end says of a flow, in words.
    fn by_policy(&self, flow: &Flow, judges: Judges<'_, 't>) -> Option<(Checkpoint, Said)> {
        let subject = &mut OneFlow::new(self, flow, None);
        let policy = self.topology.policy(subject.judged(&judges)?)?;
        let direction = judges.direction();
        let list = self.sets.list(&policy.id, direction)?;
        let place = match judges {
            Judges::Senders(_) => Checkpoint::Egress,
            Judges::Receivers => Checkpoint::Ingress,
        };
        let names = join(&policy.names);
        let default = policy.names.first().map(|name| Key::Default(name.clone(), direction));
        let said = match list.decide(subject, judges.far()) {
            (_, Some(rule)) => (
                format!("policy {}: {}", rule.policy, shortened(rule.text(direction))),
                Some(Key::Rule(rule.policy.clone(), direction, rule.index)),
            ),
            (Action::Allow, None) => (format!("policy {names}: allows what no rule denies"), default),
            (Action::Deny, None) => (format!("policy {names}: no rule allows it"), default),
        };
        Some((place, said))
    }
}

/// Whether it answers a flow that was let in.
pub(super) fn is_reply<'t>(subject: &mut impl Subject<'t>) -> bool {
    subject.is(Field::State, &[state::ESTABLISHED, state::RELATED]) && subject.is(Field::Reply, &[1])
}

/// Whether it is an error that belongs to a flow: without those, path MTU
/// discovery ends (RFC 1191, RFC 4890).
fn is_error<'t>(subject: &mut impl Subject<'t>) -> bool {
    const ERRORS: [u8; 3] = [icmp::UNREACHABLE, icmp::TIME_EXCEEDED, icmp::PARAMETER];
    const ERRORS6: [u8; 4] = [icmpv6::UNREACHABLE, icmpv6::TOO_BIG, icmpv6::TIME_EXCEEDED, icmpv6::PARAMETER];
    subject.is(Field::State, &[state::RELATED]) && subject.is_message([&ERRORS, &ERRORS6])
}

/// Whether it is how neighbours find each other (RFC 4861): never forwarded
/// from elsewhere, which its hop limit shows.
pub(super) fn is_discovery<'t>(subject: &mut impl Subject<'t>) -> bool {
    const FOUND: [u8; 2] = [icmpv6::NEIGHBOUR_SOLICITATION, icmpv6::NEIGHBOUR_ADVERTISEMENT];
    subject.is_message([&[], &FOUND]) && subject.is(Field::HopLimit, &[255])
}

fn join(names: &[impl Display]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A rule's words, without the end of a long list of prefixes.
fn shortened(text: String) -> String {
    const LONGEST: usize = 80;
    match text.match_indices(", ").map(|(end, _)| end).find(|end| *end > LONGEST) {
        Some(end) => format!("{}, …", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
