//! Follows a packet through the host.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::packet::prefix::{is_metadata, is_metadata_service, is_private};
use crate::packet::protocol::{TCP, UDP};
use crate::packet::{Family, is_link_local6, port};
use crate::topology::{
    Action, Direction, FirewallMode, IfName, Imds, Name, Nat, Network, Port, SubnetKind, Topology, Transport,
};

use super::policy::{FarEnd, Indexed};
use super::route::Route;
use super::{Entry, Flow, Judgement, Key, Place, Stage, Verdict, Vicinity};

/// Who may reach whom on one host.
#[derive(Debug)]
pub struct Model<'t> {
    topology: &'t Topology,
    pub(super) vicinity: &'t Vicinity,
    /// Interfaces that guests' packets go out by.
    exits: Vec<IfName>,
    ports: HashMap<&'t str, &'t Port>,
    bridges: HashMap<&'t str, &'t Network>,
    pub(super) guests: HashMap<IpAddr, &'t Port>,
    peered: HashSet<(&'t Name, &'t Name)>,
    /// By the policy's id: ingress, and egress.
    policies: HashMap<&'t str, [Option<Indexed<'t>>; 2]>,
    /// Networks by their first address: prefixes don't overlap.
    pub(super) prefixes: BTreeMap<IpAddr, (IpNet, &'t Network)>,
}

/// The stages so far.
struct Way {
    stages: Vec<Stage>,
    /// Whether nobody asks for reasons.
    silent: bool,
}

impl Way {
    fn pass(&mut self, place: Place, what: impl Into<String>, decided_by: Option<Key>) {
        self.stages.push(Stage { place, what: what.into(), decided_by, passes: true });
    }

    fn drop(mut self, place: Place, what: impl Into<String>, decided_by: Option<Key>) -> Judgement {
        self.stages.push(Stage { place, what: what.into(), decided_by, passes: false });
        Judgement { verdict: Verdict::Dropped, masqueraded: false, way: self.stages }
    }

