//! Rules of others that write the bits of flows' marks by which hostctl knows flows
//! that it has judged.

use crate::firewall::{Foreign, MarkWriter, Severity};
use crate::topology::MarkMask;

use super::super::{Finding, Kind};

/// What else may be proposed: bits that few use, the least used first.
const OTHERS: [u32; 6] = [0xf000_0000, 0x00f0_0000, 0x000f_0000, 0x0000_1f00, 0x0000_f000, 0x0000_00f0];

/// What each of them does to flows.
pub(super) fn written(foreign: &Foreign, mask: MarkMask) -> Vec<Finding> {
    let writers = foreign.mark_writers(mask.bits());
    let all: u32 = foreign
        .mark_writers(u32::MAX)
        .iter()
        .filter(|one| one.is_known)
        .fold(0, |all, one| all | one.sets | one.clears);
    let free = OTHERS.iter().filter(|bits| *bits & all == 0).find_map(|bits| MarkMask::new(*bits).ok());
    writers.iter().map(|writer| finding(writer, mask, free)).collect()
}

fn finding(writer: &MarkWriter, mask: MarkMask, free: Option<MarkMask>) -> Finding {
    let MarkWriter { family, table, chain, handle, text, sets, is_known, .. } = writer;
    let sets = sets & mask.bits();
    let (severity, does) = match (*is_known, sets) {
        (false, _) => (Severity::Info, format!("may write bits of {mask} into flows' marks")),
        (true, 0) => (
            Severity::Info,
            format!(
                "clears bits of {mask} in flows' marks, so that hostctl judges each packet of theirs anew"
            ),
        ),
        (true, sets) => (
            Severity::Warning,
            format!(
                "writes {sets:#010x} into flows' marks, by which hostctl may take them for ones that it has judged"
            ),
        ),
    };
    let place = match handle {
        Some(handle) => format!("rule {handle} of chain {family} {table} {chain}"),
        None => format!("a rule of chain {family} {table} {chain}"),
    };
    let remedy = match free {
        Some(free) if *is_known => {
            format!("give hostctl other bits, that no rule here writes: [host] mark_mask = \"{free}\"")
        }
        _ => "look which bits it writes, and give hostctl others: [host] mark_mask".into(),
    };
    Finding {
        severity,
        kind: Kind::Foreign,
        object: place,
        found: format!("{text} {does}"),
        expected: format!("no rule of others that writes bits of {mask} into flows' marks"),
        remedy,
        commands: Vec::new(),
    }
}
