//! The spec's policies → rules without names, and who is subject to them.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use ipnet::IpNet;

use crate::spec::{
    self, Action, Direction, HostSpec, OneOrMany, Peer, PolicyProtocol, PolicySubnet, PortRange, RULES_MAX,
    SpecPath,
};

use super::compile::{Compiler, WHOLE};
use super::identity::hash;
use super::{IfName, Name, Namespace, NamespaceName, Network, Port, Subnet, Vm};

/// Most prefixes that the rules of one direction name, with their lists and
/// the members of networks and policies.
const PREFIXES_MAX: usize = 8192;

/// What a guest is attached to: one policy of the spec's, or several that
/// act as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The policy's name; the first name and a hash where there are several.
    pub id: String,
    /// The names in the spec, in order.
    pub names: Vec<Name>,
    /// What may be opened to its guests; none: everything, since
    /// nothing is denied.
    pub ingress: Option<RuleList>,
    /// What its guests may open; none: everything, likewise.
    pub egress: Option<RuleList>,
}

/// What decides about the flows of one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleList {
    /// What becomes of a flow that no rule matches.
    pub default: Action,
    /// In the order of evaluation: the first that matches decides. Lower
    /// priorities come first, and at the same one deny before allow.
    pub rules: Vec<Rule>,
}

/// A rule without names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The policy that it is from.
    pub policy: Name,
    /// Its place among the policy's rules of the direction, from 0.
    pub index: usize,
    /// Its priority.
    pub priority: u16,
    /// What becomes of a flow that it matches.
    pub action: Action,
    /// The protocol.
    pub protocol: PolicyProtocol,
    /// Destination ports; none: all.
    pub ports: Vec<PortRange>,
    /// The far ends; `None`: anybody.
    pub peers: Option<Vec<IpNet>>,
    /// What it is for.
    pub description: Option<String>,
}

impl Rule {
    /// The rule in words: `allow tcp 80-90 from 10.0.0.0/8`; `direction` is
    /// its list's.
    pub fn text(&self, direction: Direction) -> String {
        let list = |words: Vec<String>| words.join(", ");
        let mut text = match self.action {
            Action::Allow => String::from("allow"),
            Action::Deny => String::from("deny"),
        };
        if self.protocol != PolicyProtocol::Any || !self.ports.is_empty() {
            text.push(' ');
            text.push_str(self.protocol.as_str());
        }
        if !self.ports.is_empty() {
            text.push(' ');
            text.push_str(&list(self.ports.iter().map(ToString::to_string).collect()));
        }
        let peers = self.peers.as_ref().map(|peers| list(peers.iter().map(short).collect()));
        let peers = match peers {
            None => "anybody".into(),
            Some(nobody) if nobody.is_empty() => "nobody".into(),
            Some(peers) => peers,
        };
        let preposition = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        format!("{text} {preposition} {peers}")
    }
}

/// An address without its prefix length, where it is one.
fn short(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

impl Policy {
    /// What decides about the flows of a direction.
    pub fn rules(&self, direction: Direction) -> Option<&RuleList> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}

/// Every prefix of a network.
fn prefixes(network: &Network) -> impl Iterator<Item = IpNet> {
    [Some(IpNet::V4(network.cidr)), network.cidr6.map(IpNet::V6)].into_iter().flatten()
}

/// Every address of a port.
fn addresses(port: &Port) -> impl Iterator<Item = IpNet> {
    let v6 = port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]);
    std::iter::once(port.address.into())
        .chain(v6.map(Into::into))
        .map(|address: std::net::IpAddr| address.into())
}

/// The guests that each policy is attached to.
type Members<'v> = BTreeMap<&'v Name, Vec<&'v Port>>;

