//! The kernel's table of tracked flows, over nfnetlink
//! (`linux/netfilter/nfnetlink_conntrack.h`).

use std::fs;
use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkPayload, Nla};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::Socket;

use crate::reach::TrackedFlow;

use super::flows::FlowPolicy;
use crate::firewall::netfilter::{open, receive, send};

/// `CTA_ZONE`.
const ZONE: u16 = 18;

/// An entry, with what the kernel needs to find it again.
pub(super) struct Entry {
    pub flow: TrackedFlow,
    /// Its mark (`ct mark`).
    pub mark: u32,
    pub key: Vec<ConntrackAttribute>,
}

impl Entry {
    /// Of which family it is.
    pub const fn family(&self) -> NetfilterProtoFamily {
        if self.flow.source.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 }
    }
}

/// Ends the flows that `policy` forbids, and those that a guest has beyond what
/// it may; says how many.
///
/// # Errors
/// Where the kernel doesn't answer, or keeps an entry.
pub fn cut(policy: &FlowPolicy) -> io::Result<usize> {
    // What comes meanwhile is judged by the new rules.
    if count() == Some(0) {
        return Ok(0);
    }
    let socket = open()?;
    let mut ended = 0;
    let entries = dump(&socket)?;
    let ends = policy.judge(|judge| {
        let ends = |entry: &Entry| judge.forbids(&entry.flow) || judge.is_surplus(&entry.flow);
        entries.into_iter().filter(ends).collect::<Vec<_>>()
    });
    for entry in ends {
        ended += usize::from(delete(&socket, entry)?);
    }
    Ok(ended)
}

/// How many flows this network namespace has tracked (nf_conntrack-sysctl.rst in
/// the kernel's documentation); none where the kernel doesn't say.
pub fn count() -> Option<u64> {
    fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").ok()?.trim().parse().ok()
}

/// The flows of all families at once: the kernel walks through a table of
/// hundreds of thousands of places for each question.
fn dump(socket: &Socket) -> io::Result<Vec<Entry>> {
    send(socket, NLM_F_DUMP, NetfilterProtoFamily::Unspec, ConntrackMessage::Get(Vec::new()))?;
    entries(socket)
}

/// The answers to a dump.
pub(super) fn entries(socket: &Socket) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    receive(socket, |payload| match payload {
        NetlinkPayload::Done(_) => Ok(true),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        NetlinkPayload::InnerMessage(message) => {
            if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner {
                entries.extend(entry(attributes));
            }
            Ok(false)
        }
        _ => Ok(false),
    })?;
    Ok(entries)
}

fn entry(attributes: Vec<ConntrackAttribute>) -> Option<Entry> {
    let (mut source, mut destination, mut protocol, mut port) = (None, None, 0, 0);
    let (mut original, mut zone, mut mark) = (None, None, 0);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuples) => original = Some(tuples),
            ConntrackAttribute::CtaMark(bits) => mark = bits,
            // Without it another zone's entry isn't found.
            ConntrackAttribute::Other(other) if other.kind() == ZONE => {
                zone = Some(ConntrackAttribute::Other(other));
            }
            _ => {}
        }
    }
    let original = original?;
    for tuple in &original {
        match tuple {
            Tuple::Ip(parts) => {
                for part in parts {
                    match part {
                        IPTuple::SourceAddress(address) => source = Some(*address),
                        IPTuple::DestinationAddress(address) => destination = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(number) => protocol = u8::from(*number),
                        ProtoTuple::DestinationPort(number) => port = *number,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let flow = TrackedFlow { source: source?, destination: destination?, protocol, port };
    let key = [ConntrackAttribute::CtaTupleOrig(original)].into_iter().chain(zone).collect();
    Some(Entry { flow, mark, key })
}

/// Whether there still was such an entry.
fn delete(socket: &Socket, entry: Entry) -> io::Result<bool> {
    send(socket, NLM_F_ACK, entry.family(), ConntrackMessage::Delete(entry.key))?;
    acknowledged(socket)
}

/// Whether what was told about an entry found it.
pub(super) fn acknowledged(socket: &Socket) -> io::Result<bool> {
    let mut found = true;
    receive(socket, |payload| match payload {
        NetlinkPayload::Error(error) => match error.to_io() {
            _ if error.code.is_none() => Ok(true),
            gone if gone.kind() == io::ErrorKind::NotFound => {
                found = false;
                Ok(true)
            }
            error => Err(error),
        },
        _ => Ok(false),
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::test_topology::topology;
    use std::net::{IpAddr, UdpSocket};
    use std::process::Command;
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use crate::firewall::Gone;
    use crate::firewall::live::nft;

    fn tracked() -> Vec<TrackedFlow> {
        let socket = open().unwrap();
        dump(&socket).unwrap().into_iter().map(|entry| entry.flow).collect()
    }

    #[test]
    fn forbidden_flows_are_cut_and_others_are_not() {
        let thread = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            for arguments in ["link set lo up", "addr add 10.1.0.2/24 dev lo", "addr add 10.2.0.2/24 dev lo"]
            {
                assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
            }
            nft::load(
                "table inet t { chain raw { type filter hook output priority -300; udp dport 9 ct zone set 5; }; \
                 chain c { type filter hook output priority 0; ct state new accept; }; }",
            )
            .unwrap();
            // One is in another program's zone.
            for (from, to) in
                [("10.1.0.2", "10.1.0.2:7"), ("10.1.0.2", "10.2.0.2:7"), ("10.1.0.2", "10.2.0.2:9")]
            {
                UdpSocket::bind((from, 0)).unwrap().send_to(b"x", to).unwrap();
            }
            let spec = "[networks.a]\ncidr = \"10.1.0.0/24\"\n[networks.b]\ncidr = \"10.2.0.0/24\"\n\
                        [vms.v]\nnetwork = \"a\"\nimage = \"i\"\n[vms.w]\nnetwork = \"b\"\nimage = \"i\"";
            let topology = topology(spec);
            let policy = FlowPolicy::new(&topology, [].into(), &[], Gone::default());
            assert_eq!(tracked().iter().filter(|flow| flow.protocol == 17).count(), 3);
            assert_eq!(cut(&policy).unwrap(), 2);
            let left: Vec<IpAddr> =
                tracked().iter().filter(|flow| flow.protocol == 17).map(|flow| flow.destination).collect();
            assert_eq!(left, ["10.1.0.2".parse::<IpAddr>().unwrap()]);
            assert_eq!(cut(&policy).unwrap(), 0);
        });
        thread.join().unwrap();
    }
}
