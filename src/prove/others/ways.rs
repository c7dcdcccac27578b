//! The hooks that packets pass, in order, and what can be read of them there.

use crate::reach::subject::Field;

use super::condition::Own;
use super::packets::Packets;
use super::traffic::{Collect, Stretch, Way};
use super::walk::Station;

const IP4: &[&str] = &["ip", "inet", "netdev"];
const IP6: &[&str] = &["ip6", "inet", "netdev"];
pub const FRAMES: &[&str] = &["bridge"];
/// At a port's own hooks.
pub const DEVICES: &[&str] = &["netdev", "inet"];
pub const ARP: &[&str] = &["arp"];

/// What is translated has its guest's address before, or behind, these
/// (NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC).
const BACK_FROM: i64 = -100;
const THERE_UNTIL: i64 = 100;

/// Base chains of all priorities.
pub const ALL: (i64, i64) = (i64::MIN, i64::MAX);

/// Where guests' addresses are: in what they send, in what they get.
pub const GUESTS: [Option<Field>; 2] = [Some(Field::Source), Some(Field::Destination)];

impl Collect<'_, '_> {
    /// Which hooks these pass.
    pub(super) fn ways(&mut self, all: Packets) -> Vec<Way> {
        let Packets { plain: (mut plain, answers), out, back, inward, outward } = all;
        plain.extend(answers);
        let there = self.as_the_hosts(&out, Field::Out, Field::Source, Field::SourcePort);
        let here = self.as_the_hosts(&back, Field::In, Field::Destination, Field::DestinationPort);
        let families = self.family().pick([IP4, IP6]);
        let at = |hook, early, own| Station { hook, families, priorities: ALL, early, own };
        let within = |station, priorities| Station { priorities, ..station };
        let none = Own::default();
        let (to_host, from_host) = (Own { destination: true, ..none }, Own { source: true, ..none });
        let (ingress, prerouting) = (at("ingress", true, none), at("prerouting", true, none));
        let (forward, postrouting) = (at("forward", false, none), at("postrouting", false, none));
        let egress = at("egress", false, none);
        let through = vec![ingress, prerouting, forward, postrouting, egress];
        let leaving = vec![ingress, prerouting, forward, within(postrouting, (i64::MIN, THERE_UNTIL))];
        let left = [postrouting, egress].map(|station| Station { own: from_host, ..station });
        let [after, gone] = left;
        let left = vec![within(after, (THERE_UNTIL + 1, i64::MAX)), gone];
        let arriving = [ingress, prerouting].map(|station| Station { own: to_host, ..station });
        let [arrives, before] = arriving;
        let arriving = vec![arrives, within(before, (i64::MIN, BACK_FROM - 1))];
        let arrived = vec![within(prerouting, (BACK_FROM, i64::MAX)), forward, postrouting, egress];
        let to_the_host = ["ingress", "prerouting", "input"].map(|hook| at(hook, true, to_host)).into();
        let from_the_host = ["output", "postrouting", "egress"].map(|hook| at(hook, false, from_host)).into();
        let stretch = |flows, stations, guest| Stretch { flows, stations, guest, forgotten: &[] };
        vec![
            vec![
                stretch(out, leaving, GUESTS),
                Stretch { forgotten: &[Field::Source, Field::SourcePort], ..stretch(there, left, [None; 2]) },
            ],
            vec![
                stretch(here, arriving, [None; 2]),
                Stretch {
                    forgotten: &[Field::Destination, Field::DestinationPort],
                    ..stretch(back, arrived, GUESTS)
                },
            ],
            vec![stretch(plain, through, GUESTS)],
            vec![stretch(inward, to_the_host, GUESTS)],
            vec![stretch(outward, from_the_host, GUESTS)],
        ]
    }
}
