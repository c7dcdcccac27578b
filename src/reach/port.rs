//! What a guest's port lets in: frames in the guest's own name, of the kinds
//! that a guest has business with.

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::packet::port::{DHCP_CLIENT, DHCPV6_CLIENT};
use crate::packet::protocol::{ICMPV6, IGMP, UDP};
use crate::packet::{IGMP_QUERY, Range, icmp, icmpv6, number};
use crate::topology::Port;

use super::judge::{Decision, Way, only, said};
use super::subject::{Condition, Field, Kind, Subject, depth, fragment};
use super::{Checkpoint, Flow, Model};

/// What switches tell each other by (IEEE 802.1D, 7.12.6).
const SWITCHES: Range = (0x0180_c200_0000, 0x0180_c200_000f);

/// Frames to a group, or to everybody: the first byte's lowest bit is 1.
static GROUPS: LazyLock<Vec<Range>> = LazyLock::new(|| {
    (1..=0xff).step_by(2).map(|first: u128| (first << 40, (first << 40) | 0xff_ffff_ffff)).collect()
});

/// ff00::/8.
const GROUPS6: Range = (0xff << 120, u128::MAX);

/// Listeners' reports, router solicitations and neighbour discovery: what finds
/// its way by a group (RFC 2710, RFC 3810, RFC 4861).
const BY_GROUP: [u8; 6] = [
    icmpv6::LISTENER_REPORT,
    icmpv6::LISTENER_DONE,
    icmpv6::LISTENER_REPORT_2,
    icmpv6::ROUTER_SOLICITATION,
    icmpv6::NEIGHBOUR_SOLICITATION,
    icmpv6::NEIGHBOUR_ADVERTISEMENT,
];

/// What RFC 6980 forbids to be fragmented.
const DISCOVERY: [u8; 5] = [
    icmpv6::ROUTER_SOLICITATION,
    icmpv6::ROUTER_ADVERTISEMENT,
    icmpv6::NEIGHBOUR_SOLICITATION,
    icmpv6::NEIGHBOUR_ADVERTISEMENT,
    icmpv6::REDIRECT,
];

/// What only routers send, and what tells about a node more than a guest has
/// to ask: listeners' queries, advertisements, redirects, renumbering and the
/// like.
const ROUTERS: [u8; 13] = {
    let [asked, answered] = icmpv6::NODE_INFORMATION;
    let [inverse, inverse_answer] = icmpv6::INVERSE_DISCOVERY;
    let [path, path_answer] = icmpv6::CERTIFICATION_PATH;
    let [group1, group2, group3] = icmpv6::GROUP_ROUTERS;
    [
        icmpv6::LISTENER_QUERY,
        icmpv6::ROUTER_ADVERTISEMENT,
        icmpv6::REDIRECT,
        icmpv6::RENUMBERING,
        asked,
        answered,
        inverse,
        inverse_answer,
        path,
        path_answer,
        group1,
        group2,
        group3,
    ]
};

impl<'t> Model<'t> {
    /// Why a guest's port doesn't let a frame in; none where it does.
    pub(crate) fn refused_at<S: Subject<'t>>(&self, subject: &mut S, port: &Port) -> Option<&'static str> {
        look(subject, port).err()
    }

    /// Whether a frame is to a group of switches', which the kernel may hand to
    /// the host without asking at the port.
    pub(crate) fn is_to_switches<S: Subject<'t>>(&self, subject: &mut S) -> bool {
        subject.has(&[Condition::Is(Field::DestinationMac, &[SWITCHES])])
    }

    /// None where a port lets a frame in.
    pub(super) fn at_port<S: Subject<'t>>(
        &self,
        subject: &mut S,
        port: &Port,
        way: &mut Way,
    ) -> Option<Decision> {
        let found = look(subject, port);
        let words = said(subject, |flow: &Flow| {
            only(match found {
                Ok(()) => format!("{}: {} is its own", port.interface, flow.source),
                Err(reason) if reason == FORGED => {
                    format!("{} isn't the address of the guest at {}", flow.source, port.interface)
                }
                Err(reason) => reason.to_string(),
            })
        });
        match found {
            Ok(()) => {
                way.pass(Checkpoint::Port, words);
                None
            }
            Err(_) => Some(way.drop(Checkpoint::Port, words)),
        }
    }
}

const FORGED: &str = "in another's name";

/// Why a port lets a frame in or doesn't.
fn look<'t, S: Subject<'t>>(subject: &mut S, port: &Port) -> Result<(), &'static str> {
    let refuse = |refused: bool, why| if refused { Err(why) } else { Ok(()) };
    let mac = port.mac.number();
    refuse(!subject.is(Field::SourceMac, &[mac]), "the frame isn't from the guest's MAC")?;
    refuse(subject.has(&[Condition::Is(Field::DestinationMac, &[SWITCHES])]), "a guest is no switch")?;
    let kind = subject.kind();
    if subject.has(&[Condition::Is(Field::DestinationMac, &GROUPS)]) {
        let finds = match kind {
            Kind::Arp => true,
            Kind::Ipv6 => {
                subject.has(&[Condition::Is(Field::Destination, &[GROUPS6])])
                    && subject.is_message([&[], &BY_GROUP])
            }
            Kind::Ipv4 | Kind::Other => false,
        };
        refuse(!finds, "an IP packet in a frame to a group")?;
    }
    match kind {
        Kind::Arp => arp(subject, port, mac),
        Kind::Ipv4 => ipv4(subject, port),
        Kind::Ipv6 => ipv6(subject, port),
        Kind::Other => Err("neither ARP nor IP"),
    }
}

