//! Which packets there can be: what connection tracking never says together,
//! and what a header can't be.

use crate::reach::subject::{Field, Kind, depth, fragment, state};

use super::diagram::{Diagram, Diagrams};
use super::header::Header;

/// As frames come to a port.
pub fn frames(diagrams: &mut Diagrams, header: &Header) -> Diagram {
    let field = |diagrams: &mut Diagrams, field, range| header.range(diagrams, field, range);
    let mut all = field(diagrams, Field::Depth, (depth::NOTHING, depth::TARGET));
    let fragments = field(diagrams, Field::Fragment, (fragment::NONE, fragment::LATER));
    // Of a later fragment rules read what stands where a transport header would: of
    // IPv4 its payload, of IPv6 the packet's first bytes (`nft_payload_fast_eval`).
    // So any of it may be anything.
    all = diagrams.and(all, fragments);
    untracked(diagrams, header, all)
}

/// As packets come to the host's own hooks: the kernel has put fragments
/// together (priority -400). What is in a frame to somebody else is bridged, or
/// dropped, and never routed.
pub fn packets(diagrams: &mut Diagrams, header: &Header) -> Diagram {
    let field = |diagrams: &mut Diagrams, field, range| header.range(diagrams, field, range);
    let least = if header.kind == Kind::Ipv6 { depth::NOTHING } else { depth::PROTOCOL };
    let mut all = field(diagrams, Field::Depth, (least, depth::TARGET));
    for (name, range) in [
        (Field::Fragment, (fragment::NONE, fragment::NONE)),
        (Field::Addressed, (0, 0)),
        (Field::State, (state::NEW, state::UNTRACKED)),
    ] {
        let these = field(diagrams, name, range);
        all = diagrams.and(all, these);
    }
    // Only what was answered has a direction but the first.
    let answered = field(diagrams, Field::State, (state::ESTABLISHED, state::RELATED));
    let reply = field(diagrams, Field::Reply, (1, 1));
    let wrong = diagrams.minus(reply, answered);
    all = diagrams.minus(all, wrong);
    // What is in no table is neither confirmed nor translated.
    let none = field(diagrams, Field::State, (state::INVALID, state::UNTRACKED));
    for name in [Field::Confirmed, Field::Translated] {
        let one = field(diagrams, name, (1, 1));
        let wrong = diagrams.and(one, none);
        all = diagrams.minus(all, wrong);
    }
    let established = field(diagrams, Field::State, (state::ESTABLISHED, state::ESTABLISHED));
    let confirmed = field(diagrams, Field::Confirmed, (1, 1));
    let wrong = diagrams.minus(established, confirmed);
    diagrams.minus(all, wrong)
}

/// At a port nothing is tracked yet.
fn untracked(diagrams: &mut Diagrams, header: &Header, all: Diagram) -> Diagram {
    let mut all = all;
    for field in [Field::State, Field::Reply, Field::Confirmed, Field::Translated, Field::Addressed] {
        let none = header.range(diagrams, field, (0, 0));
        all = diagrams.and(all, none);
    }
    all
}

/// The first packets of flows.
pub fn first(diagrams: &mut Diagrams, header: &Header) -> Diagram {
    let new = header.range(diagrams, Field::State, (state::NEW, state::NEW));
    let unconfirmed = header.range(diagrams, Field::Confirmed, (0, 0));
    diagrams.and(new, unconfirmed)
}
