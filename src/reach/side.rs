//! Who sends and who receives, and the flows between them that rules may tell
//! apart.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::packet::protocol::{SCTP, TCP, UDP};
use crate::packet::{Family, Range, number, port, prefix, range};
use crate::topology::{Direction, IfName, Port, RuleList};

use super::services::Services;
use super::vicinity::{HOST4, HOST6};
use super::{Entry, Flow, Judgement, Model, Verdict};

/// A sender or receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side<'t> {
    /// A guest.
    Guest(&'t Port),
    /// The host: to a guest, its gateway.
    Host,
    /// Whoever is behind an uplink, or behind the interface named.
    Internet(Option<&'t IfName>),
    /// Whoever is behind Tailscale's interface.
    Tailnet,
    /// The clouds' metadata services.
    Imds,
    /// Whoever has an address that isn't a guest's.
    Address(IpAddr),
}

/// A protocol that rules don't tell from the others: SCTP's number.
const ANY_OTHER: u8 = SCTP;

/// The UDP ports at which guests are sent nothing.
const DHCP_CLIENTS: [u16; 2] = [port::DHCP_CLIENT, port::DHCPV6_CLIENT];

/// Stand for the internet and the tailnet where all of it is the same.
const INTERNET: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
const TAILNET: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1)),
];
const IMDS: [IpAddr; 2] = [IpAddr::V4(prefix::IMDS4), IpAddr::V6(prefix::IMDS6)];

/// Addresses that stand for those of the internet and of the tailnet.
pub fn usual() -> Vec<IpAddr> {
    INTERNET.into_iter().chain(TAILNET).collect()
}

/// Whether an address is one that stands for all.
pub(super) fn is_usual(address: IpAddr) -> bool {
    INTERNET.contains(&address) || TAILNET.contains(&address)
}

/// A port's address of a family, where it has one.
pub(super) fn address_of(port: &Port, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => Some(port.address.into()),
        Family::V6 => port.v6.as_ref().map(|v6| v6.address.into()),
    }
}

impl<'t> Side<'t> {
    /// The rules that judge flows of a direction at this end.
    pub(super) fn rules(self, model: &Model<'t>, direction: Direction) -> Option<&'t RuleList> {
        match self {
            Self::Guest(port) => model.topology().policy(port)?.rules(direction),
            _ => None,
        }
    }
}

/// The rules that tell apart, by their addresses, those that are many at one
/// end of a flow. Nobody on the internet opens a flow to a guest, whatever its
/// policy.
pub(super) fn telling<'t>(model: &Model<'t>, from: Side<'t>, to: Side<'t>) -> Option<&'t RuleList> {
    match (from, to) {
        (_, Side::Internet(_)) => from.rules(model, Direction::Egress),
        (Side::Tailnet, _) => to.rules(model, Direction::Ingress),
        _ => None,
    }
}

/// The address that a guest knows the host by.
fn gateway(model: &Model<'_>, port: &Port, family: Family) -> Option<IpAddr> {
    let network = model.topology().network(&port.network)?;
    match family {
        Family::V4 => Some(network.gateway.into()),
        Family::V6 => network.gateway6.map(IpAddr::V6),
    }
}

/// The ends of flows in one family; none where an end has no such addresses.
/// `far` is an address of an end that is many.
#[derive(Debug, Clone)]
pub(super) struct Pair<'t> {
    entry: Entry,
    pub source: IpAddr,
    pub destination: IpAddr,
    exit: Option<&'t IfName>,
    rules: [Option<&'t RuleList>; 2],
}

