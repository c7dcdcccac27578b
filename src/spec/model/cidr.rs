//! Prefixes of networks and subnets.

use std::fmt;
use std::net::AddrParseError;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The longest IPv4 prefix, in bits, that has room for a gateway and a guest.
pub const IPV4_PREFIX_MAX: u8 = 30;

/// The longest IPv6 prefix, in bits, that has room for a gateway and a guest.
pub const IPV6_PREFIX_MAX: u8 = 126;

/// An IPv4 prefix, written with no bit set behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr4(Ipv4Net);

/// An IPv6 prefix, written with no bit set behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr6(Ipv6Net);

/// Why a text isn't a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No slash.
    #[error("a prefix has a length: {0}/24, for example")]
    NoLength(String),
    /// The part before the slash isn't an address of the family.
    #[error("{text:?} isn't an {family} address")]
    Address {
        /// What was found.
        text: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The part behind the slash isn't a length of the family.
    #[error("{text:?} isn't a prefix length: 0 to {max} are")]
    Length {
        /// What was found.
        text: String,
        /// The longest prefix that leaves room for guests, in bits.
        max: u8,
    },
    /// Too small for a gateway and a guest.
    #[error("/{length} has no room for a gateway and a guest: at most /{max} does")]
    TooSmall {
        /// The length found, in bits.
        length: u8,
        /// The longest length, in bits.
        max: u8,
    },
    /// Bits set behind the prefix.
    #[error("{found} is an address within a network, not a network: the network is {network}")]
    HostBits {
        /// What was found.
        found: String,
        /// The network that the address lies in.
        network: IpNet,
    },
}

fn split<A>(text: &str, family: &'static str, max: u8) -> Result<(A, u8), CidrError>
where
    A: FromStr<Err = AddrParseError>,
{
    let (address, length) = text.split_once('/').ok_or_else(|| CidrError::NoLength(text.into()))?;
    let address = address.parse().map_err(|_| CidrError::Address { text: address.into(), family })?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = length.parse().ok().filter(|_| digits);
    let length = parsed.ok_or_else(|| CidrError::Length { text: length.into(), max })?;
    Ok((address, length))
}

macro_rules! cidr {
    ($type:ident, $net:ty, $family:literal, $max:expr) => {
        impl $type {
            /// The prefix.
            pub const fn net(self) -> $net {
                self.0
            }
        }

        impl FromStr for $type {
            type Err = CidrError;

            fn from_str(text: &str) -> Result<Self, CidrError> {
                let (address, length) = split(text, $family, $max)?;
                let net = <$net>::new(address, length)
                    .map_err(|_| CidrError::Length { text: length.to_string(), max: $max })?;
                if length > $max {
                    return Err(CidrError::TooSmall { length, max: $max });
                }
                if net.trunc() != net {
                    return Err(CidrError::HostBits { found: net.to_string(), network: net.trunc().into() });
                }
                Ok(Self(net))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl TryFrom<String> for $type {
            type Error = CidrError;

            fn try_from(text: String) -> Result<Self, CidrError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(cidr: $type) -> Self {
                cidr.to_string()
            }
        }
    };
}

cidr!(Cidr4, Ipv4Net, "IPv4", IPV4_PREFIX_MAX);
cidr!(Cidr6, Ipv6Net, "IPv6", IPV6_PREFIX_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_read_back() {
        for text in ["10.1.0.0/24", "0.0.0.0/0", "192.0.2.0/30"] {
            assert_eq!(text.parse::<Cidr4>().map(String::from).as_deref(), Ok(text));
        }
        for text in ["fd00::/64", "::/0"] {
            assert_eq!(text.parse::<Cidr6>().map(String::from).as_deref(), Ok(text));
        }
    }

    #[test]
    fn each_mistake_has_its_message() {
        let message = |text: &str| text.parse::<Cidr4>().unwrap_err().to_string();
        assert_eq!(message("10.1.0.0"), "a prefix has a length: 10.1.0.0/24, for example");
        assert_eq!(message("fd00::/64"), "\"fd00::\" isn't an IPv4 address");
        assert_eq!(message("10.1.0.0/33"), "\"33\" isn't a prefix length: 0 to 30 are");
        assert_eq!(message("10.1.0.0/+8"), "\"+8\" isn't a prefix length: 0 to 30 are");
        assert_eq!(message("10.1.0.0/"), "\"\" isn't a prefix length: 0 to 30 are");
        assert_eq!(message("10.1.0.0/31"), "/31 has no room for a gateway and a guest: at most /30 does");
        assert_eq!(
            message("10.1.0.7/24"),
            "10.1.0.7/24 is an address within a network, not a network: the network is 10.1.0.0/24"
        );
    }
}
