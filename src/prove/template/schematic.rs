//! Hosts that stand for all others: each with everything that the template has
//! a part for, and that the model's lines ask beside its sets. What their sets
//! hold is never looked at.

use std::collections::BTreeMap;

use crate::reach::{Model, Vicinity};
use crate::spec::HostSpec;
use crate::topology::{self, IfName, Network, Port, Topology};

use super::super::rules::Unknown;
use super::fact::Fact;

/// A policy that allows what it doesn't name, and one that denies it.
pub const POLICIES: [&str; 2] = ["open", "closed"];

/// A link that is the tailnet's, and one that isn't.
const TAILNET: &str = "tailnet0";
const LINK: &str = "link0";

/// Each kind of network, by what the model asks of a network itself. Four
/// guests of the first have a part of the ports each.
const NETWORKS: &str = r#"
[networks.plain]
cidr = "10.1.0.0/24"
cidr6 = "fd00:0:0:1::/64"
limits = { flows = 32768 }
[networks.served]
cidr = "10.2.0.0/24"
cidr6 = "fd00:0:0:2::/64"
imds = "host"
[networks.tailed]
cidr = "10.3.0.0/24"
cidr6 = "fd00:0:0:3::/64"
tailscale = true
[networks.both]
cidr = "10.4.0.0/24"
cidr6 = "fd00:0:0:4::/64"
imds = "host"
tailscale = true
"#;

const SERVICES: &str = r#"
allow_input = [
    { protocol = "tcp", port = 1 },
    { protocol = "tcp", port = 2, from = ["203.0.113.0/24", "2001:db8:113::/48"] },
]
"#;

const RULES: &str = r#"
[policies.open]
default = "allow"
ingress = [{ action = "deny", source = ["203.0.113.0/24", "2001:db8:113::/48"] }]
egress = [{ action = "deny", destination = ["203.0.113.0/24", "2001:db8:113::/48"] }]
[policies.closed]
ingress = [{ source = ["203.0.113.0/24", "2001:db8:113::/48"] }]
egress = [{ destination = ["203.0.113.0/24", "2001:db8:113::/48"] }]
"#;

/// Which parts of the template there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Whether the firewall guards the whole host.
    pub full: bool,
    /// Whether there are policies.
    pub policies: bool,
}

impl Parts {
    /// Every way in which templates differ.
    pub const ALL: [Self; 4] = [
        Self { full: false, policies: false },
        Self { full: false, policies: true },
        Self { full: true, policies: false },
        Self { full: true, policies: true },
    ];
}

/// A host that stands for all that have the same parts of the template.
#[derive(Debug)]
pub struct Schematic {
    /// Which these are.
    pub parts: Parts,
    /// Its topology.
    pub topology: Topology,
    /// What is around it.
    pub vicinity: Vicinity,
    /// The kernel's numbers of the links that guests' packets go out by.
    pub indices: BTreeMap<IfName, u32>,
    /// The same with each kind of link and family.
    vicinities: Vec<Around>,
}

/// What is around a host, and what is said of a link by it.
#[derive(Debug)]
struct Around {
    vicinity: Vicinity,
    link: &'static str,
    fixed: Vec<(Fact, bool)>,
}