impl<'t> Pair<'t> {
    pub fn new(
        model: &Model<'t>,
        from: Side<'t>,
        to: Side<'t>,
        family: Family,
        far: Option<IpAddr>,
    ) -> Option<Self> {
        let topology = model.topology();
        let uplink = model.vicinity().uplinks.first();
        let host = || {
            let own = model.vicinity().addresses.iter().map(|(_, address)| *address);
            own.into_iter()
                .find(|address| Family::of(*address) == family)
                .unwrap_or(family.pick([HOST4.into(), HOST6.into()]))
        };
        let side = |side: Side<'t>, other: Side<'t>| match (side, other) {
            (Side::Guest(port), _) => address_of(port, family),
            (Side::Host, Side::Guest(port)) => gateway(model, port, family),
            (Side::Host, _) => Some(host()),
            (Side::Internet(_), _) => Some(far.unwrap_or(family.pick(INTERNET))),
            (Side::Tailnet, _) => Some(far.unwrap_or(family.pick(TAILNET))),
            (Side::Imds, _) => Some(family.pick(IMDS)),
            (Side::Address(address), _) => Some(address).filter(|address| Family::of(*address) == family),
        };
        let link = |link: Option<&IfName>| link.cloned().map(Entry::Interface);
        let entry = match from {
            Side::Guest(port) => Entry::Guest(port.interface.clone()),
            Side::Host => Entry::Host,
            Side::Internet(by) => link(by.or(uplink))?,
            // A tailnet that the spec doesn't name comes in by some link.
            Side::Tailnet => match &topology.tailscale {
                Some(interface) => Entry::Interface(interface.clone()),
                None => Entry::Interface(IfName::new("tailscale0").ok()?),
            },
            Side::Address(address) => match entry_of(model, address) {
                Some(entry) => entry,
                None => link(uplink)?,
            },
            Side::Imds => return None,
        };
        if to == Side::Tailnet && topology.tailscale.is_none() {
            return None;
        }
        let exit = match to {
            Side::Internet(by) => by,
            _ => None,
        };
        let rules = [from.rules(model, Direction::Egress), to.rules(model, Direction::Ingress)];
        Some(Self { entry, source: side(from, to)?, destination: side(to, from)?, exit, rules })
    }

    fn flow(&self, protocol: u8, port: u16) -> Flow {
        let (source, destination) = (self.source, self.destination);
        Flow { entry: self.entry.clone(), source, destination, protocol, port }
    }

    fn ping(&self) -> Flow {
        self.flow(Family::of(self.source).icmp(), 0)
    }

    /// What becomes of one service's flows.
    pub fn one(&self, model: &Model<'t>, service: Service) -> Judgement {
        let flow = match service {
            Service::Tcp(port) => self.flow(TCP, port),
            Service::Udp(port) => self.flow(UDP, port),
            Service::Ping => self.ping(),
        };
        model.judge_by(&flow, self.exit)
    }

    /// Every flow that rules may tell apart from others, and what it stands
    /// for. UDP's ports 68 and 546, which guests' ports close, count as those
    /// around them.
    fn sweep(&self, model: &Model<'t>, mut found: impl FnMut(&Flow, &dyn Fn(&mut Services))) {
        let borders = self.borders(model);
        for (protocol, tcp) in [(TCP, true), (UDP, false)] {
            for (index, &first) in borders.iter().enumerate() {
                let last = borders.get(index + 1).map_or(u16::MAX, |next| next - 1);
                // A port that stands for the range.
                let sample = (first..=last).find(|port| tcp || !DHCP_CLIENTS.contains(port)).unwrap_or(first);
                found(&self.flow(protocol, sample), &|services: &mut Services| {
                    let ports = if tcp { &mut services.tcp } else { &mut services.udp };
                    ports.push(first, last);
                });
            }
        }
        found(&self.ping(), &|services| services.ping = true);
        found(&self.flow(ANY_OTHER, 0), &|services| services.other = true);
    }

    /// What becomes of every service's flows.
    pub fn all(&self, model: &Model<'t>, mut found: impl FnMut(&dyn Fn(&mut Services), Judgement)) {
        self.sweep(model, |flow, add| found(add, model.judge_by(flow, self.exit)));
    }

    /// What isn't dropped.
    pub fn open(&self, model: &Model<'t>) -> Services {
        let mut open = Services::default();
        self.sweep(model, |flow, add| {
            if model.verdict(flow, self.exit) != Verdict::Dropped {
                add(&mut open);
            }
        });
        open
    }

