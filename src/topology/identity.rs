//! What follows from a name alone: hashes, MAC addresses, link-local
//! addresses. The same name has the same identity on every host and at every
//! apply.

use std::net::Ipv6Addr;

use crate::spec::MacAddr;

/// The MAC that follows from what a thing is (`kind`) and its name.
pub(super) fn derive_mac(kind: &str, name: &str) -> MacAddr {
    let [.., a, b, c, d, e] = hash(&format!("{kind}:{name}")).to_be_bytes();
    MacAddr::local([a, b, c, d, e])
}

/// The link-local address that a guest forms from its MAC: modified EUI-64
/// (RFC 4291, appendix A).
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

/// 64-bit FNV-1a: small, stable for ever, and no more is asked of it;
/// collisions are looked for and refused where they would matter.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fnv_1a_matches_its_published_vectors() {
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn link_local_is_the_rfcs_example() {
        // RFC 4291, appendix A: 34-56-78-9A-BC-DE.
        let mac = MacAddr::new([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]).unwrap();
        assert_eq!(link_local(mac).to_string(), "fe80::3656:78ff:fe9a:bcde");
    }

    proptest! {
        #[test]
        fn derived_macs_are_local_unicast_and_read_back(name in "[a-z0-9]{1,20}") {
            let mac = derive_mac("vm", &name);
            prop_assert_eq!(mac.octets()[0], 2);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        }
    }
}
