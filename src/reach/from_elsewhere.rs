//! What the host sends, and what comes in by links that aren't a network's.

use crate::packet::port;
use crate::packet::protocol::{TCP, UDP};
use crate::packet::{Family, icmpv6, range};
use crate::topology::{FirewallMode, HostPort, IfName, Transport};

use super::judge::{Decision, Way, is_discovery, is_reply, only, said};
use super::subject::{Condition, Delivery, Field, Judges, Subject, state};
use super::{Checkpoint, Key, Model, Verdict};

impl<'t> Model<'t> {
    /// From a program of the host's.
    pub(super) fn host_sends<S: Subject<'t>>(&self, subject: &mut S, way: &mut Way) -> Decision {
        if subject.delivery() != Delivery::Out || !subject.goes_by(&self.sets.bridges) {
            way.pass(Checkpoint::Output, || only("the host's own"));
            return self.untouched(subject);
        }
        if subject.is_message([&[5], &[137]]) {
            return way.drop(Checkpoint::Output, || only("guests meet on the host: there is no shorter way"));
        }
        if subject.is_message([&[], &[icmpv6::ROUTER_ADVERTISEMENT]]) && subject.is(Field::HopLimit, &[255]) {
            way.pass(Checkpoint::Output, || only("the network's routers are the host"));
            return Decision::of(Verdict::Allowed);
        }
        if !subject.has(&[Condition::To(&self.sets.guests)]) {
            if subject.among(Field::Destination, &self.sets.prefixes) {
                return way.drop(
                    Checkpoint::Output,
                    said(subject, |flow| only(format!("no guest has {}", flow.destination))),
                );
            }
            way.pass(Checkpoint::Output, || only("the host's own"));
            return Decision::of(Verdict::Untouched);
        }
        way.pass(
            Checkpoint::Output,
            said(subject, |flow| {
                let network = self.network_of(flow.destination).map(|(_, network)| network.name.to_string());
                only(format!("the host speaks to a guest of {}", network.unwrap_or_default()))
            }),
        );
        self.policed(subject, [Judges::Receivers], way)
    }

    /// As [`Self::link_sends_by`].
    pub(super) fn link_sends<S: Subject<'t>>(
        &self,
        subject: &mut S,
        link: &IfName,
        way: &mut Way,
    ) -> Decision {
        self.link_sends_by(subject, link.as_str(), way)
    }

    /// From a link, a network's bridge or any other.
    pub(super) fn link_sends_by<S: Subject<'t>>(
        &self,
        subject: &mut S,
        link: &str,
        way: &mut Way,
    ) -> Decision {
        if self.port(link).is_some() {
            return way
                .drop(Checkpoint::Prerouting, || only("a guest's port: its packets come from its bridge"));
        }
        if let Some(network) = self.bridge(link).and_then(|network| self.sets.networks.get(&network.name)) {
            return self.guest_sends(subject, network, way);
        }
        let full = self.topology().firewall == FirewallMode::Full;
        let tailnet = self.topology().tailscale.as_ref().is_some_and(|tailnet| tailnet.as_str() == link);
        match subject.delivery() {
            Delivery::Host if full => self.to_host(subject, link, tailnet, way),
            Delivery::Host => {
                way.pass(Checkpoint::Input, || {
                    ("firewall = \"guests\": the host is not hostctl's".into(), mode())
                });
                Decision::of(Verdict::Untouched)
            }
            Delivery::Out if subject.goes_by(&self.sets.bridges) => {
                self.to_guest(subject, link, tailnet, way)
            }
            Delivery::Out | Delivery::Nowhere => self.past_guests(subject, link, full, way),
        }
    }

    /// Through the host, from and to others than guests.
    fn past_guests<S: Subject<'t>>(
        &self,
        subject: &mut S,
        link: &str,
        full: bool,
        way: &mut Way,
    ) -> Decision {
        let translated = !full && subject.is(Field::Translated, &[1]);
        if translated || subject.is(Field::State, &[state::ESTABLISHED, state::RELATED]) {
            way.pass(Checkpoint::Forward, || only("of a flow that was forwarded"));
            return self.untouched(subject);
        }
        let closed = match subject.family() {
            Family::V4 => self.vicinity().opened.iter().any(|opened| opened.as_str() == link),
            Family::V6 => self.vicinity().closed6,
        };
        if closed {
            return way
                .drop(Checkpoint::Forward, || only("the host didn't forward this before hostctl either"));
        }
        if full {
            return way.drop(Checkpoint::Forward, || ("firewall = \"full\": not a guest's".into(), mode()));
        }
        way.pass(Checkpoint::Forward, || ("firewall = \"guests\": not a guest's".into(), mode()));
        self.untouched(subject)
    }

    /// hostctl has no say, but that what bears a guest's address leaves with the
    /// host's.
    fn untouched<S: Subject<'t>>(&self, subject: &mut S) -> Decision {
        let masqueraded = subject.delivery() == Delivery::Out
            && subject.goes_by(&self.sets.exit_names)
            && subject.among(Field::Source, &self.sets.prefixes);
        Decision { verdict: Verdict::Untouched, masqueraded }
    }

    /// To the host, which `firewall = "full"` guards.
    fn to_host<S: Subject<'t>>(&self, subject: &mut S, link: &str, tailnet: bool, way: &mut Way) -> Decision {
        let allowed = Decision::of(Verdict::Allowed);
        if link == "lo" {
            way.pass(Checkpoint::Input, || only("loopback"));
            return allowed;
        }
        if subject.is(Field::State, &[state::INVALID]) {
            return way.drop(Checkpoint::Input, || ("of no flow".into(), mode()));
        }
        if subject.is(Field::State, &[state::ESTABLISHED, state::RELATED]) {
            way.pass(Checkpoint::Input, || only("a reply"));
            return allowed;
        }
        if tailnet {
            way.pass(Checkpoint::Input, || {
                ("the tailnet is trusted with the host".into(), Some(Key::Host("tailscale")))
            });
            return allowed;
        }
        for open in &self.topology().allow_input {
            if is_open(subject, open) {
                way.pass(Checkpoint::Input, || {
                    let what = format!("{}/{} is open", open.protocol.as_str(), open.port);
                    (what, Some(Key::Host("allow_input")))
                });
                return allowed;
            }
        }
        if self.is_housekeeping(subject, link) {
            way.pass(Checkpoint::Input, || only("without which the host has no network"));
            return allowed;
        }
        way.drop(Checkpoint::Input, || ("firewall = \"full\": not in allow_input".into(), mode()))
    }

    /// What a host takes part in a network by: neighbour and router discovery,
    /// multicast listeners (RFC 4890), and its own DHCP (RFC 2131, RFC 8415).
    fn is_housekeeping<S: Subject<'t>>(&self, subject: &mut S, link: &str) -> bool {
        let router =
            subject.is_message([&[], &[icmpv6::ROUTER_ADVERTISEMENT]]) && subject.is(Field::HopLimit, &[255]);
        let near =
            |subject: &mut S, sets: &super::sets::Sets<'t>| subject.among(Field::Source, &sets.link_local);
        if router || is_discovery(subject) {
            return true;
        }
        let listeners = [icmpv6::LISTENER_QUERY, icmpv6::LISTENER_REPORT, icmpv6::LISTENER_REPORT_2];
        if subject.is_message([&[], &listeners]) {
            return near(subject, &self.sets);
        }
        let answers = |subject: &mut S, from: u16, to: u16| {
            subject.is_to(&[UDP.into()], to) && subject.is(Field::SourcePort, &[from.into()])
        };
        if answers(subject, port::DHCP_SERVER, port::DHCP_CLIENT) {
            return self.sets.exit_names.names.iter().any(|uplink| uplink.as_str() == link);
        }
        answers(subject, port::DHCPV6_SERVER, port::DHCPV6_CLIENT) && near(subject, &self.sets)
    }

    /// To a guest: replies, and what the tailnet may open.
    fn to_guest<S: Subject<'t>>(
        &self,
        subject: &mut S,
        link: &str,
        tailnet: bool,
        way: &mut Way,
    ) -> Decision {
        if !subject.has(&[Condition::To(&self.sets.guests)]) {
            return way.drop(
                Checkpoint::Forward,
                said(subject, |flow| only(format!("no guest has {}", flow.destination))),
            );
        }
        if subject.among(Field::Source, &self.sets.prefixes) {
            return way.drop(
                Checkpoint::Forward,
                said(subject, |flow| {
                    let owner = self.network_of(flow.source).map(|(_, owner)| owner.name.to_string());
                    let owner = owner.unwrap_or_default();
                    only(format!("{} is an address of network {owner}, from elsewhere", flow.source))
                }),
            );
        }
        let uplink = self.sets.exit_names.names.iter().any(|uplink| uplink.as_str() == link);
        if uplink && is_reply(subject) {
            way.pass(Checkpoint::Forward, || only("a reply from the internet"));
            return Decision::of(Verdict::Allowed);
        }
        if !tailnet {
            return way.drop(Checkpoint::Forward, || only("guests are sent replies and nothing else"));
        }
        let open = subject.goes_by(&self.sets.tailscale);
        let words = said(subject, |flow| {
            let name = self.network_of(flow.destination).map(|(_, network)| network.name.clone());
            let key = name.clone().map(|name| Key::Network(name, "tailscale"));
            let name = name.map(|name| name.to_string()).unwrap_or_default();
            (format!("{name} is {}open to the tailnet", if open { "" } else { "not " }), key)
        });
        if !open {
            return way.drop(Checkpoint::Forward, words);
        }
        way.pass(Checkpoint::Forward, words);
        self.policed(subject, [Judges::Receivers], way)
    }
}

/// Whether a service of the host's is what it is to.
pub(crate) fn is_open<'t>(subject: &mut impl Subject<'t>, open: &HostPort) -> bool {
    let protocol = match open.protocol {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
    };
    let (family, nets) = (subject.family(), open.from.iter().map(|from| from.net()));
    let from: Vec<_> = nets.filter(|net| Family::of(net.addr()) == family).map(|net| range(&net)).collect();
    subject.has(&[
        Condition::Is(Field::Protocol, &[(protocol.into(), protocol.into())]),
        Condition::Is(Field::DestinationPort, &[(open.port.into(), open.port.into())]),
        if open.from.is_empty() { Condition::Any } else { Condition::Is(Field::Source, &from) },
    ])
}

fn mode() -> Option<Key> {
    Some(Key::Host("firewall"))
}