    fn end(self, verdict: Verdict) -> Judgement {
        Judgement { verdict, masqueraded: false, way: self.stages }
    }
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
        let policies = topology.policies.iter().map(|policy| {
            let lists = Direction::ALL.map(|direction| policy.rules(direction).map(Indexed::new));
            (policy.id.as_str(), lists)
        });
        Self {
            topology,
            vicinity,
            policies: policies.collect(),
            exits: topology.exits(&vicinity.uplinks),
            ports: topology.ports().map(|port| (port.interface.as_str(), port)).collect(),
            bridges: topology.networks.iter().map(|network| (network.bridge.as_str(), network)).collect(),
            guests: topology.ports().flat_map(addresses).collect(),
            peered: topology.peerings.iter().flat_map(|(a, b)| [(a, b), (b, a)]).collect(),
            prefixes: prefixes.collect(),
        }
    }

    /// What becomes of a flow's first packet.
    pub fn judge(&self, flow: &Flow) -> Judgement {
        self.judge_by(flow, None)
    }

    /// As [`Self::judge_by`], without the reasons.
    pub(super) fn verdict(&self, flow: &Flow, exit: Option<&IfName>) -> Verdict {
        self.follow(flow, exit, Way { stages: Vec::new(), silent: true }).verdict
    }

    /// As [`Self::judge`], where what a guest sends into the world is routed
    /// to the link `exit`.
    pub(super) fn judge_by(&self, flow: &Flow, exit: Option<&IfName>) -> Judgement {
        self.follow(flow, exit, Way { stages: Vec::new(), silent: false })
    }

    fn follow(&self, flow: &Flow, exit: Option<&IfName>, mut way: Way) -> Judgement {
        if flow.source.is_ipv4() != flow.destination.is_ipv4() {
            return way.drop(Place::Prerouting, "no packet has addresses of two families", None);
        }
        match &flow.entry {
            Entry::Guest(interface) => match self.ports.get(interface.as_str()) {
                None => way.drop(Place::Port, format!("no guest has a port {interface}"), None),
                Some(port) => match at_port(port, flow) {
                    Err(reason) => way.drop(Place::Port, reason, None),
                    Ok(()) => {
                        way.pass(Place::Port, format!("{interface}: {} is its own", flow.source), None);
                        self.guest_sends(flow, port, exit, way)
                    }
                },
            },
            Entry::Host => self.host_sends(flow, way),
            Entry::Interface(interface) => self.link_sends(flow, interface, way),
        }
    }

    /// The topology that it is of.
    pub(super) fn topology(&self) -> &'t Topology {
        self.topology
    }

    /// What it assumes of the host.
    pub(super) fn vicinity(&self) -> &'t Vicinity {
        self.vicinity
    }

    /// Whether guests of the two networks may talk to each other.
    pub(super) fn connected(&self, a: &Name, b: &Name) -> bool {
        a == b || self.peered.contains(&(a, b))
    }

    /// What a policy says of a direction.
    pub(super) fn rules(&self, policy: &str, direction: Direction) -> Option<&Indexed<'t>> {
        let [ingress, egress] = self.policies.get(policy)?;
        match direction {
            Direction::Ingress => ingress.as_ref(),
            Direction::Egress => egress.as_ref(),
        }
    }

    /// From a guest's bridge; `port` is whose address it has.
    fn guest_sends(&self, flow: &Flow, port: &Port, exit: Option<&IfName>, mut way: Way) -> Judgement {
        let Some(network) = self.topology.network(&port.network) else {
            return way.drop(Place::Prerouting, format!("there is no network {}", port.network), None);
        };
        way.pass(
            Place::Prerouting,
            format!("{} is a guest's of network {}", flow.source, network.name),
            None,
        );
        let to = flow.destination;
        let forwarded = matches!(self.route(to), Route::Bridge(_) | Route::Link(_) | Route::Nowhere);
        if forwarded && is_link_local6(flow.source) {
            return way.drop(Place::Forward, "what is from a link-local address isn't routed", None);
        }
        match self.route(to) {
            Route::Host => {
                let ping = Family::of(to).icmp();
                let gateway = [Some(IpAddr::V4(network.gateway)), network.gateway6.map(IpAddr::V6)];
                if !gateway.contains(&Some(to)) {
                    return way.drop(
                        Place::Input,
                        format!("{to} is the host's: a guest gets nothing there"),
                        None,
                    );
                }
                if flow.protocol != ping {
                    return way.drop(
                        Place::Input,
                        "of its gateway a guest gets a ping and nothing else",
                        None,
                    );
                }
                way.pass(Place::Input, "ping of its own gateway", None);
                self.policed(flow, Some(port), None, way)
            }
            Route::Group => way.drop(Place::Input, format!("{to} is a group's: it reaches nobody"), None),
            _ if is_link_local6(to) => {
                way.drop(Place::Input, "link-local addresses reach nobody: guests meet on the host", None)
            }
            Route::Bridge(other) => self.between(flow, port, network, other, way),
            Route::Link(link) => self.out(flow, port, network, exit.unwrap_or(link), way),
            Route::Nowhere => way.drop(Place::Forward, format!("the host has no route to {to}"), None),
        }
    }

    fn between(&self, flow: &Flow, port: &Port, from: &Network, to: &Network, mut way: Way) -> Judgement {
        if from.name == to.name {
            way.pass(Place::Forward, "same network", Some(Key::Network(from.name.clone(), "cidr")));
        } else if self.connected(&from.name, &to.name) {
            let key = Key::Peering(from.name.clone(), to.name.clone());
            way.pass(Place::Forward, format!("{} and {} are peered", from.name, to.name), Some(key));
        } else {
            let what = format!("{} and {} are not peered", from.name, to.name);
            return way.drop(Place::Forward, what, None);
        }
        let Some(receiver) = self.guest_at(flow.destination) else {
            return way.drop(Place::Forward, format!("no guest has {}", flow.destination), None);
        };
        self.policed(flow, Some(port), Some(receiver), way)
    }

    /// From a guest to a link that isn't a network's.
    fn out(&self, flow: &Flow, port: &Port, network: &Network, link: &IfName, mut way: Way) -> Judgement {
        let to = flow.destination;
        let exit = self.exits.contains(link);
        let key = |key| Some(Key::Network(network.name.clone(), key));
        if self.topology.deny.iter().any(|net| net.contains(&to)) {
            return way.drop(Place::Forward, format!("no guest reaches {to}"), Some(Key::Host("deny")));
        }
        let resolver =
            matches!(flow.protocol, TCP | UDP) && flow.port == port::DNS && self.topology.dns.contains(&to);
        if is_metadata(to) && !resolver {
            let served = is_metadata_service(to) && flow.protocol == TCP && flow.port == port::HTTP;
            if network.imds != Imds::Host {
                let what = format!("{to} is a cloud's: imds = \"deny\"");
                return way.drop(Place::Forward, what, key("imds"));
            }
            if !served || !exit {
                return way.drop(
                    Place::Forward,
                    "imds = \"host\" lets TCP port 80 pass and nothing else",
                    key("imds"),
                );
            }
            way.pass(Place::Forward, format!("{to} is a cloud's: imds = \"host\""), key("imds"));
            return self.leave(flow, port, link, way);
        }
        let subnet = network.subnets.iter().find(|subnet| subnet.name == port.subnet);
        let subnet_key = |what| Some(Key::Subnet(network.name.clone(), port.subnet.clone(), what));
        if !network.exits(&self.vicinity.uplinks).contains(link) {
            return match &network.nat {
                _ if self.topology.tailscale.as_ref() == Some(link) => way.drop(
                    Place::Forward,
                    "guests answer the tailnet and open nothing to it",
                    Some(Key::Host("tailscale")),
                ),
                Nat::Off => way.drop(Place::Forward, "nat = false: its subnets go nowhere", key("nat")),
                Nat::Named(_) => {
                    way.drop(Place::Forward, format!("{link} isn't one of nat's interfaces"), key("nat"))
                }
                Nat::Uplinks => {
                    way.drop(Place::Forward, format!("{link} isn't an uplink"), Some(Key::Host("uplink")))
                }
            };
        }
        let closed =
            is_private(to) || is_metadata(to) || self.vicinity.on_link.iter().any(|net| net.contains(&to));
        if closed && !resolver {
            if !network.lan.iter().any(|net| net.contains(&to)) {
                let what = format!("{to} is private or the uplink's own, not the internet: lan = false");
                return way.drop(Place::Forward, what, key("lan"));
            }
            way.pass(Place::Forward, format!("{to} is of the LAN"), key("lan"));
        } else if closed {
            way.pass(Place::Forward, format!("{to} is a resolver of the guests'"), Some(Key::Host("dns")));
        }
        match subnet {
            Some(subnet) if subnet.kind == SubnetKind::Public => {
                let what = format!("{} is a public subnet of {}", subnet.name, network.name);
                way.pass(Place::Forward, what, subnet_key("type"));
                self.leave(flow, port, link, way)
            }
            _ => {
                let what = format!("{} is a private subnet of {}", port.subnet, network.name);
                way.drop(Place::Forward, what, subnet_key("type"))
            }
        }
    }

    /// By the sender's policy and the uplink.
    fn leave(&self, flow: &Flow, port: &Port, link: &IfName, way: Way) -> Judgement {
        let mut judgement = self.policed(flow, Some(port), None, way);
        if judgement.verdict == Verdict::Allowed {
            judgement.masqueraded = true;
            let what = format!("leaves by {link}, masqueraded as the host");
            judgement.way.push(Stage { place: Place::Postrouting, what, decided_by: None, passes: true });
        }
        judgement
    }

    fn host_sends(&self, flow: &Flow, mut way: Way) -> Judgement {
        match self.route(flow.destination) {
            Route::Bridge(network) => match self.guest_at(flow.destination) {
                None => way.drop(Place::Output, format!("no guest has {}", flow.destination), None),
                Some(receiver) => {
                    way.pass(Place::Output, format!("the host speaks to a guest of {}", network.name), None);
                    self.policed(flow, None, Some(receiver), way)
                }
            },
            Route::Link(link) => {
                way.pass(Place::Output, "the host's own", None);
                let masqueraded = self.exits.contains(link) && self.network_of(flow.source).is_some();
                Judgement { masqueraded, ..way.end(Verdict::Untouched) }
            }
            Route::Host | Route::Group | Route::Nowhere => {
                way.pass(Place::Output, "the host's own", None);
                way.end(Verdict::Untouched)
            }
        }
    }

    fn link_sends(&self, flow: &Flow, interface: &IfName, mut way: Way) -> Judgement {
        if self.ports.contains_key(interface.as_str()) {
            return way.drop(Place::Prerouting, "a guest's port: its packets come from its bridge", None);
        }
        if let Some(network) = self.bridges.get(interface.as_str()) {
            let own = |port: &&Port| port.network == network.name && has_address(port, flow.source);
            return match self.topology.ports().find(own) {
                Some(port) => self.guest_sends(flow, port, None, way),
                None => {
                    let what = format!("{} is no guest's of network {}", flow.source, network.name);
                    way.drop(Place::Prerouting, what, None)
                }
            };
        }
        let full = self.topology.firewall == FirewallMode::Full;
        let tailnet = self.topology.tailscale.as_ref() == Some(interface);
        match self.route(flow.destination) {
            Route::Host | Route::Group if full => self.to_host(flow, interface, tailnet, way),
            Route::Host | Route::Group => {
                way.pass(Place::Input, "firewall = \"guests\": the host is not hostctl's", mode());
                way.end(Verdict::Untouched)
            }
            Route::Bridge(network) => self.to_guest(flow, network, tailnet, way),
            Route::Link(_) | Route::Nowhere => {
                let closed = match flow.destination {
                    IpAddr::V4(_) => self.vicinity.opened.contains(interface),
                    IpAddr::V6(_) => self.vicinity.closed6,
                };
                if closed {
                    return way.drop(
                        Place::Forward,
                        "the host didn't forward this before hostctl either",
                        None,
                    );
                }
                if full {
                    return way.drop(Place::Forward, "firewall = \"full\": not a guest's", mode());
                }
                way.pass(Place::Forward, "firewall = \"guests\": not a guest's", mode());
                let out =
                    matches!(self.route(flow.destination), Route::Link(link) if self.exits.contains(link));
                let masqueraded = out && self.network_of(flow.source).is_some();
                Judgement { masqueraded, ..way.end(Verdict::Untouched) }
            }
        }
    }

    /// To the host, which `firewall = "full"` guards.
    fn to_host(&self, flow: &Flow, interface: &IfName, tailnet: bool, mut way: Way) -> Judgement {
        if interface.as_str() == "lo" {
            way.pass(Place::Input, "loopback", None);
            return way.end(Verdict::Allowed);
        }
        if tailnet {
            way.pass(Place::Input, "the tailnet is trusted with the host", Some(Key::Host("tailscale")));
            return way.end(Verdict::Allowed);
        }
        let number = |transport| match transport {
            Transport::Tcp => TCP,
            Transport::Udp => UDP,
        };
        let open = |open: &&crate::topology::HostPort| {
            number(open.protocol) == flow.protocol
                && open.port == flow.port
                && (open.from.is_empty() || open.from.iter().any(|from| from.net().contains(&flow.source)))
        };
        match self.topology.allow_input.iter().find(open) {
            Some(open) => {
                let what = format!("{}/{} is open", open.protocol.as_str(), open.port);
                way.pass(Place::Input, what, Some(Key::Host("allow_input")));
                way.end(Verdict::Allowed)
            }
            None => way.drop(Place::Input, "firewall = \"full\": not in allow_input", mode()),
        }
    }

    fn to_guest(&self, flow: &Flow, network: &Network, tailnet: bool, mut way: Way) -> Judgement {
        let Some(receiver) = self.guest_at(flow.destination) else {
            return way.drop(Place::Forward, format!("no guest has {}", flow.destination), None);
        };
        if let Some((_, owner)) = self.network_of(flow.source) {
            let what = format!("{} is an address of network {}, from elsewhere", flow.source, owner.name);
            return way.drop(Place::Forward, what, None);
        }
        if !tailnet {
            return way.drop(Place::Forward, "guests are sent replies and nothing else", None);
        }
        let key = Some(Key::Network(network.name.clone(), "tailscale"));
        if !network.tailscale {
            let what = format!("{} is not open to the tailnet", network.name);
            return way.drop(Place::Forward, what, key);
        }
        way.pass(Place::Forward, format!("{} is open to the tailnet", network.name), key);
        self.policed(flow, None, Some(receiver), way)
    }

    /// By the policies of both ends, as far as they are guests.
    fn policed(
        &self,
        flow: &Flow,
        sender: Option<&Port>,
        receiver: Option<&Port>,
        mut way: Way,
    ) -> Judgement {
        let ends = [
            (Direction::Egress, Place::Egress, sender, flow.destination),
            (Direction::Ingress, Place::Ingress, receiver, flow.source),
        ];
        for (direction, place, port, far) in ends {
            let Some(policy) = port.and_then(|port| self.topology.policy(port)) else { continue };
            let Some(list) = self.rules(&policy.id, direction) else { continue };
            let far = FarEnd { address: far, protocol: flow.protocol, port: flow.port };
            let (action, rule) = list.decide(&far);
            if way.silent {
                match action {
                    Action::Deny => return way.end(Verdict::Dropped),
                    Action::Allow => continue,
                }
            }
            let names = join(&policy.names);
            let default = policy.names.first().map(|name| Key::Default(name.clone(), direction));
            let (what, key) = match rule {
                Some(rule) => (
                    format!("policy {}: {}", rule.policy, shortened(rule.text(direction))),
                    Some(Key::Rule(rule.policy.clone(), direction, rule.index)),
                ),
                None if action == Action::Allow => {
                    (format!("policy {names}: allows what no rule denies"), default)
                }
                None => (format!("policy {names}: no rule allows it"), default),
            };
            if action == Action::Deny {
                return way.drop(place, what, key);
            }
            way.pass(place, what, key);
        }
        way.end(Verdict::Allowed)
    }
}

fn mode() -> Option<Key> {
    Some(Key::Host("firewall"))
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

fn has_address(port: &Port, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => port.address == address,
        IpAddr::V6(address) => {
            port.v6.as_ref().is_some_and(|v6| [v6.address, v6.link_local].contains(&address))
        }
    }
}

/// Whether a guest's port lets a packet in; why not.
fn at_port(port: &Port, flow: &Flow) -> Result<(), String> {
    if !has_address(port, flow.source) {
        return Err(format!("{} isn't the address of the guest at {}", flow.source, port.interface));
    }
    let client = Family::of(flow.source).dhcp_client();
    if flow.protocol == UDP && flow.port == client {
        return Err("a guest is no DHCP server".into());
    }
    Ok(())
}