/// RFC 826, and probes before an address is taken (RFC 5227).
fn arp<'t, S: Subject<'t>>(subject: &mut S, port: &Port, mac: u128) -> Result<(), &'static str> {
    let address = u128::from(u32::from(port.address));
    let sound = subject.is(Field::Malformed, &[0]) && subject.is(Field::Operation, &[1, 2]);
    if !sound {
        return Err("no ARP of Ethernet and IPv4");
    }
    let own = subject.is(Field::SenderMac, &[mac]);
    let probe = |subject: &mut S| {
        subject.is(Field::Operation, &[1])
            && subject.is(Field::Source, &[0])
            && subject.is(Field::Destination, &[address])
    };
    if own && (subject.is(Field::Source, &[address]) || probe(subject)) { Ok(()) } else { Err(FORGED) }
}

fn ipv4<'t, S: Subject<'t>>(subject: &mut S, port: &Port) -> Result<(), &'static str> {
    let own = IpAddr::from(port.address);
    if !subject.is(Field::Source, &[number(own)]) {
        return Err(FORGED);
    }
    if subject.is_to(&[UDP.into()], DHCP_CLIENT) {
        return Err("a guest is no DHCP server");
    }
    // Redirects and router advertisements; who asks for listeners.
    let [igmp, query] = [IGMP, IGMP_QUERY].map(|number| (number.into(), number.into()));
    let asks =
        subject.has(&[Condition::Is(Field::Protocol, &[igmp]), Condition::Is(Field::MessageType, &[query])]);
    if asks || subject.is_message([&[icmp::REDIRECT, icmp::ROUTER_ADVERTISEMENT], &[]]) {
        return Err("a guest is no router");
    }
    whole_frame(subject)
}

/// Fragments take of the memory that all have for incomplete packets; none is
/// longer than a frame.
fn whole_frame<'t, S: Subject<'t>>(subject: &mut S) -> Result<(), &'static str> {
    let long =
        subject.is(Field::Fragment, &[fragment::FIRST, fragment::LATER]) && subject.is(Field::Long, &[1]);
    if long { Err("a fragment larger than a frame") } else { Ok(()) }
}

fn ipv6<'t, S: Subject<'t>>(subject: &mut S, port: &Port) -> Result<(), &'static str> {
    let own: Vec<u128> = port.v6.iter().flat_map(|v6| [v6.address.into(), v6.link_local.into()]).collect();
    whole_frame(subject)?;
    let fragmented = |subject: &mut S| subject.is(Field::Fragment, &[fragment::FIRST, fragment::LATER]);
    let claims = subject.is(Field::Source, &[0]);
    // Before it has an address (RFC 4862, 5.4).
    if claims
        && subject.is_message([&[], &[icmpv6::NEIGHBOUR_SOLICITATION]])
        && subject.is(Field::Target, &own)
        && !fragmented(subject)
    {
        return Ok(());
    }
    if !subject.is(Field::Source, &own) {
        return Err(FORGED);
    }
    if subject.is(Field::Protocol, &[ICMPV6.into()]) {
        if subject.is_message([&[], &ROUTERS]) {
            return Err("a guest is no router");
        }
        if subject.is_message([&[], &DISCOVERY]) && fragmented(subject) {
            return Err("neighbour discovery is never fragmented");
        }
        if subject.is_message([&[], &[icmpv6::NEIGHBOUR_ADVERTISEMENT]]) && !subject.is(Field::Target, &own) {
            return Err("advertises another's address");
        }
        return readable(subject, depth::TYPE);
    }
    if subject.is(Field::Protocol, &[UDP.into()]) {
        if subject.is_to(&[UDP.into()], DHCPV6_CLIENT) {
            return Err("a guest is no DHCP server");
        }
        return readable(subject, depth::PORTS);
    }
    if subject.is(Field::Depth, &[depth::NOTHING]) {
        return Err("a header chain that can't be read to its end");
    }
    Ok(())
}

/// A first fragment tells what it is (RFC 7112); a later one needn't.
fn readable<'t, S: Subject<'t>>(subject: &mut S, enough: u128) -> Result<(), &'static str> {
    let reads = subject.has(&[Condition::Is(Field::Depth, &[(enough, depth::TARGET)])]);
    if reads || subject.is(Field::Fragment, &[fragment::LATER]) { Ok(()) } else { Err("hides what it is") }
}
