//! What people call the ends of a flow, and who is meant.

use std::net::IpAddr;

use crate::packet::Family;
use crate::spec::closest;
use crate::topology::{Network, Port, Topology};

use super::class::{Guest, guests};
use super::side::Side;

/// One end of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End<'t> {
    /// As it is called: `web`, `network prod`, `internet`.
    pub name: String,
    /// Who is meant: for a network or subnet, each of its guests, by name.
    pub(super) sides: Vec<(String, Side<'t>)>,
    /// The family of the address that it is called by.
    pub family: Option<Family>,
}

/// Why an end can't be asked about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// Nobody is called so.
    #[error("there is no guest, network or subnet {name}: {}", meant(.hint.as_deref()))]
    Unknown {
        /// The name.
        name: String,
        /// One that is near.
        hint: Option<String>,
    },
    /// A network or subnet without guests.
    #[error("{0} has no guests, so nobody is there to reach or be reached")]
    Empty(String),
    /// An address of a network's that no guest has.
    #[error("no guest has {0}, so nobody sends from there")]
    Nobody(IpAddr),
    /// Somebody who answers and asks nothing.
    #[error("the metadata services open no flows: name imds as the destination")]
    Imds,
    /// The spec names no tailnet.
    #[error("the spec has no tailnet: [host.tailscale] interface = \"tailscale0\" would name one")]
    NoTailnet,
}

fn meant(hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("did you mean {hint}?"),
        None => "name one, or an address, host, internet, tailnet or imds".into(),
    }
}

const WORDS: [&str; 4] = ["host", "imds", "internet", "tailnet"];

impl<'t> End<'t> {
    fn one(name: impl Into<String>, side: Side<'t>) -> Self {
        let name = name.into();
        Self { sides: vec![(name.clone(), side)], name, family: None }
    }

    /// Everybody who is meant, each by name.
    pub fn sides(&self) -> impl Iterator<Item = (&str, Side<'t>)> {
        self.sides.iter().map(|(name, side)| (name.as_str(), *side))
    }

    /// Who sends, by a word of the command line: a guest, a network, a subnet
    /// (`network/subnet` or `network-subnet`), an address, `host`, `internet`
    /// or `tailnet`. Where names are the same, `vm:`, `namespace:`, `network:`
    /// and `subnet:` tell them apart.
    ///
    /// # Errors
    /// Where nobody is called so, or nobody is there.
    pub fn sender(topology: &'t Topology, word: &str) -> Result<Self, EndError> {
        let end = Self::receiver(topology, word)?;
        match end.sides.as_slice() {
            [(_, Side::Imds)] => Err(EndError::Imds),
            [(_, Side::Address(address))] if network_of(topology, *address).is_some() => {
                Err(EndError::Nobody(*address))
            }
            _ => Ok(end),
        }
    }

    /// Who receives: as [`End::sender`], and `imds`.
    ///
    /// # Errors
    /// Where nobody is called so, or nobody is there.
    pub fn receiver(topology: &'t Topology, word: &str) -> Result<Self, EndError> {
        if let Ok(address) = word.parse::<IpAddr>() {
            return Ok(Self { family: Some(Family::of(address)), ..Self::at(topology, address) });
        }
        match word {
            "host" => return Ok(Self::one(word, Side::Host)),
            "internet" => return Ok(Self::one(word, Side::Internet(None))),
            "imds" => return Ok(Self::one(word, Side::Imds)),
            "tailnet" if topology.tailscale.is_none() => return Err(EndError::NoTailnet),
            "tailnet" => return Ok(Self::one(word, Side::Tailnet)),
            _ => {}
        }
        let (kind, name) = match word.split_once(':') {
            Some((kind, name)) => (Some(kind), name),
            None => (None, word),
        };
        let is = |wanted: &str| kind.is_none_or(|kind| kind == wanted);
        let guests = guests(topology);
        let guest = guests.iter().find(|(guest, _)| match guest {
            Guest::Vm(vm) => is("vm") && vm.as_str() == name,
            Guest::Namespace(namespace) => is("namespace") && *namespace == name,
        });
        if let Some((guest, port)) = guest {
            return Ok(Self::one(guest.name(), Side::Guest(port)));
        }
        if let Some(network) =
            topology.networks.iter().find(|network| is("network") && network.name.as_str() == name)
        {
            return Self::all(format!("network {}", network.name), &guests, |port| {
                port.network == network.name
            });
        }
        for network in topology.networks.iter().filter(|_| is("subnet")) {
            let subnet = network.subnets.iter().find(|subnet| {
                let rest = name.strip_prefix(network.name.as_str());
                rest.and_then(|rest| rest.strip_prefix(['/', '-'])) == Some(subnet.name.as_str())
            });
            if let Some(subnet) = subnet {
                let called = format!("subnet {}/{}", network.name, subnet.name);
                return Self::all(called, &guests, |port| {
                    port.network == network.name && port.subnet == subnet.name
                });
            }
        }
        let subnets = topology.networks.iter().flat_map(|network| {
            network.subnets.iter().map(move |subnet| format!("{}/{}", network.name, subnet.name))
        });
        let subnets: Vec<String> = subnets.collect();
        let known = guests.keys().map(|guest| guest.name());
        let known = known.chain(topology.networks.iter().map(|network| network.name.as_str()));
        let known = known.chain(subnets.iter().map(String::as_str)).chain(WORDS);
        Err(EndError::Unknown { name: word.into(), hint: closest(name, known).map(String::from) })
    }

    fn all(
        name: String,
        guests: &std::collections::BTreeMap<Guest<'t>, &'t Port>,
        inside: impl Fn(&Port) -> bool,
    ) -> Result<Self, EndError> {
        let inside = guests.iter().filter(|(_, port)| inside(port));
        let sides: Vec<_> =
            inside.map(|(guest, port)| (guest.name().to_string(), Side::Guest(port))).collect();
        if sides.is_empty() { Err(EndError::Empty(name)) } else { Ok(Self { name, sides, family: None }) }
    }

    fn at(topology: &'t Topology, address: IpAddr) -> Self {
        let is = |port: &Port| {
            port.address == address
                || port
                    .v6
                    .as_ref()
                    .is_some_and(|v6| [v6.address, v6.link_local].map(IpAddr::V6).contains(&address))
        };
        match guests(topology).into_iter().find(|(_, port)| is(port)) {
            Some((guest, port)) => Self::one(guest.name(), Side::Guest(port)),
            None => Self::one(address.to_string(), Side::Address(address)),
        }
    }
}

fn network_of(topology: &Topology, address: IpAddr) -> Option<&Network> {
    topology.networks.iter().find(|network| match address {
        IpAddr::V4(v4) => network.cidr.contains(&v4) && v4 != network.gateway,
        IpAddr::V6(v6) => network.cidr6.is_some_and(|net| net.contains(&v6)) && Some(v6) != network.gateway6,
    })
}
