//! Host spec → topology. Every mistake is reported, not the first only: so each
//! part is compiled as far as it goes, what is wrong with it is noted, and the
//! whole is thrown away at the end where anything was.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::ownership::BRIDGE_PREFIX;
use crate::spec::{self, Cidr4, Cidr6, HostSpec, Issue, SpecPath};

use super::address::{gateway4, gateway6, reserved, usable_resolver};
use super::allocation::Allocations;
use super::identity::{derive_mac, hash};
use super::way_out::lan;
use super::{
    FirewallMode, HostPort, IfName, Name, Namespace, Network, Port, Subnet, SubnetKind, Topology, Transport,
    Uplink, Vm,
};

/// Resolvers where the spec names none: Cloudflare's and Google's.
const DEFAULT_DNS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8))];

/// Most of anything that is counted; far more than a host carries, and small
/// enough that a hostile spec can't exhaust it.
const MOST_ENTRIES: usize = 100_000;

/// Most subnets of a network, and most suggestions: each is compared with
/// every other one.
const MOST_COMPARED: usize = 1024;

/// Most resolvers of a guest: resolv.conf(5), `MAXNS`.
const MOST_RESOLVERS: usize = 3;

/// The subnet of a network that names none.
pub(super) const WHOLE: &str = "default";

/// Fixes every name, address, MAC and port, on a host that has no guests yet.
///
/// # Errors
/// Everything that is wrong with the spec, each with the path of its key.
pub fn compile(spec: &HostSpec) -> Result<Topology, Vec<Issue>> {
    compile_keeping(spec, &Allocations::default())
}

/// As [`compile`], where guests that stay keep what they had before.
///
/// # Errors
/// As [`compile`].
pub fn compile_keeping(spec: &HostSpec, before: &Allocations) -> Result<Topology, Vec<Issue>> {
    let mut compiler = Compiler { spec, issues: Vec::new() };
    let topology = compiler.topology(before);
    match topology {
        Some(topology) if compiler.issues.is_empty() => Ok(topology),
        _ => Err(compiler.issues),
    }
}

/// What [`compile`] gives to the guests of a spec, also where it refuses the
/// spec for something: what a host has that an earlier version took it for.
pub fn given(spec: &HostSpec) -> Allocations {
    let mut compiler = Compiler { spec, issues: Vec::new() };
    let topology = compiler.topology(&Allocations::default());
    topology.map(|topology| topology.allocations()).unwrap_or_default()
}

