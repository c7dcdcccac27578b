//! What follows from a name alone: hashes, MAC addresses, link-local
//! addresses. The same name has the same identity on every host and at every
//! apply.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A unicast Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

/// Why a text isn't a guest's MAC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// Not six bytes in hexadecimal.
    #[error("a MAC is six bytes in hexadecimal, like 02:00:00:00:00:01")]
    Syntax,
    /// A group address, or all zeroes.
    #[error(
        "a guest's MAC is a unicast address: the lowest bit of its first byte is 0, and it isn't all zeroes"
    )]
    NotUnicast,
}

impl MacAddr {
    /// A locally administered address (IEEE 802, the second-lowest bit of the
    /// first byte) that follows from `kind` and `name`.
    pub(super) fn derive(kind: &str, name: &str) -> Self {
        let hash = hash(&format!("{kind}:{name}")).to_be_bytes();
        // 02: locally administered, unicast. The rest is the hash's.
        Self([0x02, hash[3], hash[4], hash[5], hash[6], hash[7]])
    }

    /// The bytes, in the order they are sent.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// An address from its bytes.
    ///
    /// # Errors
    /// For group addresses and all zeroes.
    pub fn new(octets: [u8; 6]) -> Result<Self, MacError> {
        if octets[0] & 1 == 1 || octets == [0; 6] { Err(MacError::NotUnicast) } else { Ok(Self(octets)) }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(MacError::Syntax)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacError::Syntax);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacError::Syntax)?;
        }
        if parts.next().is_some() {
            return Err(MacError::Syntax);
        }
        Self::new(octets)
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

/// The link-local address that a guest forms from its MAC: modified EUI-64
/// (RFC 4291, appendix A).
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
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
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(link_local(mac).to_string(), "fe80::3656:78ff:fe9a:bcde");
    }

    #[test]
    fn malformed_macs_are_refused() {
        for text in
            ["", "02", "02:00:00:00:00", "02:00:00:00:00:0", "02:00:00:00:00:00:00", "+2:00:00:00:00:01"]
        {
            assert_eq!(text.parse::<MacAddr>(), Err(MacError::Syntax), "{text:?}");
        }
        for text in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert_eq!(text.parse::<MacAddr>(), Err(MacError::NotUnicast), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn derived_macs_are_local_unicast_and_read_back(name in "[a-z0-9]{1,20}") {
            let mac = MacAddr::derive("vm", &name);
            prop_assert_eq!(mac.octets()[0], 2);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        }
    }
}
