//! A host with a hostile tenant, and those whom it must not harm.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hostctl::testbed::frames::Link;
use hostctl::testbed::{
    Connection, DEFAULT_TIMEOUT, Options, Probe, Service, address, probe, usual_services,
};
use hostctl::topology::{Topology, link_local};

use crate::support::lab::{Guest, Lab, compile};
use crate::support::spec_parts::{idle_vms, network};

/// The hostile guest is m1; n1 is its neighbour, b1 another network's.
const SPEC: &str =
    concat!(network!("m" 1), network!("b" 2), idle_vms!("m1" in "m", "n1" in "m", "b1" in "b"),);

pub struct Tenants {
    pub lab: Lab,
    pub spec: String,
    pub topology: Topology,
    pub m1: Guest,
    pub n1: Guest,
    pub b1: Guest,
    /// Connections of others: the operator's to the host, guests' to the internet.
    flows: Vec<(&'static str, Connection)>,
    _host: Vec<Service>,
}

impl Tenants {
    pub fn new(limits: &str) -> Self {
        Self::with(limits, Options::default())
    }

    pub fn with(limits: &str, options: Options) -> Self {
        let lab = Lab::new(options);
        let spec = format!("[host.limits]\n{limits}\n{SPEC}");
        lab.apply(&spec);
        let host = usual_services(&lab.world.hypervisor, "host").unwrap();
        let [m1, n1, b1] = ["m1", "n1", "b1"].map(|name| lab.guest(&spec, name));
        let (_, topology) = compile(&spec);
        let open =
            |netns, ip: IpAddr| Connection::open(netns, SocketAddr::new(ip, 22), DEFAULT_TIMEOUT).unwrap();
        let flows = vec![
            ("the operator's", open(&lab.world.internet, address::UPLINK.into())),
            ("the operator's over IPv6", open(&lab.world.internet, address::UPLINK6.into())),
            ("the neighbour's", open(n1.netns(), address::FAR.into())),
            ("the neighbour's over IPv6", open(n1.netns(), address::FAR6.into())),
            ("another network's", open(b1.netns(), address::FAR.into())),
            ("another network's over IPv6", open(b1.netns(), address::FAR6.into())),
        ];
        Self { lab, spec, topology, m1, n1, b1, flows, _host: host }
    }

    /// From m1 to its bridge.
    pub fn link(&self) -> Link {
        let network = self.topology.networks.iter().find(|network| network.name.as_str() == "m").unwrap();
        Link { source: self.mac(), destination: network.mac.octets() }
    }

    pub fn mac(&self) -> [u8; 6] {
        self.topology.vm("m1").unwrap().port.mac.octets()
    }

    pub fn link_local(&self) -> std::net::Ipv6Addr {
        link_local(self.topology.vm("m1").unwrap().port.mac)
    }

    pub fn inject(&self, frame: &[u8]) {
        self.m1.guest.inject(frame).unwrap();
    }

    pub fn v4(&self) -> Ipv4Addr {
        let IpAddr::V4(v4) = self.m1.v4 else { unreachable!() };
        v4
    }

    pub fn v6(&self) -> std::net::Ipv6Addr {
        let Some(IpAddr::V6(v6)) = self.m1.v6 else { unreachable!() };
        v6
    }

    /// Open connections go on, new ones open, and the host is as it should be.
    pub fn nobody_is_harmed(&mut self, when: &str) {
        for (whose, flow) in &mut self.flows {
            assert!(flow.still_alive(Duration::from_secs(3)), "{when}: {whose} connection is dead");
        }
        for (whose, guest) in [("the neighbour", &self.n1), ("another network", &self.b1)] {
            for far in [address::FAR.into(), address::FAR6.into()] {
                for what in [Probe::Tcp(SocketAddr::new(far, 80)), Probe::Udp(SocketAddr::new(far, 7))] {
                    let verdict = probe(guest.netns(), what, DEFAULT_TIMEOUT);
                    assert!(verdict.is_allowed(), "{when}: {whose} to {far}: {verdict}");
                }
            }
        }
        for host in [address::UPLINK.into(), address::UPLINK6.into()] {
            let verdict =
                probe(&self.lab.world.internet, Probe::Tcp(SocketAddr::new(host, 22)), DEFAULT_TIMEOUT);
            assert!(verdict.is_allowed(), "{when}: the host at {host}: {verdict}");
        }
        let steps = self.lab.plan(&self.spec).unwrap();
        assert!(steps.is_empty(), "{when}: drift: {steps:?}");
    }

    /// What the host's connection tracking holds.
    pub fn tracked(&self) -> usize {
        let count = self.lab.world.hypervisor.sysctl_get("net/netfilter/nf_conntrack_count");
        count.unwrap().parse().unwrap()
    }

    /// The flows that m1 opened.
    pub fn flows_of_m1(&self) -> usize {
        self.own().map(|(family, own)| self.flows_from(family, &own)).iter().sum()
    }

    pub fn forget_flows_of_m1(&self) {
        for (family, own) in self.own().into_iter().filter(|(family, own)| self.flows_from(family, own) > 0) {
            self.lab.output("conntrack", &["-D", "-f", family, "-s", &own]);
        }
    }

    fn own(&self) -> [(&'static str, String); 2] {
        [("ipv4", self.m1.v4.to_string()), ("ipv6", self.v6().to_string())]
    }

    fn flows_from(&self, family: &str, own: &str) -> usize {
        self.lab.output("conntrack", &["-L", "-f", family, "-s", own]).lines().count()
    }

    /// What the counter of the rule with that comment has counted; the first
    /// such rule's.
    pub fn counted(&self, family: &str, comment: &str) -> u64 {
        let text = self.lab.output("nft", &["list", "table", family, "hostctl"]);
        let rule = text.lines().find(|line| line.contains(comment)).unwrap_or_else(|| panic!("{text}"));
        let (_, count) = rule.split_once("counter packets ").unwrap_or_else(|| panic!("{rule}"));
        count.split_whitespace().next().unwrap().parse().unwrap()
    }
}
