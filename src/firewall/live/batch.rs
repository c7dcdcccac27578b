//! Transactions as nft sends them to the kernel: messages of netlink(7) with
//! attributes (`linux/netfilter/nf_tables.h`). Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use super::message::{GENERIC, HEADER, Unexpected, attribute, name, request, u16_at, u32_at};
use crate::ownership::TABLE;

const ATTRIBUTE: usize = 4;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_…`
const NEWTABLE: u16 = 10 << 8;
const DELTABLE: u16 = 10 << 8 | 2;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 16;
const END: u16 = 17;
/// `NFTA_TABLE_NAME`, `NFTA_TABLE_FLAGS`.
const NAME: u16 = 1;
const FLAGS: u16 = 2;

const NLM_F_ACK: u16 = 4;

/// A message of hostctl's table of some family.
struct OfTable {
    kind: u16,
    family: u8,
    /// Where its flags are.
    flags: Option<Range<usize>>,
}

/// Sets the flags with which hostctl's tables are named in a transaction: where
/// one is there, those that it has, as nothing else is taken; where it is made,
/// `new`. nft 1.0.6 can't write all of them, and no other way to write them
/// replaces a table that has other ones.
pub(in crate::firewall) fn set_flags(
    batch: &mut [u8],
    there: &BTreeMap<u8, u32>,
    new: u32,
) -> Result<(), Unexpected> {
    let mut there = there.clone();
    let mut at = 0;
    while at < batch.len() {
        let (message, next) = read(batch, at)?;
        at = next;
        let Some(OfTable { kind, family, flags }) = message else { continue };
        if kind == DELTABLE {
            there.remove(&family);
            continue;
        }
        let value = *there.entry(family).or_insert(new);
        let place = flags.ok_or(Unexpected)?;
        batch.get_mut(place).ok_or(Unexpected)?.copy_from_slice(&value.to_be_bytes());
    }
    Ok(())
}

/// The message at `at`, where it is about one of hostctl's tables, and where the
/// next one begins.
fn read(batch: &[u8], at: usize) -> Result<(Option<OfTable>, usize), Unexpected> {
    let length = usize::try_from(u32_at(batch, at)?).map_err(|_| Unexpected)?;
    let (kind, end) = (u16_at(batch, at + 4)?, at + length);
    if length < HEADER || end > batch.len() {
        return Err(Unexpected);
    }
    // Messages are aligned to four bytes; nothing need follow the last.
    let next = at + length.next_multiple_of(4);
    if !matches!(kind, NEWTABLE | DELTABLE) {
        return Ok((None, next));
    }
    let family = *batch.get(at + HEADER).ok_or(Unexpected)?;
    let (mut flags, mut ours) = (None, false);
    let mut attribute = at + HEADER + GENERIC;
    while attribute + ATTRIBUTE <= end {
        let size = usize::from(u16_at(batch, attribute)?);
        let value = attribute + ATTRIBUTE..attribute + size;
        if size < ATTRIBUTE || value.end > end {
            return Err(Unexpected);
        }
        match u16_at(batch, attribute + 2)? {
            NAME => {
                let name = batch.get(value).unwrap_or_default();
                ours = name.strip_suffix(b"\0").unwrap_or(name) == TABLE.as_bytes();
            }
            FLAGS if size == ATTRIBUTE + 4 => flags = Some(value),
            _ => {}
        }
        attribute += size.next_multiple_of(4);
    }
    Ok((ours.then_some(OfTable { kind, family, flags }), next))
}

/// A transaction that sets the flags of hostctl's tables of these families; the
/// kernel answers once for each.
pub(in crate::firewall) fn flagging(families: impl IntoIterator<Item = u8>, flags: u32) -> Vec<u8> {
    // struct nfgenmsg's last field names the subsystem, in a batch's frame.
    let frame = |kind, sequence| request(kind, 0, sequence, (0, 10), &[]);
    let mut batch = frame(BEGIN, 0);
    for (family, sequence) in families.into_iter().zip(1..) {
        let attributes = [name(NAME, TABLE), attribute(FLAGS, &flags.to_be_bytes())].concat();
        batch.extend(request(NEWTABLE, NLM_F_ACK, sequence, (family, 0), &attributes));
    }
    batch.extend(frame(END, u32::MAX));
    batch
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(kind: u16, family: u8, name: &[u8], flags: u32) -> Vec<u8> {
        let attributes = [attribute(FLAGS, &flags.to_be_bytes()), attribute(NAME, name)].concat();
        request(kind, 0, 1, (family, 0), &attributes)
    }

    fn flags(batch: &[u8]) -> Vec<u32> {
        let (mut at, mut found) = (0, Vec::new());
        while at < batch.len() {
            let length = usize::try_from(u32_at(batch, at).unwrap()).unwrap();
            let value = batch.get(at + 24..at + 28);
            found.extend(value.map(|value| u32::from_be_bytes(value.try_into().unwrap())));
            at += length.next_multiple_of(4);
        }
        found
    }

    /// As hostctl replaces a table: named, deleted, made.
    fn replacing(family: u8, name: &[u8]) -> Vec<u8> {
        [NEWTABLE, DELTABLE, NEWTABLE].map(|kind| named(kind, family, name, 0)).concat()
    }

    #[test]
    fn a_table_keeps_its_flags_until_it_is_made_anew() {
        let there = BTreeMap::from([(1, 4)]);
        let mut batch = [replacing(1, b"hostctl\0"), named(NEWTABLE, 1, b"hostctl\0", 0)].concat();
        set_flags(&mut batch, &there, 6).unwrap();
        assert_eq!(flags(&batch), [4, 0, 6, 6]);
        let mut batch = replacing(7, b"hostctl\0");
        set_flags(&mut batch, &there, 6).unwrap();
        assert_eq!(flags(&batch), [6, 0, 6]);
    }

    #[test]
    fn nobody_elses_table_is_touched() {
        let mut batch = [replacing(1, b"hostctl2\0"), replacing(1, b"hostct\0")].concat();
        let before = batch.clone();
        set_flags(&mut batch, &BTreeMap::new(), 6).unwrap();
        assert_eq!(batch, before);
    }

    #[test]
    fn a_table_without_flags_is_sent_to_nobody() {
        let mut batch = request(NEWTABLE, 0, 1, (1, 0), &attribute(NAME, b"hostctl\0"));
        assert_eq!(set_flags(&mut batch, &BTreeMap::new(), 6), Err(Unexpected));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            _ = set_flags(&mut bytes, &BTreeMap::new(), 6);
        }

        #[test]
        fn a_torn_batch_is_refused(cut in 1_usize..40) {
            let mut batch = replacing(1, b"hostctl\0");
            batch.truncate(batch.len() - cut);
            prop_assert!(set_flags(&mut batch, &BTreeMap::new(), 6).is_err());
        }
    }
}
