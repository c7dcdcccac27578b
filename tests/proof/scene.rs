//! A host spec and its surroundings: those of the testbed's world.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostctl::firewall::{Ruleset, Surroundings, nft, render};
use hostctl::reach::{Entry, Flow, Model, Verdict, Vicinity};
use hostctl::testbed::address;
use hostctl::topology::{IfName, Port, Topology};
use ipnet::IpNet;

use crate::support::lab::compile;
use crate::support::oracle::{Host, Tables, Trace, index, name as oracle_name};

pub const TAILNET: &str = "tailscale0";
pub const UPLINK: &str = "uplink0";

/// A host before anything is applied.
pub struct Scene {
    pub spec: String,
    pub topology: Topology,
    pub vicinity: Vicinity,
}

pub fn interface(name: &str) -> IfName {
    IfName::new(name).unwrap()
}

impl Scene {
    /// That of a host that forwarded nothing before hostctl came.
    pub fn new(spec: &str) -> Self {
        let (_, topology) = compile(spec);
        let uplinks = vec![interface(UPLINK)];
        let opened = topology.exits(&uplinks).into_iter().chain(topology.tailscale.clone()).collect();
        let closed6 = topology.has_ipv6();
        let vicinity = Vicinity {
            uplinks,
            opened,
            closed6,
            addresses: addresses(),
            routes: routes(),
            on_link: on_link(),
        };
        Self { spec: spec.into(), topology, vicinity }
    }

    /// The same on a host that forwards for others too.
    pub fn forwarding(self) -> Self {
        Self { vicinity: Vicinity { opened: Vec::new(), closed6: false, ..self.vicinity }, ..self }
    }

    /// What the kernel lists once it has loaded the rules.
    pub fn listing(&self) -> String {
        nft::rehearse_json(&self.text()).unwrap_or_else(|error| panic!("{error}\n{}", self.spec))
    }

    /// The rules as they are loaded.
    pub fn text(&self) -> String {
        let surroundings = Surroundings {
            uplinks: self.vicinity.uplinks.clone(),
            opened: self.vicinity.opened.clone(),
            closed6: self.vicinity.closed6,
            indices: self.indices(),
            on_link: self.vicinity.on_link.clone(),
            guarded: self.topology.vms.iter().map(|vm| vm.port.interface.clone()).collect(),
        };
        render(&Ruleset::new(&self.topology, &surroundings).unwrap()).unwrap()
    }

    /// The numbers of the links that guests' packets go out by.
    pub fn indices(&self) -> BTreeMap<IfName, u32> {
        self.topology.exits(&self.vicinity.uplinks).into_iter().map(numbered).collect()
    }

    pub fn host(&self) -> Host {
        Host::new(&self.topology, &self.vicinity)
    }

    /// Holds what the model says of a flow against the rules; which of them it
    /// touched.
    ///
    /// # Errors
    /// Both accounts, where they differ.
    pub fn compare(
        &self,
        model: &Model<'_>,
        host: &Host,
        tables: &Tables,
        flow: &Flow,
    ) -> Result<Trace, String> {
        let judgement = model.judge(flow);
        let seen = host.pass(tables, flow).map_err(|error| format!("{error}\n{flow:?}"))?;
        let passes = judgement.verdict != Verdict::Dropped;
        if passes == seen.passes && judgement.masqueraded == seen.masqueraded {
            return Ok(seen.trace);
        }
        Err(format!(
            "{flow:?}\nrules: passes {}, masqueraded {}, by {}\nmodel: {:?}, masqueraded {}\n{}",
            seen.passes,
            seen.masqueraded,
            seen.hooks.join(", "),
            judgement.verdict,
            judgement.masqueraded,
            way(&judgement)
        ))
    }
}

/// The model's way, a line for each stage.
pub fn way(judgement: &hostctl::reach::Judgement) -> String {
    judgement.way.iter().map(|stage| format!("    {stage:?}\n")).collect()
}

/// Both addresses of a guest, as far as it has them.
pub fn addresses_of(port: &Port) -> impl Iterator<Item = IpAddr> {
    let v6 = port.v6.as_ref().map(|v6| IpAddr::from(v6.address));
    [IpAddr::from(port.address)].into_iter().chain(v6)
}

pub fn entry(port: &Port) -> Entry {
    Entry::Guest(port.interface.clone())
}

fn addresses() -> Vec<(IfName, IpAddr)> {
    let of = |name: &str, address: IpAddr| (interface(name), address);
    vec![
        of(UPLINK, address::UPLINK.into()),
        of(UPLINK, address::UPLINK6.into()),
        of(TAILNET, address::TAILSCALE.into()),
        of(TAILNET, address::TAILSCALE6.into()),
    ]
}

/// A link with its number.
fn numbered(name: IfName) -> (IfName, u32) {
    let number = index(oracle_name(name.as_str()).unwrap());
    (name, u32::try_from(number).unwrap())
}

fn on_link() -> Vec<IpNet> {
    ["198.51.100.0/24", "2001:db8:51::/64"].map(|net| net.parse().unwrap()).into()
}

fn routes() -> Vec<(IpNet, IfName)> {
    let to = |net: &str, name: &str| (net.parse::<IpNet>().unwrap(), interface(name));
    let metadata = [IpAddr::V4(address::METADATA), IpAddr::V6(address::METADATA6)]
        .into_iter()
        .chain(address::METADATA_TWINS.map(IpAddr::V4))
        .chain(address::METADATA_TWINS6.map(IpAddr::V6))
        .map(|address| (IpNet::from(address), interface(UPLINK)));
    metadata
        .chain([
            (IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0).unwrap(), interface(UPLINK)),
            (IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0).unwrap(), interface(UPLINK)),
            to("198.51.100.0/24", UPLINK),
            to("2001:db8:51::/64", UPLINK),
            to("100.64.0.0/10", TAILNET),
            to("fd7a:115c:a1e0::/48", TAILNET),
        ])
        .collect()
}