/// Whose a link is: its key is written out only where two are the same.
#[derive(Clone, Copy)]
enum Owner<'a> {
    /// The host's, as what.
    Host(&'static str),
    Network(&'a Name),
    Vm(&'a Name),
    Subnet(&'a Port),
}

impl Owner<'_> {
    fn path(&self) -> SpecPath {
        match self {
            Self::Host(_) => SpecPath::keys(["host"]),
            Self::Network(name) => SpecPath::keys(["networks", name.as_str()]),
            Self::Vm(name) => SpecPath::keys(["vms", name.as_str()]),
            Self::Subnet(port) => {
                SpecPath::keys(["networks", port.network.as_str(), "subnets", port.subnet.as_str()])
            }
        }
    }
}

/// The walk over a spec, with what was found wrong so far.
pub(super) struct Compiler<'a> {
    pub(super) spec: &'a HostSpec,
    pub(super) issues: Vec<Issue>,
}

impl<'a> Compiler<'a> {
    pub(super) fn issue(&mut self, path: SpecPath, message: impl Into<String>, hint: impl Into<String>) {
        self.issues.push(Issue::new(path, message, hint));
    }

    /// As [`Self::issue`], for what may follow from a key that was refused.
    pub(super) fn consequence(
        &mut self,
        path: SpecPath,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.issues.push(Issue::dangling(path, message, hint));
    }

    fn topology(&mut self, before: &Allocations) -> Option<Topology> {
        let spec = self.spec;
        // Before anything is looked at: what follows is sorted and compared.
        if [spec.networks.len(), spec.vms.len(), spec.peerings.len(), spec.policies.len(), spec.apps.len()]
            .iter()
            .any(|count| *count > MOST_ENTRIES)
        {
            self.issue(SpecPath::default(), format!("more than {MOST_ENTRIES} entries"), "split the host");
            return None;
        }
        let tailscale = spec.host.tailscale.as_ref().map(|tailscale| tailscale.interface.clone());
        let uplink = self.uplink();
        let dns = self.dns();
        self.labels();
        let networks = self.networks();
        self.overlaps();
        // Who names an address gets it, who had one keeps it, and only then are
        // new guests given what is free: so an address moves only by the spec's
        // own word, and the order of a file means nothing.
        let mut taken = self.explicit(&networks);
        self.keep(&networks, before, &mut taken);
        let namespaces = self.namespaces(&networks, &mut taken);
        let vms = self.vms(&networks, &dns, &mut taken);
        let peerings = self.peerings();
        self.interfaces(&networks, &vms, &namespaces);
        let (policies, policed) = self.policies(&networks, &vms, &namespaces);
        Some(Topology {
            uplink,
            firewall: spec.host.firewall,
            allow_input: self.allow_input(),
            limits: self.limits(),
            own_limits: self.own_limits(&vms, &namespaces),
            deny: self.way_out(&networks),
            conntrack_max: self.conntrack_max(),
            mark_mask: spec.host.mark_mask,
            tailscale,
            dns,
            networks,
            peerings,
            vms,
            apps: self.apps(&namespaces),
            namespaces,
            policies,
            policed,
            retained6: taken.retained6,
        })
    }

    fn uplink(&mut self) -> Uplink {
        match &self.spec.host.uplink {
            spec::Uplink::Auto => Uplink::Auto,
            spec::Uplink::Named(names) => {
                let mut seen = BTreeSet::new();
                for name in names {
                    // Guests would be masqueraded to the tailnet, as the host.
                    let tailnet = self.spec.host.tailscale.as_ref().is_some_and(|t| &t.interface == name);
                    if tailnet || !seen.insert(name.clone()) {
                        let what = if tailnet { "is the tailnet's interface" } else { "is named twice" };
                        self.issue(
                            SpecPath::keys(["host", "uplink"]),
                            format!("{name} {what}"),
                            "name each interface that leads to the internet once",
                        );
                    }
                }
                // Sorted: the same names in another order are the same host.
                Uplink::Named(seen.into_iter().collect())
            }
        }
    }

    fn allow_input(&mut self) -> Vec<HostPort> {
        let host = &self.spec.host;
        let path = SpecPath::keys(["host", "allow_input"]);
        match (&host.allow_input, host.firewall) {
            (Some(_), FirewallMode::Guests) => {
                self.consequence(
                    path,
                    "allow_input has no meaning with firewall = \"guests\", which leaves the host's services alone",
                    "set firewall = \"full\", or remove allow_input",
                );
                Vec::new()
            }
            (None, FirewallMode::Guests) => Vec::new(),
            // Whoever turns it on by SSH wants to be there afterwards.
            (None, FirewallMode::Full) => {
                vec![HostPort { protocol: Transport::Tcp, port: 22, from: Vec::new() }]
            }
            (Some(ports), FirewallMode::Full) => {
                for (index, port) in ports.iter().enumerate() {
                    if port.port == 0 {
                        self.issue(path.clone().index(index).key("port"), "0 isn't a port", "1 to 65535 are");
                    }
                }
                ports.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
            }
        }
    }

    fn dns(&mut self) -> Vec<IpAddr> {
        let Some(dns) = &self.spec.host.dns else { return DEFAULT_DNS.to_vec() };
        let path = SpecPath::keys(["host", "dns"]);
        if dns.len() > MOST_RESOLVERS {
            self.issue(path.clone(), format!("{} resolvers", dns.len()), "a guest uses three at most");
        }
        for (index, address) in dns.iter().enumerate() {
            if !usable_resolver(*address) {
                let message = format!("{address} can't be reached as a resolver from a guest");
                self.issue(
                    path.clone().index(index),
                    message,
                    "name a unicast address that isn't the guest's own",
                );
            }
        }
        // They go onto each guest's kernel command line, which has an end.
        dns.iter().copied().take(MOST_RESOLVERS).collect()
    }

    /// Checks the name of a table entry at `path`.
    pub(super) fn name(&mut self, path: &SpecPath, text: &str) -> Option<Name> {
        match Name::new(text) {
            Ok(name) => Some(name),
            Err(error) => {
                self.issue(path.clone(), error.to_string(), "rename it: web-1 would do, for example");
                None
            }
        }
    }

    fn networks(&mut self) -> Vec<Network> {
        let spec = self.spec;
        let mut networks = Vec::new();
        for (key, network) in &spec.networks {
            let path = SpecPath::keys(["networks", key]);
            let name = self.name(&path, key);
            self.check_cidr(&path, network.cidr, network.cidr6);
            let subnets = self.subnets(&path, network);
            if network.tailscale && spec.host.tailscale.is_none() {
                self.consequence(
                    path.clone().key("tailscale"),
                    "there is no tailnet",
                    "say which interface leads to it: [host.tailscale] interface = \"tailscale0\"",
                );
            }
            if let spec::Nat::Named(names) = &network.nat
                && let Some(tailscale) = spec.host.tailscale.as_ref().map(|tailscale| &tailscale.interface)
                && names.contains(tailscale)
            {
                self.issue(
                    path.clone().key("nat"),
                    format!("{tailscale} is the tailnet's interface"),
                    "guests open no flows to the tailnet: name an interface that leads to the internet",
                );
            }
            // What is wrong with it is noted; without a name nothing can refer to it.
            let Some(name) = name else { continue };
            let cidr = network.cidr.net();
            let cidr6 = network.cidr6.map(Cidr6::net);
            let (bridge, altname) = IfName::derive(BRIDGE_PREFIX, name.as_str(), hash(name.as_str()));
            networks.push(Network {
                // Of the name, not the kernel's choice: guests know their gateway
                // by it, also after the bridge was made again.
                mac: derive_mac("network", name.as_str()),
                bridge,
                altname,
                gateway: gateway4(cidr),
                cidr,
                gateway6: cidr6.map(gateway6),
                cidr6,
                imds: network.imds,
                tailscale: network.tailscale,
                nat: network.nat.clone(),
                lan: lan(&network.lan),
                subnets,
                name,
            });
        }
        networks
    }

    fn check_cidr(&mut self, path: &SpecPath, cidr: Cidr4, cidr6: Option<Cidr6>) {
        const HINT: &str = "take a private prefix, such as one of 10.0.0.0/8 (RFC 1918)";
        const HINT6: &str = "take a unique local prefix, such as fd00:0:0:1::/64 (RFC 4193)";
        let tailscale = self.spec.host.tailscale.is_some();
        if let Some(reason) = reserved(cidr.net().into(), tailscale) {
            self.issue(path.clone().key("cidr"), format!("{cidr} can't be a network: {reason}"), HINT);
        }
        if let Some((cidr6, reason)) =
            cidr6.and_then(|net| Some((net, reserved(net.net().into(), tailscale)?)))
        {
            self.issue(path.clone().key("cidr6"), format!("{cidr6} can't be a network: {reason}"), HINT6);
        }
    }

    fn subnets(&mut self, path: &SpecPath, network: &spec::Network) -> Vec<Subnet> {
        let (cidr, cidr6) = (network.cidr.net(), network.cidr6.map(Cidr6::net));
        if network.subnets.is_empty() {
            // Public: a network of which no more is said is one with internet.
            let whole = Name::new(WHOLE).ok();
            return whole
                .map(|name| Subnet { name, cidr, cidr6, kind: SubnetKind::Public })
                .into_iter()
                .collect();
        }
        if network.subnets.len() > MOST_COMPARED {
            let path = path.clone().key("subnets");
            self.issue(path, format!("more than {MOST_COMPARED} subnets"), "split the network");
            return Vec::new();
        }
        let mut subnets: Vec<Subnet> = Vec::new();
        for (key, subnet) in &network.subnets {
            let path = path.clone().key("subnets").key(key);
            let name = self.name(&path, key);
            if !cidr.contains(&subnet.cidr.net()) {
                let message = format!("{} lies outside its network's {cidr}", subnet.cidr);
                self.issue(path.clone().key("cidr"), message, format!("take a part of {cidr}"));
            }
            if let Some(subnet6) = subnet.cidr6.map(Cidr6::net) {
                match cidr6 {
                    None => self.consequence(
                        path.clone().key("cidr6"),
                        "its network has no IPv6",
                        "give the network a cidr6 that contains this one",
                    ),
                    Some(cidr6) if !cidr6.contains(&subnet6) => {
                        let message = format!("{subnet6} lies outside its network's {cidr6}");
                        self.issue(path.clone().key("cidr6"), message, format!("take a part of {cidr6}"));
                    }
                    Some(_) => {}
                }
            }
            // Each with each: a network has few, and each pair has its own message.
            for other in &subnets {
                let net = subnet.cidr.net();
                if other.cidr.contains(&net) || net.contains(&other.cidr) {
                    let message = format!("{net} overlaps {} of subnet {}", other.cidr, other.name);
                    self.issue(
                        path.clone().key("cidr"),
                        message,
                        "subnets of a network can't share addresses",
                    );
                }
                let twin = subnet.cidr6.map(Cidr6::net).zip(other.cidr6);
                if let Some((net, other6)) = twin.filter(|(a, b)| a.contains(b) || b.contains(a)) {
                    let message = format!("{net} overlaps {other6} of subnet {}", other.name);
                    self.issue(
                        path.clone().key("cidr6"),
                        message,
                        "subnets of a network can't share addresses",
                    );
                }
            }
            let Some(name) = name else { continue };
            subnets.push(Subnet {
                name,
                cidr: subnet.cidr.net(),
                cidr6: subnet.cidr6.map(Cidr6::net),
                kind: subnet.kind,
            });
        }
        subnets
    }

    /// No two networks share an address. Prefixes are nested or apart, never
    /// crossed: sorted by their start, wide before narrow, one that overlaps any
    /// before it lies within the last that none covers. So each is compared once,
    /// and a hostile spec of many networks costs a sort.
    fn overlaps(&mut self) {
        const HINT: &str = "networks can't share addresses, since the host routes between them";
        let networks = &self.spec.networks;
        let mut v4: Vec<_> = networks.iter().map(|(name, network)| (network.cidr.net(), name)).collect();
        v4.sort_by_key(|(net, name)| (net.network(), net.prefix_len(), *name));
        let mut v6: Vec<_> =
            networks.iter().filter_map(|(name, network)| Some((network.cidr6?.net(), name))).collect();
        v6.sort_by_key(|(net, name)| (net.network(), net.prefix_len(), *name));
        let mut found = Vec::new();
        let mut covering = v4.first().copied();
        for (net, name) in v4.into_iter().skip(1) {
            match covering {
                Some((wide, owner)) if wide.contains(&net) => {
                    found.push((name, "cidr", format!("{net} overlaps {wide} of network {owner}")));
                }
                _ => covering = Some((net, name)),
            }
        }
        let mut covering = v6.first().copied();
        for (net, name) in v6.into_iter().skip(1) {
            match covering {
                Some((wide, owner)) if wide.contains(&net) => {
                    found.push((name, "cidr6", format!("{net} overlaps {wide} of network {owner}")));
                }
                _ => covering = Some((net, name)),
            }
        }
        for (name, key, message) in found {
            self.issue(SpecPath::keys(["networks", name.as_str(), key]), message, HINT);
        }
    }

    fn peerings(&mut self) -> Vec<(Name, Name)> {
        let mut pairs = BTreeSet::new();
        for (index, peering) in self.spec.peerings.iter().enumerate() {
            let path = SpecPath::keys(["peerings"]).index(index).key("between");
            let [a, b] = &peering.between;
            if a == b {
                self.issue(path.clone(), format!("{a} can't be peered with itself"), "name two networks");
            }
            for (position, name) in peering.between.iter().enumerate() {
                self.reference(path.clone().index(position), "network", name, &self.spec.networks);
            }
            // A peering has no direction.
            let pair = if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) };
            if !pairs.insert(pair) {
                self.issue(path, format!("{a} and {b} are peered twice"), "remove one of the two");
            }
        }
        pairs.into_iter().collect()
    }

    /// Reports `name` where no key of `known` is called so.
    pub(super) fn reference<V>(
        &mut self,
        path: SpecPath,
        kind: &str,
        name: &Name,
        known: &BTreeMap<String, V>,
    ) -> bool {
        if known.contains_key(name.as_str()) {
            return true;
        }
        // A suggestion compares with every name there is: for the first mistakes only.
        let near = Some(name.as_str()).filter(|_| self.issues.len() < MOST_COMPARED);
        let hint = match near.and_then(|name| spec::closest(name, known.keys().map(String::as_str))) {
            Some(close) => format!("did you mean {close}?"),
            None if known.is_empty() => format!("there is no {kind} at all"),
            None => format!("there are: {}", known.keys().take(8).cloned().collect::<Vec<_>>().join(", ")),
        };
        self.issues.push(Issue::dangling(path, format!("there is no {kind} {name}"), hint));
        false
    }

    /// No two links share a name, and none takes the host's: a long name is cut
    /// and hashed to an interface's 15 bytes, and two can meet there. Refused, not
    /// renumbered, since a name that depends on others would change with them.
    fn interfaces(&mut self, networks: &[Network], vms: &[Vm], namespaces: &[Namespace]) {
        let host = &self.spec.host;
        let mut owners: BTreeMap<&str, Owner<'_>> = BTreeMap::new();
        if let spec::Uplink::Named(names) = &host.uplink {
            owners.extend(names.iter().map(|name| (name.as_str(), Owner::Host("an uplink"))));
        }
        for network in self.spec.networks.values() {
            if let spec::Nat::Named(names) = &network.nat {
                let way = Owner::Host("a way to the internet");
                owners.extend(names.iter().map(|name| (name.as_str(), way)));
            }
        }
        if let Some(tailscale) = &host.tailscale {
            owners.insert(tailscale.interface.as_str(), Owner::Host("the tailnet's"));
        }
        let links = networks
            .iter()
            .map(|network| (Owner::Network(&network.name), &network.bridge))
            .chain(vms.iter().map(|vm| (Owner::Vm(&vm.name), &vm.port.interface)))
            .chain(namespaces.iter().map(|one| (Owner::Subnet(&one.port), &one.port.interface)));
        for (own, interface) in links {
            if let Some(owner) = owners.get(interface.as_str()) {
                let owner = match owner {
                    Owner::Host(what) => (*what).into(),
                    owner => format!("that of {}", owner.path()),
                };
                let message = format!("its interface would be {interface}, which is {owner} already");
                self.issues.push(Issue::new(own.path(), message, "rename one of the two"));
            } else {
                owners.insert(interface.as_str(), own);
            }
        }
    }
}
