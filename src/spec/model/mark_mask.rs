//! The bits of tracked flows' marks that hostctl may use.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ownership::PACKET_MARKS;

/// Four bits or more of a flow's mark (`ct mark`), side by side: one says what was
/// judged, the others by which generation of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "MarkMaskText", into = "MarkMaskText")]
pub struct MarkMask(u32);

/// How a [`MarkMask`] is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a mask is a number or a text such as \"0xf0000000\"")]
enum MarkMaskText {
    /// A number.
    Number(#[schemars(range(min = 15, max = 0xffff_ffff_u32))] u64),
    /// `0x` and hexadecimal digits.
    Text(#[schemars(regex(pattern = r"^0[xX][0-9a-fA-F]{1,8}$"))] String),
}

/// Why something isn't such a mask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkMaskError {
    /// Neither a number of 32 bits nor one in hexadecimal.
    #[error("a mask of 32 bits is written 0xf0000000, not {0}")]
    Syntax(String),
    /// Bits that aren't side by side, or too few.
    #[error("{0:#010x} isn't four bits or more side by side, as those of 0xf0000000 are")]
    Bits(u32),
    /// Bits that mean something else in packets' marks.
    #[error(
        "{0:#010x} has bits of {PACKET_MARKS:#010x}, which hostctl sets in packets' marks, and who copies \
         a flow's mark into a packet's would set them: take others, such as 0xf0000000 or 0x00001f00"
    )]
    OfPackets(u32),
}

impl MarkMask {
    /// The fewest bits: one for what was judged, three for generations.
    pub const BITS_MIN: u32 = 4;

    /// The mask of these bits.
    ///
    /// # Errors
    /// Where it has too few bits, or any that are taken.
    pub const fn new(bits: u32) -> Result<Self, MarkMaskError> {
        let side_by_side = bits != 0 && {
            let ones = bits.count_ones();
            ones >= Self::BITS_MIN && (bits >> bits.trailing_zeros()).trailing_ones() == ones
        };
        if !side_by_side {
            Err(MarkMaskError::Bits(bits))
        } else if bits & PACKET_MARKS != 0 {
            Err(MarkMaskError::OfPackets(bits))
        } else {
            Ok(Self(bits))
        }
    }

    /// Its bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// The four highest bits. Nobody was found who writes them in flows' marks: programs
/// that write a whole mark (WireGuard's, NordVPN's, NetBird's, Mullvad's) write small
/// numbers, which have none of these bits and so only make hostctl judge anew, and
/// those that use some bits use lower ones (Tailscale 0x00ff0000, mwan3 0x00003f00,
/// Kubernetes 0x0000c000, Amazon's VPC plugin 0x00000080). docs/firewall.md has the list.
impl Default for MarkMask {
    fn default() -> Self {
        Self(0xf000_0000)
    }
}

impl FromStr for MarkMask {
    type Err = MarkMaskError;

    fn from_str(text: &str) -> Result<Self, MarkMaskError> {
        let syntax = || MarkMaskError::Syntax(format!("{text:?}"));
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).ok_or_else(syntax)?;
        // What from_str_radix takes besides: a sign.
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(syntax());
        }
        u32::from_str_radix(digits, 16).map_err(|_| syntax()).and_then(Self::new)
    }
}

impl fmt::Display for MarkMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl TryFrom<MarkMaskText> for MarkMask {
    type Error = MarkMaskError;

    fn try_from(text: MarkMaskText) -> Result<Self, MarkMaskError> {
        match text {
            MarkMaskText::Number(number) => {
                let bits = u32::try_from(number).map_err(|_| MarkMaskError::Syntax(number.to_string()));
                bits.and_then(Self::new)
            }
            MarkMaskText::Text(text) => text.parse(),
        }
    }
}

impl From<MarkMask> for MarkMaskText {
    fn from(mask: MarkMask) -> Self {
        Self::Text(mask.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_side_by_side_that_are_nobodys() {
        for bits in [0xf000_0000, 0xf, 0x1f00, 0x00ff_0000, 0x00ff_ffff] {
            assert_eq!(MarkMask::new(bits).map(MarkMask::bits), Ok(bits));
        }
        for bits in [0, 1, 0x7, 0xe000_0000, 0xf000_000f, 0x1b00, 0x0001_0101] {
            assert_eq!(MarkMask::new(bits), Err(MarkMaskError::Bits(bits)));
        }
        for bits in [0x0f00_0000, 0xf800_0000, 0x01ff_0000, u32::MAX] {
            assert_eq!(MarkMask::new(bits), Err(MarkMaskError::OfPackets(bits)));
        }
        let default = MarkMask::default();
        assert_eq!(MarkMask::new(default.bits()), Ok(default));
    }

    #[test]
    fn as_a_number_and_as_a_text() {
        for text in ["4026531840", "\"0xf0000000\"", "\"0XF0000000\""] {
            assert_eq!(serde_json::from_str::<MarkMask>(text).unwrap(), MarkMask::default());
        }
        for text in
            ["\"\"", "\"f0000000\"", "\"0x\"", "\"0x+f\"", "\"0x1f0000000\"", "-16", "true", "68719476735"]
        {
            assert!(serde_json::from_str::<MarkMask>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&MarkMask::default()).unwrap(), "\"0xf0000000\"");
    }
}