impl Compiler<'_> {
    /// The attached policies by id, and the id of each port's.
    pub(super) fn policies(
        &mut self,
        networks: &[Network],
        vms: &[Vm],
        namespaces: &[Namespace],
    ) -> (Vec<Policy>, BTreeMap<IfName, String>) {
        let spec = self.spec;
        for (name, policy) in &spec.policies {
            let path = SpecPath::keys(["policies", name]);
            self.name(&path, name);
            self.issues.extend(policy.issues(&path));
            self.references(&path, policy);
        }
        self.attachments(networks);
        let mut attached: BTreeMap<&IfName, BTreeSet<&Name>> = BTreeMap::new();
        let mut members = Members::new();
        let guests = vms.iter().map(|vm| {
            let own = spec.vms.get(vm.name.as_str()).and_then(|vm| vm.policy.as_ref());
            (&vm.port, own)
        });
        let guests = guests.chain(namespaces.iter().map(|namespace| (&namespace.port, None)));
        for (port, own) in guests {
            let Some(names) = own.or_else(|| inherited(spec, port)) else { continue };
            let names: BTreeSet<&Name> =
                names.as_slice().iter().filter(|name| spec.policies.contains_key(name.as_str())).collect();
            for name in &names {
                members.entry(name).or_default().push(port);
            }
            attached.insert(&port.interface, names);
        }
        // Guests with the same names share one policy, and its chains: what the
        // firewall holds grows with what is written, not with who is subject to it.
        let mut policies: BTreeMap<String, Policy> = BTreeMap::new();
        let mut policed = BTreeMap::new();
        for (interface, names) in attached {
            let Some(id) = id(&names) else { continue };
            policed.insert(interface.clone(), id.clone());
            if let Entry::Vacant(entry) = policies.entry(id.clone()) {
                entry.insert(self.resolve(id, &names, networks, &members));
            }
        }
        (policies.into_values().collect(), policed)
    }

    /// The names that a policy's rules mention.
    fn references(&mut self, path: &SpecPath, policy: &spec::Policy) {
        let spec = self.spec;
        for direction in Direction::ALL {
            let rules = policy.rules(direction).unwrap_or_default();
            for (index, rule) in rules.iter().enumerate().take(RULES_MAX) {
                let peers = rule.peers(direction).map(OneOrMany::as_slice).unwrap_or_default();
                for (position, peer) in peers.iter().enumerate() {
                    let path = path.clone().key(direction.as_str()).index(index).key(direction.peer());
                    let path = path.index(position);
                    match peer {
                        Peer::Network(name) => self.reference(path, "network", name, &spec.networks),
                        Peer::Policy(name) => self.reference(path, "policy", name, &spec.policies),
                        Peer::Net(_) => true,
                    };
                }
            }
        }
    }

    /// Checks every `policy` key.
    fn attachments(&mut self, networks: &[Network]) {
        let spec = self.spec;
        for (key, network) in &spec.networks {
            let path = SpecPath::keys(["networks", key]);
            if let Some(names) = &network.policy {
                let namespace = format!("{key}-{WHOLE}");
                let whole = network.subnets.is_empty();
                let subnet = whole.then_some(WHOLE);
                let expected = whole.then_some(namespace);
                self.attachment(&path, names, (subnet, &network.cidr.to_string()), expected.as_deref());
            }
            for (name, subnet) in &network.subnets {
                if let Some(names) = &subnet.policy {
                    let path = path.clone().key("subnets").key(name);
                    // What isn't a name is refused as one.
                    let namespace = Name::new(key).ok().zip(Name::new(name).ok());
                    let namespace = namespace.map(|(network, subnet)| NamespaceName::of(&network, &subnet));
                    let namespace = namespace.as_ref().map(NamespaceName::as_str);
                    self.attachment(&path, names, (Some(name), &subnet.cidr.to_string()), namespace);
                }
            }
        }
        for (key, vm) in &spec.vms {
            let Some(names) = &vm.policy else { continue };
            let path = SpecPath::keys(["vms", key]);
            let network = networks.binary_search_by(|network| network.name.cmp(&vm.network));
            let network = network.ok().and_then(|index| networks.get(index));
            match network.and_then(|network| Some((network, subnet_of(vm, network)?))) {
                Some((network, subnet)) => {
                    let namespace = NamespaceName::of(&network.name, &subnet.name);
                    let known = (Some(subnet.name.as_str()), &*subnet.cidr.to_string());
                    self.attachment(&path, names, known, Some(namespace.as_str()));
                }
                // What is wrong with the network or subnet was said already.
                None => {
                    for (position, name) in names.as_slice().iter().enumerate() {
                        let path = path.clone().key("policy").index(position);
                        self.reference(path, "policy", name, &spec.policies);
                    }
                }
            }
        }
    }

    /// Checks the policies named at one place: that they exist, and that
    /// where they say which subnet they are for, it is this one.
    fn attachment(
        &mut self,
        path: &SpecPath,
        names: &OneOrMany<Name>,
        (subnet, cidr): (Option<&str>, &str),
        namespace: Option<&str>,
    ) {
        let spec = self.spec;
        for (position, name) in names.as_slice().iter().enumerate() {
            let path = path.clone().key("policy").index(position);
            if !self.reference(path.clone(), "policy", name, &spec.policies) {
                continue;
            }
            let Some(policy) = spec.policies.get(name.as_str()) else { continue };
            const HINT: &str = "attach it there, or take the line out of the policy";
            if let Some(wanted) = policy.subnet.as_ref().filter(|wanted| !wanted.is(subnet, cidr)) {
                let here = match (wanted, subnet) {
                    (PolicySubnet::Cidr(_), _) => format!("this one is {cidr}"),
                    (PolicySubnet::Name(_), Some(subnet)) => format!("this one is {subnet}"),
                    (PolicySubnet::Name(_), None) => "this is a whole network".into(),
                };
                let message = format!("policy {name} is for the subnet {wanted}, and {here}");
                self.issue(path.clone(), message, HINT);
            }
            if let Some(wanted) = policy.namespace.as_deref().filter(|wanted| Some(*wanted) != namespace) {
                let here = namespace.unwrap_or("a whole network");
                let message = format!("policy {name} is for the namespace {wanted}, and this is {here}");
                self.issue(path, message, HINT);
            }
        }
    }

    fn resolve(
        &mut self,
        id: String,
        names: &BTreeSet<&Name>,
        networks: &[Network],
        members: &Members<'_>,
    ) -> Policy {
        let [ingress, egress] =
            Direction::ALL.map(|direction| self.rule_list(names, direction, networks, members));
        Policy { id, names: names.iter().map(|name| (*name).clone()).collect(), ingress, egress }
    }

    fn rule_list(
        &mut self,
        names: &BTreeSet<&Name>,
        direction: Direction,
        networks: &[Network],
        members: &Members<'_>,
    ) -> Option<RuleList> {
        let spec = self.spec;
        let policies = names.iter().filter_map(|name| Some((*name, spec.policies.get(name.as_str())?)));
        let mut default = None;
        let mut rules = Vec::new();
        let mut last = None;
        for (name, policy) in policies {
            let Some(own) = policy.default_of(direction) else { continue };
            // Deny wins.
            default = Some(if own == Action::Deny { own } else { default.unwrap_or(own) });
            last = Some(name);
            let own = policy.rules(direction).unwrap_or_default().iter().take(RULES_MAX).enumerate();
            rules.extend(own.map(|(index, rule)| Rule {
                policy: name.clone(),
                index,
                priority: rule.priority,
                action: rule.action,
                protocol: rule.protocol,
                ports: rule.port.as_ref().map(|ports| ports.as_slice().to_vec()).unwrap_or_default(),
                peers: rule.peers(direction).map(|peers| {
                    let nets: BTreeSet<IpNet> =
                        peers.as_slice().iter().flat_map(|peer| far(peer, networks, members)).collect();
                    nets.into_iter().collect()
                }),
                description: rule.description.clone(),
            }));
        }
        let count = rules.iter().map(|rule| rule.peers.as_ref().map_or(1, Vec::len)).sum::<usize>();
        if let Some(name) = last.filter(|_| rules.len() > RULES_MAX || count > PREFIXES_MAX) {
            self.issue(
                SpecPath::keys(["policies", name.as_str(), direction.as_str()]),
                format!("{} rules with {count} prefixes act on one guest", rules.len()),
                format!("{RULES_MAX} rules with {PREFIXES_MAX} prefixes can: take wider prefixes"),
            );
            return None;
        }
        rules.sort_by_key(|rule| (rule.priority, Reverse(rule.action == Action::Deny)));
        // What denies nothing is no policy at all.
        let denies = default == Some(Action::Deny) || rules.iter().any(|rule| rule.action == Action::Deny);
        default.filter(|_| denies).map(|default| RuleList { default, rules })
    }
}

