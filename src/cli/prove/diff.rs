//! `hostctl prove diff OLD NEW`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hostctl::host::{self, Rules, read_generation};
use hostctl::prove::{Difference, Does};
use hostctl::shown;
use hostctl::spec::Checked;
use hostctl::topology::Topology;
use serde_json::{Value, json};

use crate::cli::explain::brief;
use crate::cli::spec::{SpecFile, load};
use crate::cli::terminal::{Tone, paint};
use crate::cli::{Context, Failure, line, output};

use super::told::{reasons, rule_json, rule_text};
use super::unproved;

#[derive(Debug, Args)]
pub struct Diff {
    /// The old rules: a host spec, a generation's number, or a file with what
    /// `nft -j list ruleset` printed.
    old: String,
    /// The new rules, likewise; default: those of /etc/hostctl/host.toml and its
    /// drop-ins.
    new: Option<String>,
    /// The new rules are those that the kernel has.
    #[arg(long, conflicts_with = "new")]
    live: bool,
}

/// A listing of a thousand networks with three guests each is some ten megabytes.
const LARGEST: u64 = 256 << 20;

/// One side, as it is named.
enum Side {
    Spec(Box<Checked<Topology>>, String),
    Generation(Box<Topology>, u64),
    Listing(Value, String),
    Live,
}

impl Side {
    fn of(context: &Context, word: Option<&str>) -> Result<Self, Failure> {
        if let Some(number) = word.and_then(|word| word.parse().ok()) {
            let topology = read_generation(&context.root, number)?.compile()?;
            return Ok(Self::Generation(Box::new(topology), number));
        }
        if let Some(word) = word
            && let Some(listing) = listing(Path::new(word))?
        {
            return Ok(Self::Listing(listing, word.into()));
        }
        let checked = load(context, &SpecFile { spec: word.map(PathBuf::from) })?;
        let called = word.map_or_else(|| context.root.host_spec().display().to_string(), String::from);
        Ok(Self::Spec(Box::new(checked), called))
    }

    fn topology(&self) -> Option<&Topology> {
        match self {
            Self::Spec(checked, _) => Some(&checked.compiled),
            Self::Generation(topology, _) => Some(topology),
            Self::Listing(..) | Self::Live => None,
        }
    }

    fn checked(&self) -> Option<&Checked<Topology>> {
        match self {
            Self::Spec(checked, _) => Some(checked),
            _ => None,
        }
    }

    /// What it is, and what it is called.
    fn called(&self, here: bool) -> (&'static str, String) {
        let loaded =
            if here { "as this host would load it" } else { "as a host with one uplink would load it" };
        match self {
            Self::Spec(_, name) => ("spec", format!("the spec {}, {loaded}", shown::line(name))),
            Self::Generation(_, number) => ("generation", format!("generation {number}, {loaded}")),
            Self::Listing(_, name) => ("listing", format!("nft's listing {}", shown::line(name))),
            Self::Live => ("kernel", "what the kernel has".into()),
        }
    }
}

/// What nft listed, where a file has that.
fn listing(path: &Path) -> Result<Option<Value>, Failure> {
    let called = shown::line(&path.display().to_string());
    let Ok(file) = std::fs::File::open(path) else { return Ok(None) };
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    // What can't be read as a spec either is said there.
    if read.is_err() && is_file {
        return Ok(None);
    }
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::other(format!("{called} is larger than {} MiB", LARGEST >> 20)));
    }
    let start = String::from_utf8_lossy(bytes.get(..4096).unwrap_or(&bytes)).into_owned();
    let parsed: Result<Value, _> = serde_json::from_slice(&bytes);
    match parsed {
        Ok(value) if value.get("nftables").is_some() => return Ok(Some(value)),
        Err(error) if start.trim_start().starts_with('{') && start.contains("\"nftables\"") => {
            return Err(Failure::other(format!("{called} is no whole listing of nft's: {error}")));
        }
        _ => {}
    }
    let mut lines = start.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if lines.next().is_some_and(|line| line.starts_with("table ") && line.ends_with('{')) {
        return Err(Failure::other(format!(
            "{called} is nft's text, which isn't read\n  hint: save nft's JSON: nft -j list ruleset > {called}"
        )));
    }
    if !is_file {
        return Err(Failure::other(format!("{called} is no listing of nft's, and a spec has to be a file")));
    }
    Ok(None)
}

