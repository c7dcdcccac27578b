//! What bridges treat specially: VLAN tags, LLDP, spanning tree.

use super::{Link, ethernet, ethertype};

/// A frame with an 802.1Q tag put in. `vlan` is the 12-bit identifier.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    with_tag(frame, ethertype::VLAN, vlan)
}

/// A frame with an 802.1ad tag outside and an 802.1Q tag inside (QinQ).
pub fn double_tagged(frame: &[u8], outer: u16, inner: u16) -> Vec<u8> {
    with_tag(&tagged(frame, inner), ethertype::SERVICE_VLAN, outer)
}

/// A frame of an EtherType that means nothing to anyone.
pub fn unknown_ethertype(link: Link, payload: &[u8]) -> Vec<u8> {
    ethernet(link, ethertype::EXPERIMENTAL, payload)
}

/// An LLDP frame (IEEE 802.1AB) with the mandatory TLVs and `system` as the
/// system's name.
pub fn lldp(source: [u8; 6], system: &str) -> Vec<u8> {
    let tlv = |kind: u16, value: &[u8]| {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX) & 0x1ff;
        [&(kind << 9 | length).to_be_bytes(), value].concat()
    };
    let payload = [
        tlv(1, &[[4].as_slice(), &source].concat()), // chassis: a MAC
        tlv(2, &[[3].as_slice(), &source].concat()), // port: a MAC
        tlv(3, &120u16.to_be_bytes()),               // seconds to live
        tlv(5, system.as_bytes()),
        tlv(0, &[]),
    ]
    .concat();
    ethernet(Link { source, destination: [0x01, 0x80, 0xc2, 0, 0, 0x0e] }, ethertype::LLDP, &payload)
}

/// A configuration BPDU (IEEE 802.1D, section 9.3.1) that claims to be the
/// root bridge with the best `priority`, 0.
pub fn bpdu(source: [u8; 6], priority: u16) -> Vec<u8> {
    let bridge = [priority.to_be_bytes().as_slice(), &source].concat();
    let body = [
        [0x42, 0x42, 0x03].as_slice(), // LLC: spanning tree, unnumbered
        &[0, 0, 0, 0, 0],              // protocol, version, type, flags
        &bridge,                       // root
        &[0; 4],                       // cost of the path to it
        &bridge,
        &[0x80, 0x01], // port
        &[0, 0],       // message age
        &[20, 0],      // maximum age, in 1/256 s
        &[2, 0],       // hello time
        &[15, 0],      // forward delay
    ]
    .concat();
    // 802.3: a length where Ethernet II has its type.
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut frame = ethernet(Link { source, destination: [0x01, 0x80, 0xc2, 0, 0, 0] }, length, &body);
    frame.resize(60, 0);
    frame
}

/// A tag goes between the addresses and the EtherType.
fn with_tag(frame: &[u8], kind: u16, vlan: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at_checked(12).unwrap_or((frame, &[]));
    [addresses, &kind.to_be_bytes(), &(vlan & 0x0fff).to_be_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::SlicedPacket;

    #[test]
    fn both_tags_are_read_back() {
        let frame = unknown_ethertype(Link::broadcast([2, 0, 0, 0, 0, 1]), b"x");
        let frame = double_tagged(&frame, 100, 200);
        let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
        let ids: Vec<u16> = parsed.vlan_ids().iter().map(|id| id.value()).collect();
        assert_eq!(ids, [100, 200]);
    }

    #[test]
    fn a_bpdu_is_as_long_as_its_length_says() {
        let frame = bpdu([2, 0, 0, 0, 0, 1], 0);
        assert_eq!(frame.len(), 60);
        assert_eq!(u16::from_be_bytes([frame[12], frame[13]]), 38);
    }
}
