//! Whether what arrived is what was sent, but for what a kernel completes: an
//! account of its own, which follows the frame and never the header.

use super::headers::{Header, NEEDS_CSUM};

/// A frame's transport header, where it has a whole one.
pub struct Transport {
    pub protocol: u8,
    /// From the frame's beginning.
    pub at: usize,
    /// Where the IP packet ends.
    pub end: usize,
    pub fragment: bool,
}

/// Finds TCP or UDP as a receiver does (RFC 791, RFC 8200).
pub fn transport(frame: &[u8]) -> Option<Transport> {
    let word = |at: usize| Some(usize::from(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?)));
    let (mut protocol, mut at, end, mut fragment);
    match frame.get(12..14)? {
        [0x08, 0x00] => {
            protocol = *frame.get(23)?;
            at = 14 + usize::from(frame.get(14)? & 15) * 4;
            end = 14 + word(16)?;
            fragment = word(20)? & 0x3fff != 0;
        }
        [0x86, 0xdd] => {
            (protocol, at, end, fragment) = (*frame.get(20)?, 54, 54 + word(18)?, false);
            while [0, 43, 44, 60].contains(&protocol) {
                fragment |= protocol == 44;
                let length = if protocol == 44 { 0 } else { usize::from(*frame.get(at + 1)?) };
                protocol = *frame.get(at)?;
                at += 8 + length * 8;
            }
        }
        _ => return None,
    }
    Some(Transport { protocol, at, end, fragment })
}

/// Holds what arrived against the frame that was sent. `all`: the whole of it
/// has to have arrived.
pub fn faithful(sent: &[u8], header: &Header, arrived: &[Vec<u8>], all: bool) -> Result<(), String> {
    let Some(found) = transport(sent).filter(|found| !found.fragment && [6, 17].contains(&found.protocol))
    else {
        return match arrived.iter().find(|frame| *frame != sent) {
            Some(frame) => Err(format!("{frame:02x?} instead of {sent:02x?}")),
            None => Ok(()),
        };
    };
    let Transport { protocol, at, end, .. } = found;
    let tcp = protocol == 6;
    let payload_at = at + if tcp { usize::from(sent.get(at + 12).unwrap_or(&0x50) >> 4) * 4 } else { 8 };
    let payload = sent.get(payload_at..end.min(sent.len())).unwrap_or_default();
    let mut next = 0;
    for frame in arrived {
        if frame == sent && header.flags & NEEDS_CSUM == 0 {
            next += payload.len();
            continue;
        }
        let differs = |at: usize| frame.get(at) != sent.get(at);
        if let Some(place) =
            (0..payload_at).find(|place| differs(*place) && !is_completed(sent, at, tcp, *place))
        {
            return Err(format!("byte {place} differs: {frame:02x?} instead of {sent:02x?}"));
        }
        let own = frame.get(payload_at..).unwrap_or_default();
        // What is behind a packet isn't of it.
        let own = own.get(..own.len().min(payload.len())).unwrap_or_default();
        if payload.get(next..next + own.len()) != Some(own) {
            return Err(format!("another payload: {frame:02x?}"));
        }
        // Whoever sends another sum than the pseudo header's gets another checksum.
        if all && header.flags & NEEDS_CSUM != 0 && checksum(frame) != Some(true) {
            return Err(format!("a wrong checksum: {frame:02x?}"));
        }
        next += own.len();
    }
    if all && next != payload.len() {
        return Err(format!("{next} bytes of {}", payload.len()));
    }
    Ok(())
}

/// Whether a byte is the kernel's to write in a segment: lengths, IPv4's number
/// and checksum; TCP's sequence number, flags that only one segment has, the
/// checksum.
fn is_completed(frame: &[u8], at: usize, tcp: bool, place: usize) -> bool {
    let network = match frame[12] {
        0x08 => (16..20).contains(&place) || (24..26).contains(&place),
        _ => (18..20).contains(&place),
    };
    let below = place.checked_sub(at);
    let transport = match below {
        Some(below) if tcp => (4..8).contains(&below) || below == 13 || (16..18).contains(&below),
        Some(below) => (4..8).contains(&below),
        None => false,
    };
    network || transport
}

/// Whether the transport checksum of a frame is right.
fn checksum(frame: &[u8]) -> Option<bool> {
    let Transport { protocol, at, end, .. } = transport(frame)?;
    let addresses = if frame[12] == 0x08 { &frame[26..34] } else { &frame[22..54] };
    let body = frame.get(at..end)?;
    if protocol == 17 && body.get(6..8)? == [0, 0] {
        return Some(frame[12] == 0x08);
    }
    let mut sum = u32::from(protocol) + body.len() as u32;
    for part in [addresses, body] {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    Some(sum == 0xffff)
}
