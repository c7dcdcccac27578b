//! Who may open a flow to whom, computed from the topology alone.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::topology::{Direction, FirewallMode, Imds, Name, Nat, Network, SubnetKind, Topology};

/// Somebody who sends or receives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// The guests of a network.
    Network(Name),
    /// Whoever is behind the uplink.
    Internet,
    /// The host itself.
    Host,
    /// The clouds' metadata services.
    Imds,
    /// Whoever is behind Tailscale's interface.
    Tailnet,
}

/// Whether a flow may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Yes.
    Allow,
    /// In part; the cell says which.
    Part,
    /// No.
    Deny,
    /// hostctl has no say.
    Untouched,
}

/// One pair of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Who opens the flow.
    pub from: Endpoint,
    /// To whom.
    pub to: Endpoint,
    /// Whether it may.
    pub reach: Reach,
    /// By what, in a few words.
    pub why: String,
}

/// Every pair of endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Those who open flows, in order.
    pub from: Vec<Endpoint>,
    /// Those to whom, in order.
    pub to: Vec<Endpoint>,
    /// Row by row.
    pub cells: Vec<Cell>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Network(name) => name.as_str(),
            Self::Internet => "internet",
            Self::Host => "host",
            Self::Imds => "imds",
            Self::Tailnet => "tailnet",
        })
    }
}

/// The matrix of a topology.
pub fn matrix(topology: &Topology) -> Matrix {
    let networks = || topology.networks.iter().map(|network| Endpoint::Network(network.name.clone()));
    let tailnet = topology.tailscale.iter().map(|_| Endpoint::Tailnet);
    let from: Vec<_> =
        networks().chain([Endpoint::Host, Endpoint::Internet]).chain(tailnet.clone()).collect();
    let to: Vec<_> =
        networks().chain([Endpoint::Internet, Endpoint::Host, Endpoint::Imds]).chain(tailnet).collect();
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (from, to)));
    let cells = pairs.map(|(from, to)| cell(topology, from, to)).collect();
    Matrix { from, to, cells }
}

impl Matrix {
    /// The cell of a pair.
    pub fn get(&self, from: &Endpoint, to: &Endpoint) -> Option<&Cell> {
        self.cells.iter().find(|cell| &cell.from == from && &cell.to == to)
    }
}

fn cell(topology: &Topology, from: &Endpoint, to: &Endpoint) -> Cell {
    use Reach::{Allow, Deny, Part, Untouched};
    let full = topology.firewall == FirewallMode::Full;
    let network = |name: &Name| topology.network(name);
    let (reach, why): (Reach, String) = match (from, to) {
        (Endpoint::Network(a), Endpoint::Network(b)) if a == b => (Allow, "same network".into()),
        (Endpoint::Network(a), Endpoint::Network(b)) if topology.connected(a, b) => (Allow, "peered".into()),
        (Endpoint::Network(_), Endpoint::Network(_)) => (Deny, "another network".into()),
        (Endpoint::Network(a), Endpoint::Internet) => network(a).map_or((Deny, String::new()), internet),
        (Endpoint::Network(_), Endpoint::Host) => (Part, "ping of its gateway".into()),
        (Endpoint::Network(a), Endpoint::Imds) => match network(a).map(|network| network.imds) {
            Some(Imds::Host) => (Part, "tcp/80, masqueraded".into()),
            _ => (Deny, "imds = \"deny\"".into()),
        },
        (Endpoint::Network(_), Endpoint::Tailnet) => (Deny, "replies only".into()),
        (Endpoint::Host, Endpoint::Network(_)) => (Allow, "host".into()),
        (Endpoint::Tailnet, Endpoint::Network(b)) if network(b).is_some_and(|network| network.tailscale) => {
            (Allow, "tailscale = true".into())
        }
        (Endpoint::Internet | Endpoint::Tailnet, Endpoint::Network(_)) => (Deny, "replies only".into()),
        (Endpoint::Tailnet, Endpoint::Host) if full => (Allow, "tailnet".into()),
        (Endpoint::Internet, Endpoint::Host) if full => {
            let open: Vec<_> = topology
                .allow_input
                .iter()
                .map(|open| {
                    let some = if open.from.is_empty() { "" } else { " (some)" };
                    format!("{}/{}{some}", open.protocol.as_str(), open.port)
                })
                .collect();
            if open.is_empty() { (Deny, "firewall = \"full\"".into()) } else { (Part, open.join(" ")) }
        }
        (Endpoint::Internet | Endpoint::Tailnet, Endpoint::Internet | Endpoint::Tailnet | Endpoint::Imds)
            if full =>
        {
            (Deny, "firewall = \"full\"".into())
        }
        _ => (Untouched, "not a guest's".into()),
    };
    let narrowed = if matches!(reach, Allow | Part) { policies(topology, from, to) } else { BTreeSet::new() };
    let (reach, why) = match narrowed.len() {
        0 => (reach, why),
        _ => {
            let names: Vec<&str> = narrowed.into_iter().map(Name::as_str).collect();
            (Part, format!("{why}; policy {}", names.join(", ")))
        }
    };
    Cell { from: from.clone(), to: to.clone(), reach, why }
}

