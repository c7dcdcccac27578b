//! Frames with virtio headers: what honest guests send, what only others would,
//! and lies that do nobody harm.

use super::faithful::transport;
use super::headers::{
    DATA_VALID, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, Header, NEEDS_CSUM, RSC_INFO,
};

pub struct Kind {
    pub name: String,
    pub header: Header,
    pub frame: Vec<u8>,
}

const OTHER: [u8; 6] = [0x02, 0xaa, 0, 0, 0, 2];
const GUEST: [u8; 6] = [0x02, 0xaa, 0, 0, 0, 1];
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// A way to an IP packet's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    V4,
    /// With a record-route option.
    V4Options,
    V6,
    /// Behind hop-by-hop options.
    V6HopByHop,
    /// Behind options for the destination and a routing header that is used up.
    V6Chain,
}

pub const WAYS: [Way; 5] = [Way::V4, Way::V4Options, Way::V6, Way::V6HopByHop, Way::V6Chain];

impl Way {
    pub fn is_v4(self) -> bool {
        matches!(self, Self::V4 | Self::V4Options)
    }
}

fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    [OTHER.as_slice(), &GUEST, &kind.to_be_bytes(), packet].concat()
}

/// A frame with an IP packet of that protocol.
pub fn packet(way: Way, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let number = |length: usize| (length as u16).to_be_bytes();
    if way.is_v4() {
        let options: &[u8] = if way == Way::V4Options { &[7, 7, 4, 0, 0, 0, 0, 0] } else { &[] };
        let words = 5 + options.len() as u8 / 4;
        let length = number(usize::from(words) * 4 + payload.len());
        let mut ip = vec![0x40 | words, 0, length[0], length[1], 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
        ip.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        ip.extend(options);
        let sum = !sum_up(0, &ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip.extend(payload);
        return ethernet(0x0800, &ip);
    }
    let (first, chain): (u8, Vec<u8>) = match way {
        Way::V6HopByHop => (0, vec![protocol, 0, 1, 4, 0, 0, 0, 0]),
        Way::V6Chain => {
            let options = [43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            (60, [options.as_slice(), &[protocol, 0, 4, 0, 0, 0, 0, 0]].concat())
        }
        _ => (protocol, Vec::new()),
    };
    let length = number(chain.len() + payload.len());
    let mut ip = vec![0x60, 0, 0, 0, length[0], length[1], first, 64];
    for last in [1, 2] {
        ip.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    ip.extend(chain);
    ip.extend(payload);
    ethernet(0x86dd, &ip)
}

fn sum_up(first: u32, bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum = words.fold(first, |sum, word| sum + word);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A frame with TCP or UDP, its checksum left to the kernel, and the header that
/// an honest guest sends with it.
pub fn unfinished(way: Way, protocol: u8, payload: usize) -> (Header, Vec<u8>) {
    let payload: Vec<u8> = (0..payload).map(|at| (at % 251) as u8).collect();
    let mut segment = vec![0x9c, 0x40, 0, 80];
    if protocol == TCP {
        segment.extend([1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        segment.extend(((payload.len() + 8) as u16).to_be_bytes());
        segment.extend([0, 0]);
    }
    let field = if protocol == TCP { 16 } else { 6 };
    segment.extend(payload);
    let length = segment.len();
    let mut frame = packet(way, protocol, &segment);
    let at = frame.len() - length;
    // The pseudo header's sum stands in the field.
    let addresses = if way.is_v4() { &frame[26..34] } else { &frame[22..54] };
    let sum = sum_up(u32::from(protocol) + length as u32, addresses);
    frame[at + field..at + field + 2].copy_from_slice(&sum.to_be_bytes());
    (Header::checksum(at, field), frame)
}

fn gso_of(way: Way, protocol: u8) -> u8 {
    match (protocol, way.is_v4()) {
        (TCP, true) => GSO_TCPV4,
        (TCP, false) => GSO_TCPV6,
        _ => GSO_UDP_L4,
    }
}

/// The same, to be cut into segments.
pub fn segmented(way: Way, protocol: u8, payload: usize, size: u16) -> (Header, Vec<u8>) {
    let (header, frame) = unfinished(way, protocol, payload);
    (header.segments(gso_of(way, protocol), size), frame)
}

fn kind(name: impl Into<String>, (header, frame): (Header, Vec<u8>)) -> Kind {
    Kind { name: name.into(), header, frame }
}

fn changed(from: &(Header, Vec<u8>), change: impl FnOnce(&mut Header, &mut Vec<u8>)) -> (Header, Vec<u8>) {
    let mut changed = from.clone();
    change(&mut changed.0, &mut changed.1);
    changed
}

/// What guests send that mean no harm.
pub fn honest() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for way in WAYS {
        for (protocol, name) in [(TCP, "TCP"), (UDP, "UDP")] {
            for payload in [0, 1, 700] {
                kinds.push(kind(format!("{name} {way:?} of {payload}"), unfinished(way, protocol, payload)));
            }
            for (payload, size) in [(4000, 1400), (40_000, 1000), (60_000, 1380)] {
                let name = format!("{name} {way:?} of {payload} in segments of {size}");
                kinds.push(kind(name, segmented(way, protocol, payload, size)));
            }
        }
        let ecn = changed(&segmented(way, TCP, 5000, 1200), |header, _| header.gso_type |= GSO_ECN);
        kinds.push(kind(format!("TCP {way:?} with ECN"), ecn));
        let urgent = changed(&unfinished(way, TCP, 10), |header, frame| {
            let flags = usize::from(header.start) + 13;
            frame[flags] = 0x02;
        });
        kinds.push(kind(format!("a SYN by {way:?}"), urgent));
        for protocol in [1, 2, 47, 50, 58, 132] {
            let frame = packet(way, protocol, &[0x2a; 60]);
            kinds.push(kind(format!("protocol {protocol} by {way:?}"), (Header::default(), frame)));
        }
    }
    for way in [Way::V4, Way::V4Options] {
        // As Ethernet's cards fill up what is short.
        let padded = changed(&unfinished(way, UDP, 4), |_, frame| frame.resize(60, 0));
        kinds.push(kind(format!("UDP {way:?} with padding"), padded));
    }
    kinds.push(kind(
        "ARP",
        (Header::default(), ethernet(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0])),
    ));
    for fragment in [0x2000_u16, 0x0010] {
        let mut frame = packet(Way::V4, UDP, &[7; 64]);
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        kinds.push(kind(format!("a fragment {fragment:x}"), (Header::default(), frame)));
    }
    kinds
}

/// Lies about what the kernel doesn't take from the header, or holds against
/// the frame itself.
pub fn harmless() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for way in WAYS {
        for protocol in [TCP, UDP] {
            for pair in [unfinished(way, protocol, 300), segmented(way, protocol, 3000, 1000)] {
                let mut lie = |name: &str, change: &dyn Fn(&mut Header)| {
                    kinds.push(kind(
                        format!("{name} {way:?} {protocol}"),
                        changed(&pair, |header, _| change(header)),
                    ));
                };
                for length in [0, 1, 14, 33, 200, 0xffff] {
                    lie("a length", &|header| header.length = length);
                }
                for flags in [DATA_VALID, RSC_INFO, 0xf8, 0xfe] {
                    lie("flags", &|header| header.flags |= flags);
                }
                lie("buffers", &|header| header.buffers = 0xffff);
            }
            let (_, frame) = unfinished(way, protocol, 64);
            for flags in [DATA_VALID, RSC_INFO, 0xf8] {
                let header = Header { flags, start: 40, offset: 2, length: 60, ..Header::default() };
                kinds.push(kind(format!("no checksum, flags {flags}"), (header, frame.clone())));
            }
        }
    }
    kinds
}

/// What asks for a checksum elsewhere, or for what the frame isn't.
pub fn hostile() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for way in WAYS {
        for protocol in [TCP, UDP] {
            places(&mut kinds, way, protocol);
            cuts(&mut kinds, way, protocol);
            lengths(&mut kinds, way, protocol);
        }
        // What has no checksum that a header could name.
        for protocol in [0, 1, 2, 4, 41, 47, 50, 51, 58, 59, 89, 103, 132, 136, 255] {
            let frame = packet(way, protocol, &[0x11; 64]);
            let at = frame.len() - 64;
            for offset in [2, 6, 8, 16] {
                let name = format!("protocol {protocol} by {way:?}, checksum at {offset}");
                kinds.push(kind(name, (Header::checksum(at, offset), frame.clone())));
            }
        }
        fragments(&mut kinds, way);
    }
    for (name, tag) in [("VLAN", &[0x81, 0, 0, 5][..]), ("two VLANs", &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6])] {
        for pair in [unfinished(Way::V4, TCP, 90), segmented(Way::V6, TCP, 3000, 1000)] {
            let tagged = changed(&pair, |header, frame| {
                header.start += tag.len() as u16;
                frame.splice(12..12, tag.iter().copied());
            });
            kinds.push(kind(name, tagged));
            let untagged_place = changed(&pair, |_, frame| {
                frame.splice(12..12, tag.iter().copied());
            });
            kinds.push(kind(format!("{name}, the place as without"), untagged_place));
        }
    }
    for ethertype in [0x0806, 0x88cc, 0x8863, 0x8847, 0x0004] {
        let frame = ethernet(ethertype, &[0x45; 80]);
        kinds.push(kind(format!("ethertype {ethertype:x}"), (Header::checksum(34, 16), frame)));
    }
    kinds
}

/// Every place in the headers, and some behind them.
fn places(kinds: &mut Vec<Kind>, way: Way, protocol: u8) {
    let (honest, frame) = unfinished(way, protocol, 100);
    let (start, own) = (usize::from(honest.start), usize::from(honest.start + honest.offset));
    let mut add = |name: &str, header: Header| {
        kinds.push(kind(format!("{name} {way:?} {protocol} {header:?}"), (header, frame.clone())));
    };
    for place in 0..start + 22 {
        // Summed up from there, and from the transport header's beginning.
        add("a place", Header::checksum(place, 0));
        if place > start && place != own {
            add("an offset", Header::checksum(start, place - start));
        }
    }
    // The right place, from a wrong beginning.
    for beginning in [0, 14, start - 2, start + 2, start + 1] {
        if beginning <= own {
            add("a beginning", Header::checksum(beginning, own - beginning));
        }
    }
    for (start, offset) in
        [(frame.len() - 2, 0), (frame.len(), 0), (start, 0xfff0), (0xfff0, 0), (0xffff, 0xffff)]
    {
        add("beyond", Header::checksum(start, offset));
    }
}

/// Segments of what the frame isn't, or that nobody could send one by one.
fn cuts(kinds: &mut Vec<Kind>, way: Way, protocol: u8) {
    let pair = segmented(way, protocol, 3000, 1000);
    let own = gso_of(way, protocol);
    let mut add = |name: String, change: &dyn Fn(&mut Header, &mut Vec<u8>)| {
        kinds.push(kind(
            format!("{name} {way:?} {protocol}"),
            changed(&pair, |header, frame| change(header, frame)),
        ));
    };
    for gso_type in [GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4, 2, 6, 0x20, 0x40, 0x7f] {
        if gso_type != own {
            add(format!("cut as {gso_type}"), &|header, _| header.gso_type = gso_type);
        }
        add(format!("cut as {gso_type} without a checksum"), &|header, _| {
            (header.flags, header.gso_type) = (0, gso_type);
        });
    }
    if protocol == UDP {
        add("ECN".into(), &|header, _| header.gso_type |= GSO_ECN);
    }
    for size in [1, 8, 47, 1481, 1500, 9000, 60_000, 0xffff] {
        add(format!("segments of {size}"), &|header, _| header.gso_size = size);
    }
    for offset in [0, 2, 4, 13, 18] {
        add(format!("segments, a checksum at {offset}"), &|header, _| header.offset = offset);
    }
    for place in [0, 26, 30] {
        add(format!("segments, summed from {place}"), &|header, _| header.start = place);
    }
    add("segments to a group".into(), &|_, frame| frame[0] |= 1);
    if protocol == TCP {
        for flag in [0x02, 0x04, 0x06] {
            add(format!("segments with flags {flag}"), &|header, frame| {
                frame[usize::from(header.start) + 13] |= flag;
            });
        }
    }
}

/// Lengths that aren't the frame's.
fn lengths(kinds: &mut Vec<Kind>, way: Way, protocol: u8) {
    let length_at = if way.is_v4() { 16 } else { 18 };
    for (what, pair) in
        [("one packet", unfinished(way, protocol, 200)), ("segments", segmented(way, protocol, 3000, 1000))]
    {
        let mut add = |name: &str, change: &dyn Fn(&mut Header, &mut Vec<u8>)| {
            let pair = changed(&pair, |header, frame| change(header, frame));
            kinds.push(kind(format!("{what} {name} {way:?} {protocol}"), pair));
        };
        for length in [0_u16, 10, 30, 6000, 0xffff] {
            // Which is longer than 65,535 together with IPv6's own header.
            add("with another length", &|_, frame| {
                frame[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
            });
        }
        add("with another version", &|_, frame| frame[14] = (frame[14] & 0x0f) | 0x50);
        add("with no version", &|_, frame| frame[14] &= 0x0f);
        if way.is_v4() {
            for words in [0, 4, 15] {
                add("with another header length", &|_, frame| frame[14] = 0x40 | words);
            }
        }
        if protocol == TCP {
            for words in [0, 4] {
                add("with a short TCP header", &|header, frame| {
                    frame[usize::from(header.start) + 12] = words << 4;
                });
            }
        } else {
            for length in [0_u8, 7, 9] {
                add("with another UDP length", &|header, frame| {
                    let at = usize::from(header.start) + 4;
                    frame[at..at + 2].copy_from_slice(&[0, length]);
                });
            }
        }
        add("whose IP header says another protocol", &|_, frame| {
            let found = transport(frame).unwrap();
            let next = if found.protocol == TCP { UDP } else { TCP };
            let at = match way {
                Way::V4 | Way::V4Options => 23,
                Way::V6 => 20,
                Way::V6HopByHop => 54,
                Way::V6Chain => 70,
            };
            assert_eq!(frame[at], found.protocol);
            frame[at] = next;
        });
    }
}

/// Of a fragment nobody knows the sum.
fn fragments(kinds: &mut Vec<Kind>, way: Way) {
    for (protocol, gso) in [(TCP, false), (UDP, false), (TCP, true), (UDP, true)] {
        let pair = if gso { segmented(way, protocol, 3000, 1000) } else { unfinished(way, protocol, 400) };
        let v4: &[u16] = &[0x2000, 0x0001, 0x2005, 0x6000, 0x8000];
        for fragment in v4.iter().filter(|_| way.is_v4()) {
            let pair = changed(&pair, |_, frame| frame[20..22].copy_from_slice(&fragment.to_be_bytes()));
            kinds.push(kind(format!("a fragment {fragment:x} {way:?} {protocol} {gso}"), pair));
        }
        for fragment in [[0, 1], [0, 8], [0, 9], [0, 0]].iter().filter(|_| !way.is_v4()) {
            // In front of the transport header, with the place moved on, and not.
            for moved in [8, 0] {
                let pair = changed(&pair, |header, frame| {
                    let start = usize::from(header.start);
                    let at = match way {
                        Way::V6HopByHop => 54,
                        Way::V6Chain => 70,
                        _ => 20,
                    };
                    let next = std::mem::replace(&mut frame[at], 44);
                    frame.splice(start..start, [next, 0, fragment[0], fragment[1], 0, 0, 0, 1]);
                    let length = (frame.len() - 54) as u16;
                    frame[18..20].copy_from_slice(&length.to_be_bytes());
                    header.start += moved;
                });
                kinds.push(kind(format!("a fragment {fragment:?} {way:?} {protocol} {gso} {moved}"), pair));
            }
        }
    }
    assert!(kinds.iter().all(|kind| kind.header.flags & NEEDS_CSUM != 0 || kind.header.gso_type != 0));
}
