//! The change of a spec as a change of who may reach whom, in few lines.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::topology::Topology;

use super::class::Guest;
use super::comparison::Comparison;
use super::names::Names;
use super::services::Both;
use super::{Model, Vicinity};

/// What a new topology opens and closes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it opens first.
    pub lines: Vec<Line>,
}

/// Something that opens or closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Whether it opens: a widening.
    pub opens: bool,
    /// Who may send, or may no longer: networks, `network/subnet`s, guests,
    /// `host`, `internet`, `tailnet`.
    pub from: Vec<String>,
    /// To whom; `imds` besides, and `itself` where each reaches its own.
    pub to: Vec<String>,
    /// What.
    pub services: Both,
}

impl Change {
    /// Whether something may be reached that couldn't before.
    pub fn widens(&self) -> bool {
        self.lines.iter().any(|line| line.opens)
    }

    /// The change from `old` to `new`, each on a host as it most often is.
    pub fn between(old: &Topology, new: &Topology) -> Self {
        let vicinities = [Vicinity::assumed(old), Vicinity::assumed(new)];
        let [of_old, of_new] = &vicinities;
        let (members, found) = Comparison::new(Model::new(old, of_old), Model::new(new, of_new)).found();
        Self { lines: lines(&members, [old, new].map(Names::new), found) }
    }
}

/// Somebody of a pair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// The guests of a class, by its index.
    Class(usize),
    /// Others, as they are called.
    Other(String),
}

/// Who may reach whom by what that opens, or that closes.
pub(super) type Found = BTreeMap<(bool, Both), BTreeMap<Party, BTreeSet<Party>>>;

/// Senders that may reach the same ones become one line. `members` are the
/// guests of each class; the names are those of the old topology and the new.
fn lines(members: &[Vec<Guest<'_>>], [before, after]: [Names<'_>; 2], found: Found) -> Vec<Line> {
    let mut lines = Vec::new();
    for ((opens, services), pairs) in found {
        let names = if opens { &after } else { &before };
        for (from, to) in alike(members, pairs) {
            let [from, to] = [&from, &to].map(|parties| texts(members, names, parties));
            lines.push(Line { opens, from, to, services: services.clone() });
        }
    }
    let mut lines = joined(lines);
    lines.sort_by(|a, b| (!a.opens, &a.from, &a.to).cmp(&(!b.opens, &b.from, &b.to)));
    lines
}

/// Senders, and those whom each of them may reach.
fn alike(
    members: &[Vec<Guest<'_>>],
    pairs: BTreeMap<Party, BTreeSet<Party>>,
) -> Vec<(BTreeSet<Party>, BTreeSet<Party>)> {
    let is_alone = |party: &Party| match party {
        Party::Class(index) => members.get(*index).is_some_and(|guests| guests.len() == 1),
        Party::Other(_) => false,
    };
    let mut alike: BTreeMap<BTreeSet<Party>, BTreeSet<Party>> = BTreeMap::new();
    for (from, to) in pairs {
        let (mut guests, others): (BTreeSet<_>, BTreeSet<_>) =
            to.into_iter().partition(|party| matches!(party, Party::Class(_)));
        // A guest that is alone in its class is as good as among those that it
        // reaches.
        if is_alone(&from) && !guests.is_empty() {
            guests.insert(from.clone());
        }
        for to in [guests, others].into_iter().filter(|to| !to.is_empty()) {
            alike.entry(to).or_default().insert(from.clone());
        }
    }
    let own = |(mut to, from): (BTreeSet<Party>, BTreeSet<Party>)| {
        // And isn't, where it is the only one that does.
        if let Some(only) = from.first().filter(|only| from.len() == 1 && is_alone(only)) {
            to.remove(only);
        }
        (from, to)
    };
    alike.into_iter().map(own).collect()
}

/// Guests in as few words as there are, then others.
fn texts(members: &[Vec<Guest<'_>>], names: &Names<'_>, parties: &BTreeSet<Party>) -> Vec<String> {
    let mut guests = BTreeSet::new();
    let mut others = Vec::new();
    for party in parties {
        match party {
            Party::Class(index) => guests.extend(members.get(*index).into_iter().flatten().copied()),
            Party::Other(name) => others.push(name.clone()),
        }
    }
    names.brief(&guests).into_iter().chain(others).collect()
}

/// Several that each reach only their own are one line.
fn joined(mut lines: Vec<Line>) -> Vec<Line> {
    let mut own: BTreeMap<(bool, Both), Vec<String>> = BTreeMap::new();
    lines.retain(|line| {
        let alone = line.from.len() == 1 && line.from == line.to;
        if alone {
            let names = own.entry((line.opens, line.services.clone())).or_default();
            names.extend(line.from.iter().cloned());
        }
        !alone
    });
    lines.extend(own.into_iter().map(|((opens, services), from)| {
        let to = if from.len() == 1 { from.clone() } else { vec!["itself".into()] };
        Line { opens, from, to, services }
    }));
    lines
}