/// The policies that judge flows between two endpoints.
fn policies<'t>(topology: &'t Topology, from: &Endpoint, to: &Endpoint) -> BTreeSet<&'t Name> {
    let of = |end: &Endpoint, direction: Direction| {
        let name = match end {
            Endpoint::Network(name) => Some(name.clone()),
            _ => None,
        };
        let ports = topology.ports().filter(move |port| Some(&port.network) == name.as_ref());
        ports
            .filter_map(|port| topology.policy(port))
            .filter(move |policy| policy.rules(direction).is_some())
            .flat_map(|policy| &policy.names)
    };
    of(from, Direction::Egress).chain(of(to, Direction::Ingress)).collect()
}

fn internet(network: &Network) -> (Reach, String) {
    if network.nat == Nat::Off {
        return (Reach::Deny, "nat = false".into());
    }
    let public: Vec<&str> = network
        .subnets
        .iter()
        .filter(|subnet| subnet.kind == SubnetKind::Public)
        .map(|subnet| subnet.name.as_str())
        .collect();
    let lan = if network.lan.is_empty() { "" } else { ", and the LAN" };
    match public.len() {
        0 => (Reach::Deny, "private".into()),
        n if n == network.subnets.len() => (Reach::Allow, format!("masqueraded{lan}")),
        _ => (Reach::Part, format!("subnet {}{lan}", public.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use crate::topology::test_topology::topology;

    #[test]
    fn the_matrix_names_the_policies_that_narrow_it() {
        use super::{Endpoint, Reach, matrix};
        let topology = topology(
            r#"
    [networks.a]
    cidr = "10.1.0.0/24"
    policy = "web"
    [networks.b]
    cidr = "10.2.0.0/24"
    [[peerings]]
    between = ["a", "b"]
    [vms.a]
    network = "a"
    image = "probe"
    [vms.b]
    network = "b"
    image = "probe"
    [policies.web]
    ingress = [{ port = 80, protocol = "tcp" }]
    "#,
        );
        let matrix = matrix(&topology);
        let [a, b] = ["a", "b"].map(|name| Endpoint::Network(name.to_string().try_into().unwrap()));
        let cell = |from: &Endpoint, to: &Endpoint| {
            let cell = matrix.get(from, to).unwrap();
            (cell.reach, cell.why.clone())
        };
        assert_eq!(cell(&a, &a), (Reach::Part, "same network; policy web".into()));
        assert_eq!(cell(&b, &a), (Reach::Part, "peered; policy web".into()));
        assert_eq!(cell(&Endpoint::Host, &a), (Reach::Part, "host; policy web".into()));
        assert_eq!(cell(&a, &b), (Reach::Allow, "peered".into()));
        assert_eq!(cell(&a, &Endpoint::Internet), (Reach::Allow, "masqueraded".into()));
        assert_eq!(cell(&Endpoint::Internet, &a), (Reach::Deny, "replies only".into()));
    }
}
