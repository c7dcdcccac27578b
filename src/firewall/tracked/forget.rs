//! Takes bits of tracked flows' marks back, so that nobody bears what the next rules
//! know flows by. Other programs' bits stay.

use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage};
use netlink_sys::Socket;

use super::conntrack::{Entry, acknowledged, count, entries};
use crate::firewall::desired::judgement::{Judgement, Marked};
use crate::firewall::netfilter::{open, send};

/// `CTA_MARK_MASK`.
const MARK_MASK: u16 = 21;
/// A flow may be missed while the kernel's table grows, and another program may write
/// back what it has read before.
const ROUNDS: usize = 8;

/// Bits of flows' marks that are taken back, and from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forget {
    /// Which bits become 0.
    bits: u32,
    /// Of flows whose mark has these; of all that have any of them where it is none.
    bearers: Option<Marked>,
}

impl Forget {
    /// The marks of one generation, whatever their class is.
    pub fn of(judgement: &Judgement) -> Self {
        let bits = judgement.mask().bits();
        Self { bits, bearers: judgement.generation() }
    }

    /// Any marks within these bits.
    pub const fn all(bits: u32) -> Self {
        Self { bits, bearers: None }
    }

    /// The commands that do it by hand: the same for every flow, as conntrack(8) takes
    /// a mask only with what it sets.
    pub fn commands(&self) -> Vec<String> {
        let each = |family: &str| {
            format!(
                "conntrack -U -f {family} --mark 0x0/{:#010x}    # flows that older rules have judged",
                self.bits
            )
        };
        ["ipv4", "ipv6"].map(each).into()
    }

    const fn is_borne(&self, mark: u32) -> bool {
        match self.bearers {
            Some(Marked { value, mask }) => mark & mask == value,
            None => mark & self.bits != 0,
        }
    }

    /// How many flows have such a mark.
    ///
    /// # Errors
    /// Where the kernel doesn't list flows, or not by netlink.
    pub fn bearers(&self) -> io::Result<usize> {
        if count() == Some(0) {
            return Ok(0);
        }
        self.find(&open()?).map(|found| found.len())
    }

    /// Takes the marks back: from how many flows.
    ///
    /// # Errors
    /// Where the kernel doesn't list or change flows, and where some have such marks
    /// however often they are taken.
    pub fn carry_out(&self) -> io::Result<usize> {
        if count() == Some(0) {
            return Ok(0);
        }
        let socket = open()?;
        let mut taken = 0;
        for _ in 0..ROUNDS {
            let found = self.find(&socket)?;
            if found.is_empty() {
                return Ok(taken);
            }
            for entry in found {
                taken += usize::from(self.take(&socket, entry)?);
            }
        }
        Err(io::Error::other(format!(
            "flows go on getting marks within {:#010x}: another program writes them (hostctl audit)",
            self.bits
        )))
    }

    fn find(&self, socket: &Socket) -> io::Result<Vec<Entry>> {
        let filter = self.bearers.map(|Marked { value, mask }| mark(value, mask)).unwrap_or_default();
        send(socket, NLM_F_DUMP, NetfilterProtoFamily::Unspec, ConntrackMessage::Get(filter))?;
        let mut found = entries(socket)?;
        // A kernel that doesn't filter lists all.
        found.retain(|entry| self.is_borne(entry.mark));
        Ok(found)
    }

    /// Whether there still was such a flow.
    fn take(&self, socket: &Socket, entry: Entry) -> io::Result<bool> {
        let family = entry.family();
        let mut attributes = entry.key;
        attributes.extend(mark(0, self.bits));
        // Without NLM_F_CREATE it is a change.
        send(socket, NLM_F_ACK, family, ConntrackMessage::New(attributes))?;
        acknowledged(socket)
    }
}

fn mark(value: u32, mask: u32) -> Vec<ConntrackAttribute> {
    let mask = DefaultNla::new(MARK_MASK, mask.to_be_bytes().into());
    vec![ConntrackAttribute::CtaMark(value), ConntrackAttribute::Other(mask)]
}

#[cfg(test)]
#[path = "forget_tests.rs"]
mod tests;