/// Who sends.
pub enum From<'m> {
    Port(&'m Port),
    Bridge(&'m Network),
    Link(&'m str),
    Host,
}

/// Packets of which the model's lines ask the same.
pub struct Case<'m> {
    pub from: From<'m>,
    pub model: Model<'m>,
    /// What is true of all of them.
    pub fixed: Vec<(Fact, bool)>,
}

impl Schematic {
    /// The one with these parts.
    ///
    /// # Errors
    /// Where its spec isn't one: a defect that a test would show.
    pub fn new(parts: Parts) -> Result<Self, Unknown> {
        let unknown = |what: String| Unknown(format!("the host that stands for all: {what}"));
        let text = spec(parts);
        let spec: HostSpec = toml::from_str(&text).map_err(|error| unknown(error.to_string()))?;
        let topology = topology::compile(&spec).map_err(|issues| unknown(format!("{issues:?}")))?;
        let vicinities = arounds(&interface(LINK)?, &interface(TAILNET)?);
        let vicinity = vicinities.first().map(|around| around.vicinity.clone()).unwrap_or_default();
        let indices =
            topology.exits(&[interface(LINK)?, interface(TAILNET)?]).into_iter().zip(1000..).collect();
        Ok(Self { parts, topology, vicinity, indices, vicinities })
    }

    /// Every case, those of which most is asked last.
    pub fn cases(&self) -> Vec<Case<'_>> {
        let without: &[Fact] = if self.parts.policies { &[] } else { &[Fact::HasEgress, Fact::HasIngress] };
        let case = |from, vicinity, fixed: Vec<(Fact, bool)>| {
            let fixed = fixed.into_iter().chain(without.iter().map(|fact| (*fact, false))).collect();
            Case { from, model: Model::new(&self.topology, vicinity), fixed }
        };
        let mut cases = Vec::new();
        if let Some(port) = self.topology.ports().next() {
            cases.push(case(From::Port(port), &self.vicinity, vec![(Fact::FromPort, true)]));
        }
        for Around { vicinity, link, fixed } in &self.vicinities {
            cases.push(case(From::Link(link), vicinity, fixed.clone()));
        }
        cases.push(case(From::Host, &self.vicinity, Vec::new()));
        for network in &self.topology.networks {
            let fixed = vec![
                (Fact::FromBridge, true),
                (Fact::FromTailscaleNetwork, network.tailscale),
                (Fact::FromImdsNetwork, network.imds == topology::Imds::Host),
            ];
            cases.push(case(From::Bridge(network), &self.vicinity, fixed));
        }
        cases
    }
}

fn interface(name: &str) -> Result<IfName, Unknown> {
    IfName::new(name).map_err(|error| Unknown(error.to_string()))
}

/// Each way in which a link that is no network's may be told from others.
fn arounds(link: &IfName, tailnet: &IfName) -> Vec<Around> {
    let mut all = Vec::new();
    for bits in 0..16u32 {
        let bit = |place: u32| bits >> place & 1 == 1;
        let (is_tailnet, is_uplink, is_opened, closed6) = (bit(0), bit(1), bit(2), bit(3));
        let named = |is: bool| {
            let of = if is_tailnet { tailnet } else { link };
            if is { vec![of.clone()] } else { Vec::new() }
        };
        let (uplinks, opened) = (named(is_uplink), named(is_opened));
        all.push(Around {
            vicinity: Vicinity { uplinks, opened, closed6, ..Vicinity::default() },
            link: if is_tailnet { TAILNET } else { LINK },
            fixed: vec![
                (Fact::FromPort, false),
                (Fact::FromBridge, false),
                (Fact::FromTailnet, is_tailnet),
                (Fact::FromUplink, is_uplink),
                (Fact::FromUnforwarded, is_opened),
                (Fact::UnforwardedFamily, closed6),
            ],
        });
    }
    for closed6 in [false, true] {
        let no =
            [Fact::FromPort, Fact::FromBridge, Fact::FromTailnet, Fact::FromUplink, Fact::FromUnforwarded];
        let fixed = no.into_iter().map(|fact| (fact, false)).chain([(Fact::UnforwardedFamily, closed6)]);
        let vicinity = Vicinity { closed6, ..Vicinity::default() };
        all.push(Around { vicinity, link: "lo", fixed: fixed.collect() });
    }
    all
}

fn spec(parts: Parts) -> String {
    let Parts { full, policies } = parts;
    let mut text = String::from("[host]\ndeny = [\"203.0.114.0/24\"]\ndns = [\"10.9.0.9\", \"fd00:9::9\"]\n");
    if full {
        text.push_str("firewall = \"full\"\n");
        text.push_str(SERVICES);
    }
    text.push_str(&format!("[host.tailscale]\ninterface = \"{TAILNET}\"\n"));
    text.push_str(NETWORKS);
    text.push_str("[[peerings]]\nbetween = [\"plain\", \"both\"]\n");
    for (name, policy) in [("a", POLICIES[0]), ("b", POLICIES[1]), ("c", POLICIES[0]), ("d", POLICIES[1])] {
        text.push_str(&format!("[vms.{name}]\nnetwork = \"plain\"\nimage = \"none\"\n"));
        if policies {
            text.push_str(&format!("policy = \"{policy}\"\n"));
        }
    }
    if policies {
        text.push_str(RULES);
    }
    text
}
