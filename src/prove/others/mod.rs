//! Other programs' tables: what they do, besides letting pass, to the packets
//! that the spec lets pass, for every one of them.
//!
//! [`packets`] and [`frames`] ask the model which packets these are, [`ways`] says
//! which hooks they pass; [`table`] reads the tables, [`reading`] what their rules
//! ask, [`action`] what they do; [`walk`] follows all packets at once through the
//! chains of a hook, as the kernel does, with the marks that rules set
//! ([`mark`]); [`happening`] says to whom it happens, and how sure that is.
//! What a rule asks and isn't known may be so or not: each such question is a
//! bit of its own. What a rule does and isn't known is said.

mod action;
mod condition;
mod elements;
mod frames;
mod happening;
mod mark;
mod packets;
mod question;
mod reading;
mod table;
mod tcp;
#[cfg(test)]
mod tests;
mod traffic;
mod walk;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use crate::reach::Model;

pub use action::Effect;
pub use happening::{Happening, Place, Sureness};
pub use traffic::Traffic;

use table::Rules;

use super::header::LINK_BITS;
use super::links::LinkNumbers;
use super::rules::Unknown;

/// The host's own addresses, by link.
pub type OwnAddresses = BTreeMap<String, BTreeSet<IpAddr>>;

/// How many rules a listing has, and which of them ask or do what isn't known,
/// with what that is: by family, table, chain and number. They are followed all
/// the same: what they ask may be so or not.
pub fn unknown_rules(listing: &Value) -> (usize, Vec<(String, Vec<String>)>) {
    Rules::read(listing, &mut LinkNumbers::default()).unknown()
}

/// Everything that the tables of a listing do to the packets that a model lets
/// pass, but letting them pass too. Tables of hostctl's own are left out.
///
/// # Errors
/// Where there are more links than have numbers.
pub fn happenings(model: &Model<'_>, own: &OwnAddresses, listing: &Value) -> Result<Vec<Happening>, Unknown> {
    let mut links = LinkNumbers::default();
    traffic::number_links(model, &mut links);
    let rules = Rules::read(listing, &mut links);
    if links.last() >= (1 << LINK_BITS) - 1 {
        return Err(Unknown(format!("more than {} links", (1 << LINK_BITS) - 1)));
    }
    if !rules.has_bases() {
        return Ok(Vec::new());
    }
    Ok(happening::all(model, own, &rules, &links))
}