    /// The ports at which something may begin to be judged otherwise, in order.
    fn borders(&self, model: &Model<'t>) -> Vec<u16> {
        let ranges = self.rules.iter().flatten().flat_map(|list| &list.rules).flat_map(|rule| &rule.ports);
        let open = model.topology().allow_input.iter().map(|open| (open.port, open.port));
        let fixed = [port::DNS, port::HTTP].map(|port| (port, port)).into_iter().chain(open);
        let ranges = ranges.map(|ports| (ports.first(), ports.last())).chain(fixed);
        let borders = ranges.flat_map(|(first, last)| [Some(first), last.checked_add(1)]);
        let borders: BTreeSet<u16> = borders.flatten().chain([0]).collect();
        borders.into_iter().collect()
    }
}

/// Where packets from an address that isn't a guest's come in; none where it
/// is the host's.
fn entry_of(model: &Model<'_>, address: IpAddr) -> Option<Entry> {
    if model.is_own(address) {
        return Some(Entry::Host);
    }
    let routes = model.vicinity().routes.iter().filter(|(net, _)| net.contains(&address));
    routes.max_by_key(|(net, _)| net.prefix_len()).map(|(_, link)| Entry::Interface(link.clone()))
}

/// One service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// A TCP port.
    Tcp(u16),
    /// A UDP port.
    Udp(u16),
    /// ICMP echo, of the flow's family.
    Ping,
}

/// Parts of what is behind an interface that rules may tell apart, each with
/// an address of it. The rules are those of the other end.
pub(super) fn regions(
    models: &[&Model<'_>],
    side: Side<'_>,
    rules: &[&RuleList],
    family: Family,
) -> Vec<(Range, IpAddr)> {
    let whole = match (side, family) {
        (Side::Tailnet, family) => range(&family.pick(prefix::TAILNET)),
        (_, family) => (0, family.last()),
    };
    let prefer = family.pick(if side == Side::Tailnet { TAILNET } else { INTERNET });
    let nets = rules.iter().flat_map(|list| &list.rules).flat_map(|rule| rule.peers.iter().flatten());
    let denied = models.iter().flat_map(|model| &model.topology().deny);
    let nets = nets.chain(denied).filter(|net| Family::of(net.addr()) == family).map(range);
    let borders = nets.flat_map(|(first, last)| [Some(first), last.checked_add(1)]);
    let inside = borders.flatten().filter(|border| (whole.0..=whole.1).contains(border));
    let borders: BTreeSet<u128> = inside.chain([whole.0]).collect();
    let ends = borders.iter().skip(1).map(|next| next - 1).chain([whole.1]);
    let parts = borders.iter().copied().zip(ends);
    let sample = |part: Range| {
        let mut candidate = if (part.0..=part.1).contains(&number(prefer)) { number(prefer) } else { part.0 };
        while candidate <= part.1 {
            let address = family.address(candidate);
            match models.iter().find_map(|model| model.elsewhere(address, side)) {
                None => return Some((part, address)),
                Some(end) => candidate = end.checked_add(1)?,
            }
        }
        None
    };
    parts.filter_map(sample).collect()
}

impl Model<'_> {
    /// The last address of the prefix for which an address isn't `side`'s.
    fn elsewhere(&self, address: IpAddr, side: Side<'_>) -> Option<u128> {
        let tailnet = self.topology().tailscale.is_some() && side != Side::Tailnet;
        let tailnet = tailnet.then_some(prefix::TAILNET);
        // The tailnet's are of RFC 6598 and RFC 4193.
        let private = (side != Side::Tailnet).then_some(prefix::private()).into_iter().flatten();
        let nobodys = [IpNet::V6(prefix::RESERVED6)];
        let nets = nobodys.iter().chain(prefix::metadata()).chain(tailnet.iter().flatten());
        let nets = nets.chain(private).chain(&self.vicinity().on_link);
        let fixed = nets.filter(|net| net.contains(&address)).map(|net| range(net).1).max();
        let network = self.network_of(address).map(|(net, _)| range(&net).1);
        let own = self.is_own(address).then(|| number(address));
        fixed.into_iter().chain(network).chain(own).max()
    }
}