pub async fn diff(context: &Context, arguments: &Diff) -> Result<ExitCode, Failure> {
    let old = Side::of(context, Some(&arguments.old))?;
    let new = if arguments.live { Side::Live } else { Side::of(context, arguments.new.as_deref())? };
    // Two specs are of any host; beside rules that some host has, a spec is what
    // this one would load.
    let here = old.topology().is_none() || new.topology().is_none();
    let [old_rules, new_rules] = both(context, (&old, &new), here).await?;
    if !context.json {
        line(format!("old: {}", old.called(here).1))?;
        line(format!("new: {}\n", new.called(here).1))?;
    }
    for (rules, side) in [(&old_rules, &old), (&new_rules, &new)] {
        let others: Vec<String> = rules.foreign().into_keys().collect();
        if !others.is_empty() {
            let (_, called) = side.called(here);
            context.note(format!("other programs' tables in {called} aren't followed: {}", brief(&others)));
        }
    }
    if here && !old_rules.are_hostctls() && !new_rules.are_hostctls() {
        return Err(Failure::other("nothing is proved: neither side has a table of hostctl's"));
    }
    let found = old_rules.difference(old.topology(), (&new_rules, new.topology()));
    let found = found.map_err(|unknown| unproved(&unknown))?;
    if found.is_empty() && old.topology().is_none() && new.topology().is_none() {
        others_are_the_same(&old_rules, &new_rules)?;
    }
    if context.json {
        let side = |side: &Side| {
            let (what, called) = side.called(here);
            json!({ "is": what, "called": called })
        };
        let packets: Vec<Value> = found.iter().map(|one| difference_json((&old, &new), one)).collect();
        let answer = if found.is_empty() { "equal" } else { "different" };
        output::json(&json!({
            "answer": answer, "old": side(&old), "new": side(&new), "packets": packets,
        }))?;
    } else {
        found.iter().try_for_each(|one| print((&old, &new), one))?;
    }
    if found.is_empty() {
        if !context.json {
            line(paint("no packet differs", Tone::Good))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let count = output::count(found.len(), "kind");
    Err(Failure::Found(format!("they don't do the same with {count} of packets")))
}

async fn both(context: &Context, (old, new): (&Side, &Side), here: bool) -> Result<[Rules; 2], Failure> {
    if let (Some(old), Some(new), false) = (old.topology(), new.topology(), here) {
        return Ok(Rules::assumed_both(old, new)?);
    }
    let mut found = Vec::new();
    let (known, empty) = (old.topology().or(new.topology()), Topology::empty());
    for side in [old, new] {
        found.push(match side {
            Side::Listing(listing, _) => Rules::saved(listing.clone()),
            Side::Live => host::Rules::loaded(&context.root, known.unwrap_or(&empty)).await?,
            Side::Spec(checked, _) => host::Rules::here(&context.root, &checked.compiled).await?,
            Side::Generation(topology, _) => host::Rules::here(&context.root, topology).await?,
        });
    }
    let two: Result<[Rules; 2], _> = found.try_into();
    two.map_err(|_| Failure::other("two sides are compared"))
}

/// Where hostctl's tables do the same, so does the whole as long as others' tables
/// are the same.
fn others_are_the_same(old: &Rules, new: &Rules) -> Result<(), Failure> {
    let (old, new) = (old.foreign(), new.foreign());
    let names = old.keys().chain(new.keys()).collect::<std::collections::BTreeSet<_>>();
    let differ: Vec<String> =
        names.into_iter().filter(|name| old.get(*name) != new.get(*name)).cloned().collect();
    if differ.is_empty() {
        return Ok(());
    }
    Err(Failure::other(format!(
        "nothing is proved: hostctl's tables do the same with every packet, but other programs' tables aren't the \
         same, and they aren't followed: {}",
        brief(&differ)
    )))
}

fn print((old, new): (&Side, &Side), found: &Difference) -> Result<(), Failure> {
    line(shown::line(&found.packet.to_string()))?;
    for (name, side, does) in [("old", old, &found.old), ("new", new, &found.new)] {
        line(format!("  {name} {}: {}", does.outcome.as_str(), rule_text(does.rule.as_ref())))?;
        if let Some(model) = &does.model {
            let reasons = reasons(side.checked(), model);
            reasons.iter().try_for_each(|reason| line(format!("      {reason}")))?;
        }
    }
    if !found.also_from.is_empty() {
        line(format!("  also from {}", shown::line(&brief(&found.also_from))))?;
    }
    line("")
}

fn difference_json((old, new): (&Side, &Side), found: &Difference) -> Value {
    let does = |side: &Side, does: &Does| {
        json!({
            "does": does.outcome.as_str(),
            "rule": does.rule.as_ref().map(rule_json),
            "why": does.model.as_ref().map(|model| reasons(side.checked(), model)),
        })
    };
    json!({
        "packet": found.packet.to_string(),
        "old": does(old, &found.old),
        "new": does(new, &found.new),
        "also_from": found.also_from,
    })
}
