//! The loaded rules against the model, for every packet: both are followed with
//! all headers at once, and are equal, or a packet is found of which they don't
//! say the same.
//!
//! Rules are read from nft's own listing; the model is asked by the same lines
//! that judge one flow (`reach`). What isn't known ends in
//! [`Answer::Unknown`], never in [`Answer::Equal`]. docs/proof.md has what is
//! assumed.

mod answer;
mod boxes;
mod claim;
mod compare;
mod diagram;
mod difference;
mod ends;
mod foreign;
mod grain;
mod ground;
mod header;
mod legal;
mod links;
mod others;
mod packet;
mod reaches;
mod rules;
mod slice;
mod space;
mod target;
pub mod template;
mod why;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::reach::{Model, Service};
use crate::topology::IfName;

pub use crate::reach::subject::{Field, Kind};
pub use answer::{Answer, Claimed, Counterexample, Extent, Outcome, RulePlace};
pub use boxes::{HeaderBox, Tracked, services_text};
pub use difference::{Difference, Does, Side};
pub use ends::{senders as senders_of, target as target_of};
pub use foreign::{foreign, has_own};
pub use others::{Effect, Happening, OwnAddresses, Place, Sureness, Traffic, happenings, unknown_rules};
pub use packet::Packet;
pub use reaches::{ANY_OTHER, Reacher};
pub use rules::Unknown;
pub use slice::Stop;
pub use target::Target;
pub use why::{Class, From, Pair};

use compare::Worker;
use links::LinkNumbers;
use rules::Tables;
use slice::Sender;

/// Holds the rules that a listing shows against a model, for every packet.
/// `indices` are the kernel's numbers of the links that guests' packets go out
/// by, as far as the listing has numbers.
pub fn prove(model: &Model<'_>, listing: &Value, indices: &BTreeMap<IfName, u32>) -> Answer {
    answered(compared(model, listing, indices, false))
}

/// As [`prove`], but ends with the first packet that is found.
pub fn refute(model: &Model<'_>, listing: &Value, indices: &BTreeMap<IfName, u32>) -> Answer {
    answered(compared(model, listing, indices, true))
}

fn answered(compared: Result<(Extent, Vec<Counterexample>), Unknown>) -> Answer {
    match compared {
        Err(unknown) => Answer::Unknown(unknown),
        Ok((extent, found)) if found.is_empty() => Answer::Equal(extent),
        Ok((_, found)) => Answer::Different(found),
    }
}

/// Who reaches a target, with a service, by the rules that a listing shows.
///
/// # Errors
/// Names what isn't known of the rules.
pub fn reaches(
    model: &Model<'_>,
    listing: &Value,
    indices: &BTreeMap<IfName, u32>,
    asked: (&Target, Option<Service>),
) -> Result<Vec<Reacher>, Unknown> {
    let (links, tables) = read(&[model], &[listing], indices)?;
    let senders = senders(model, &links);
    let tables = tables.first().ok_or_else(|| Unknown("a listing".into()))?;
    reaches::reaches(model, tables, &links, &senders, asked)
}

/// Everything that one may send to another, by what is done with it and why.
///
/// # Errors
/// Names what isn't known of the rules.
pub fn why(
    model: &Model<'_>,
    listing: &Value,
    indices: &BTreeMap<IfName, u32>,
    pair: Pair<'_>,
) -> Result<Vec<Class>, Unknown> {
    let (links, tables) = read(&[model], &[listing], indices)?;
    let tables = tables.first().ok_or_else(|| Unknown("a listing".into()))?;
    why::why(model, tables, &links, pair)
}

