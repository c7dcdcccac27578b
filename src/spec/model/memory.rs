//! Amounts of guest memory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of memory in whole mebibytes, written `256M` or `2G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory(u32);

/// Why a text isn't an amount of guest memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Neither `<number>M` nor `<number>G`.
    #[error("an amount of memory is written 256M or 2G, not {0:?}")]
    Syntax(String),
    /// Less than a kernel boots in, or more than any machine has.
    #[error("a guest's memory is between 16M and 16384G, not {0}")]
    Range(String),
    /// QEMU's microvm and others are known to hang at exactly that size.
    #[error("QEMU is known to hang with exactly 2048 MiB of guest memory: take 2047M or 2049M")]
    Hangs,
}

impl Memory {
    /// What a VM gets where its spec doesn't say: 256 MiB.
    pub const DEFAULT: Self = Self(256);

    /// In mebibytes.
    pub const fn mebibytes(self) -> u32 {
        self.0
    }
}

impl FromStr for Memory {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let syntax = || MemoryError::Syntax(text.into());
        let (digits, factor) = match (text.strip_suffix('M'), text.strip_suffix('G')) {
            (Some(digits), _) => (digits, 1),
            (_, Some(digits)) => (digits, 1024),
            _ => return Err(syntax()),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(syntax());
        }
        let range = || MemoryError::Range(text.into());
        let amount: u32 = digits.parse().map_err(|_| range())?;
        match amount.checked_mul(factor).ok_or_else(range)? {
            2048 => Err(MemoryError::Hangs),
            mebibytes @ 16..=16_777_216 => Ok(Self(mebibytes)),
            _ => Err(range()),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.0)
    }
}

impl TryFrom<String> for Memory {
    type Error = MemoryError;

    fn try_from(text: String) -> Result<Self, MemoryError> {
        text.parse()
    }
}

impl From<Memory> for String {
    fn from(memory: Memory) -> Self {
        memory.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        assert_eq!("256M".parse(), Ok(Memory(256)));
        assert_eq!("4G".parse(), Ok(Memory(4096)));
        for text in ["", "M", "256", "256 M", "-1M", "+1M", "1.5G", "256m"] {
            assert_eq!(text.parse::<Memory>(), Err(MemoryError::Syntax(text.into())));
        }
        for text in ["0M", "15M", "99999999999999999999G", "4294967295G"] {
            assert_eq!(text.parse::<Memory>(), Err(MemoryError::Range(text.into())));
        }
        assert_eq!("2G".parse::<Memory>(), Err(MemoryError::Hangs));
    }
}
