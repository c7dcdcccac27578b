//! A prefix or a single address, of either family.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A prefix such as `192.168.1.0/24`, with no bit set behind it, or an address,
/// which stands for itself alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Prefix(IpNet);

/// Why a text isn't a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Neither form.
    #[error("{0:?} is neither a prefix such as 192.168.1.0/24 nor an address")]
    Unknown(String),
    /// Bits set behind the prefix.
    #[error("{found} is an address within a prefix: the prefix is {prefix}")]
    HostBits {
        /// What was found.
        found: IpNet,
        /// The prefix that it lies in.
        prefix: IpNet,
    },
}

impl Prefix {
    /// The prefix.
    pub const fn net(self) -> IpNet {
        self.0
    }
}

impl From<IpNet> for Prefix {
    fn from(net: IpNet) -> Self {
        Self(net.trunc())
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = net.map_err(|_| PrefixError::Unknown(text.into()))?;
        if net.trunc() != net {
            return Err(PrefixError::HostBits { found: net, prefix: net.trunc() });
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_addresses_read_back() {
        for text in ["192.168.1.0/24", "10.0.0.7", "fd00::/8", "::1", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        let message = |text: &str| text.parse::<Prefix>().unwrap_err().to_string();
        assert_eq!(
            message("10.0.0.7/8"),
            "10.0.0.7/8 is an address within a prefix: the prefix is 10.0.0.0/8"
        );
        assert!(message("lan").contains("neither a prefix"));
    }
}
