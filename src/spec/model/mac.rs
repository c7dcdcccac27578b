//! Guests' Ethernet addresses.

use std::fmt;
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
    /// A locally administered unicast address (IEEE 802: the second-lowest bit
    /// of the first byte is 1) that ends in `tail`.
    pub const fn local(tail: [u8; 5]) -> Self {
        let [a, b, c, d, e] = tail;
        Self([0x02, a, b, c, d, e])
    }

    /// The bytes, in the order they are sent.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The bytes as one number.
    pub fn number(self) -> u128 {
        self.0.iter().fold(0, |sum, octet| (sum << 8) | u128::from(*octet))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