/// What is attached to a guest that names none: its subnet's, or else its
/// network's.
fn inherited<'s>(spec: &'s HostSpec, port: &Port) -> Option<&'s OneOrMany<Name>> {
    let network = spec.networks.get(port.network.as_str())?;
    let subnet = network.subnets.get(port.subnet.as_str());
    subnet.and_then(|subnet| subnet.policy.as_ref()).or(network.policy.as_ref())
}

/// The prefixes that a far end stands for.
fn far(peer: &Peer, networks: &[Network], members: &Members<'_>) -> Vec<IpNet> {
    match peer {
        Peer::Net(net) => vec![*net],
        Peer::Network(name) => {
            networks.iter().filter(|network| &network.name == name).flat_map(prefixes).collect()
        }
        Peer::Policy(name) => {
            members.get(name).into_iter().flatten().flat_map(|port| addresses(port)).collect()
        }
    }
}

fn subnet_of<'n>(vm: &spec::Vm, network: &'n Network) -> Option<&'n Subnet> {
    match (&vm.subnet, network.subnets.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), subnets) => subnets.iter().find(|subnet| &subnet.name == name),
    }
}

/// One text for each set of names.
fn id(names: &BTreeSet<&Name>) -> Option<String> {
    let first = names.first()?;
    if names.len() == 1 {
        return Some(first.to_string());
    }
    let all: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    // A dot can't be in a name, so no policy is called so.
    Some(format!("{first}.{:016x}", hash(&all.join(" "))))
}
