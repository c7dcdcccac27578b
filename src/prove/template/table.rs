//! The table of meaning: what it means that a set has an element for some
//! fields of a packet, and that the model's set has, in the same facts.

use crate::reach::subject::Field::{
    self, Destination, DestinationPort, Family, In, OpenedBy, OpenedTo, Out, Protocol, SenderMac, Source,
    SourceMac, Target,
};
use crate::reach::subject::Kind;

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::Header;
use super::super::rules::{self, Meaning, Set, Unknown, Verdict};
use super::fact::Fact::*;
use super::fact::Facts;
use super::fact::Term::{self, HasNoPorts, HasPorts, No, Yes};

/// What a look-up means: all of its terms.
pub struct LookUp {
    /// The sets, of IPv4 and IPv6.
    sets: &'static [&'static str],
    pub fields: &'static [Field],
    pub means: &'static [Term],
}

const fn look_up(sets: &'static [&'static str], fields: &'static [Field], means: &'static [Term]) -> LookUp {
    LookUp { sets, fields, means }
}

impl LookUp {
    /// Whether it is of a policy's own sets.
    pub fn is_of_policy(&self) -> bool {
        self.sets.iter().any(|set| set.contains('*'))
    }
}

/// Every look-up of a set that differs from host to host.
const LOOK_UPS: &[LookUp] = &[
    look_up(&["ports"], &[In], &[Yes(FromPort)]),
    look_up(&["port_mac"], &[In, SourceMac], &[Yes(FromPort), Yes(OwnMac)]),
    look_up(
        &["port_mac_ip4", "port_mac_ip6"],
        &[In, SourceMac, Source],
        &[Yes(FromPort), Yes(OwnMac), Yes(OwnSource)],
    ),
    look_up(&["port_mac_ip4"], &[In, SenderMac, Source], &[Yes(FromPort), Yes(OwnSenderMac), Yes(OwnSource)]),
    look_up(
        &["port_mac_ip4"],
        &[In, SenderMac, Destination],
        &[Yes(FromPort), Yes(OwnSenderMac), Yes(OwnDestination)],
    ),
    look_up(&["port_target"], &[In, Target], &[Yes(FromPort), Yes(OwnTarget)]),
    // Each guest has its limits.
    look_up(&["group_rate"], &[In], &[Yes(FromPort)]),
    look_up(&["neighbour_rate"], &[In], &[Yes(FromPort)]),
    look_up(&["fragment_rate4", "fragment_rate6"], &[In], &[Yes(FromPort)]),
    look_up(&["new_flows"], &[In, SourceMac], &[Yes(FromBridge), Yes(FromGuestsMac)]),
    look_up(&["flows"], &[In, SourceMac], &[Yes(FromBridge), Yes(FromGuestsMac)]),
    look_up(&["bridges"], &[In], &[Yes(FromBridge)]),
    look_up(&["bridges"], &[Out], &[Yes(ToBridge)]),
    look_up(&["uplinks"], &[In], &[Yes(FromUplink)]),
    look_up(&["uplinks"], &[Out], &[Yes(ToUplink)]),
    look_up(&["tailnet"], &[In], &[Yes(FromTailnet)]),
    look_up(&["tailnet"], &[Out], &[Yes(ToTailnet)]),
    look_up(&["tailscale"], &[In], &[Yes(FromTailscaleNetwork)]),
    look_up(&["tailscale"], &[Out], &[Yes(ToTailscaleNetwork)]),
    look_up(&["opened"], &[In], &[Yes(FromUnforwarded)]),
    look_up(&["closed"], &[Family], &[Yes(UnforwardedFamily)]),
    look_up(&["imds_host"], &[In], &[Yes(FromImdsNetwork)]),
    look_up(&["pairs"], &[In, Out], &[Yes(FromBridge), Yes(ToConnected)]),
    look_up(&["guest4", "guest6"], &[In, Source], &[Yes(FromGuest)]),
    look_up(&["guest4", "guest6"], &[Out, Destination], &[Yes(ToGuest)]),
    look_up(&["own4", "own6"], &[Source, OpenedBy], &[Yes(OpenedByItself)]),
    look_up(&["own4", "own6"], &[Source, OpenedTo], &[Yes(OpenedToItself)]),
    look_up(&["gateway4", "gateway6"], &[In, Destination], &[Yes(FromBridge), Yes(ToGateway)]),
    look_up(&["net4", "net6"], &[Source], &[Yes(FromNetworks)]),
    look_up(&["public4", "public6"], &[In, Out, Source], &[Yes(FromBridge), Yes(ToOwnExit), Yes(FromPublic)]),
    look_up(&["exits"], &[Out], &[Yes(ToExit)]),
    look_up(&["closed4", "closed6"], &[Destination], &[Yes(ToClosed)]),
    look_up(&["denied4", "denied6"], &[Destination], &[Yes(ToDenied)]),
    look_up(&["lan4", "lan6"], &[In, Destination], &[Yes(FromBridge), Yes(ToLan)]),
    look_up(&["resolvers4", "resolvers6"], &[Destination], &[Yes(ToResolver)]),
    look_up(&["metadata4", "metadata6"], &[Destination], &[Yes(ToMetadata)]),
    look_up(&["imds4", "imds6"], &[Destination], &[Yes(ToService)]),
    look_up(&["receivers"], &[Out], &[Yes(ToReceivers)]),
    look_up(&["open_ports"], &[Protocol, DestinationPort], &[Yes(OpenPort)]),
    // What is open to everybody isn't there for some besides.
    look_up(
        &["open_ports4", "open_ports6"],
        &[Protocol, DestinationPort, Source],
        &[Yes(OpenPortToSome), No(OpenPort)],
    ),
    look_up(
        &["policy_*_out_ports4", "policy_*_out_ports6"],
        &[Destination, Protocol, DestinationPort],
        &[Yes(EgressNames), HasPorts],
    ),
    look_up(
        &["policy_*_out_protocols4", "policy_*_out_protocols6"],
        &[Destination, Protocol],
        &[Yes(EgressNames), HasNoPorts],
    ),
    look_up(
        &["policy_*_in_ports4", "policy_*_in_ports6"],
        &[Source, Protocol, DestinationPort],
        &[Yes(IngressNames), HasPorts],
    ),
    look_up(
        &["policy_*_in_protocols4", "policy_*_in_protocols6"],
        &[Source, Protocol],
        &[Yes(IngressNames), HasNoPorts],
    ),
];