/// What two sets of rules don't do the same with: one packet for each way in
/// which they differ. Nothing is taken for granted of who has which address, nor
/// of which links are ports.
///
/// # Errors
/// Names what isn't known of the rules.
pub fn difference(
    (old, new): (Side<'_, '_>, Side<'_, '_>),
    indices: &BTreeMap<IfName, u32>,
) -> Result<Vec<Difference>, Unknown> {
    let models: Vec<&Model<'_>> = [old.model, new.model].into_iter().flatten().collect();
    let mut links = numbered(&models, indices).with_twins();
    let tables = tables(&[old.listing, new.listing], &mut links)?;
    let (Some(before), Some(after)) = (tables.first(), tables.get(1)) else {
        return Err(Unknown("a listing".into()));
    };
    let differs = |family| foreign::own(old.listing, family) != foreign::own(new.listing, family);
    let where_ = difference::Where { at_ports: differs("bridge"), on_the_way: differs("inet") };
    difference::difference((old.model, before), (new.model, after), &links, where_)
}

fn compared(
    model: &Model<'_>,
    listing: &Value,
    indices: &BTreeMap<IfName, u32>,
    one_is_enough: bool,
) -> Result<(Extent, Vec<Counterexample>), Unknown> {
    let (links, tables) = read(&[model], &[listing], indices)?;
    let senders = senders(model, &links);
    let tables = tables.first().ok_or_else(|| Unknown("a listing".into()))?;
    let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
    let (links, senders) = (&links, &senders);
    let enough = &AtomicBool::new(false);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|first| {
                scope.spawn(move || {
                    let mut worker = Worker::new(model, tables, links);
                    // One kind after the other: what is known of one is nothing to the others.
                    for kind in Kind::ALL {
                        let share = senders.iter().skip(first).step_by(workers);
                        let share = share.take_while(|_| !enough.load(Ordering::Relaxed));
                        let found = worker.compare(kind, share, one_is_enough)?;
                        enough.fetch_or(found && one_is_enough, Ordering::Relaxed);
                    }
                    Ok(worker.finish())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let (mut extent, mut found) = (Extent::default(), Vec::new());
    for result in results {
        let (some, different) = result?;
        extent.slices += some.slices;
        extent.cases += some.cases;
        extent.rules.extend(some.rules);
        found.extend(different);
    }
    extent.dead = slice::deciding(tables);
    extent.dead.retain(|rule| !extent.rules.contains(rule));
    Ok((extent, found))
}

/// Reads listings, of the same links.
fn read(
    models: &[&Model<'_>],
    listings: &[&Value],
    indices: &BTreeMap<IfName, u32>,
) -> Result<(LinkNumbers, Vec<Tables>), Unknown> {
    let mut links = numbered(models, indices);
    let tables = tables(listings, &mut links)?;
    Ok((links, tables))
}

/// The links that models name.
fn numbered(models: &[&Model<'_>], indices: &BTreeMap<IfName, u32>) -> LinkNumbers {
    let exits = models.iter().flat_map(|model| &model.sets().exits.names);
    let mut links = LinkNumbers::new(exits, indices);
    for model in models {
        let topology = model.topology();
        for network in &topology.networks {
            links.number(network.bridge.as_str());
        }
        for port in topology.ports() {
            links.number(port.interface.as_str());
        }
        for name in topology.tailscale.iter().chain(&model.vicinity().opened) {
            links.number(name.as_str());
        }
    }
    links.number("lo");
    links
}

/// The rules that listings show, all of which are followed.
fn tables(listings: &[&Value], links: &mut LinkNumbers) -> Result<Vec<Tables>, Unknown> {
    let own = |_: &str, name: &str| name == crate::ownership::TABLE;
    let tables: Result<Vec<_>, _> =
        listings.iter().map(|listing| Tables::read(listing, links, own)).collect();
    let tables = tables?;
    tables.iter().try_for_each(Tables::are_followed)?;
    Ok(tables)
}

/// Everybody who may send.
fn senders<'t>(model: &Model<'t>, links: &LinkNumbers) -> Vec<Sender<'t>> {
    let ports = model.topology().ports().map(Sender::Port);
    let others = links.names().filter(|name| model.port_of(Some(name)).is_none());
    let others = others.map(|name| Sender::Link(name.into()));
    ports.chain(others).chain([Sender::AnyLink, Sender::Host]).collect()
}