/// Maps to chains, each with the fields that it is asked for.
const MAPS: &[(&str, &[Field])] = &[
    ("egress4", &[In, Source]),
    ("egress6", &[In, Source]),
    ("ingress4", &[Out, Destination]),
    ("ingress6", &[Out, Destination]),
    ("port_share", &[Source]),
    ("port_share6", &[Source]),
];

/// What it means that a map leads to a chain.
const CHAINS: &[(&str, &[Term])] = &[
    ("policy_open_out", &[Yes(HasEgress), Yes(EgressIsOpen)]),
    ("policy_closed_out", &[Yes(HasEgress), No(EgressIsOpen)]),
    ("policy_open_in", &[Yes(HasIngress), Yes(IngressIsOpen)]),
    ("policy_closed_in", &[Yes(HasIngress), No(IngressIsOpen)]),
    ("port_share_1", &[Yes(HasShare), No(ShareHigh), No(ShareLow)]),
    ("port_share_2", &[Yes(HasShare), No(ShareHigh), Yes(ShareLow)]),
    ("port_share_3", &[Yes(HasShare), Yes(ShareHigh), No(ShareLow)]),
    ("port_share_4", &[Yes(HasShare), Yes(ShareHigh), Yes(ShareLow)]),
];

/// Whether a set's name is one that the table has, with `*` for a policy's.
fn is_called(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => {
            name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).is_some()
        }
    }
}

/// What a look-up means; none where the table doesn't have it.
pub fn find(name: &str, fields: &[Field]) -> Option<&'static LookUp> {
    LOOK_UPS.iter().find(|one| one.fields == fields && one.sets.iter().any(|set| is_called(set, name)))
}

/// What is asked of a set, of packets of a kind.
pub fn asked(name: &str, kind: Kind) -> impl Iterator<Item = &'static LookUp> {
    let is_of = move |row: &LookUp| match (kind, row.sets) {
        (Kind::Arp, _) => row.fields.contains(&SenderMac),
        _ if row.fields.contains(&SenderMac) => false,
        (Kind::Ipv4, [_, v6]) => !is_called(v6, name),
        (Kind::Ipv6, [v4, _]) => !is_called(v4, name),
        (Kind::Ipv4, _) => !row.fields.contains(&Target),
        _ => true,
    };
    LOOK_UPS.iter().filter(move |row| row.sets.iter().any(|set| is_called(set, name)) && is_of(row))
}

/// The table, as rules ask it.
pub struct Table;

impl Meaning for Table {
    fn look_up(
        &self,
        diagrams: &mut Diagrams,
        header: &Header,
        (table, set): (&rules::Table, &Set),
        fields: &[Field],
    ) -> Result<Option<Diagram>, Unknown> {
        // A set without a name stands in the rule.
        if set.name.is_empty() {
            return Ok(None);
        }
        if let Some(row) = find(&set.name, fields) {
            let facts = Facts::open(diagrams, header);
            return Ok(Some(Term::all(row.means, diagrams, header, &facts)));
        }
        let unknown = || Unknown(format!("what it means that {} has an element for {fields:?}", set.name));
        if !MAPS.iter().any(|(name, asked)| *name == set.name && *asked == fields) {
            return Err(unknown());
        }
        let (mut found, facts) = (Diagram::NEVER, Facts::open(diagrams, header));
        for (value, verdict) in set.verdicts() {
            let Verdict::Jump(chain) = verdict else { return Err(unknown()) };
            let chain = table.chains.get(chain).map(|chain| chain.name.as_str());
            let means = CHAINS.iter().find(|(name, _)| Some(*name) == chain);
            let (_, means) = means.ok_or_else(unknown)?;
            let there = Term::all(means, diagrams, header, &facts);
            found = diagrams.choose(there, value, found);
        }
        Ok(Some(found))
    }
}
