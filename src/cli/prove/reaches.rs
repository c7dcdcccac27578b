//! `hostctl prove reaches TARGET`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use hostctl::packet::{Family, Range};
use hostctl::prove::{HeaderBox, Reacher, Target, services_text, target_of};
use hostctl::reach::{End, EndError, Model};
use hostctl::shown;
use hostctl::topology::{Port, Topology};
use serde_json::{Value, json};

use crate::cli::explain::Which;
use crate::cli::spec::{SpecFile, load};
use crate::cli::{Context, Failure, line, output};

use super::pair::family_text;
use super::told::{rule_json, rule_text};
use super::{rules, unproved};

#[derive(Debug, Args)]
pub struct Reaches {
    /// Who is reached: a guest, a network, a subnet (NETWORK/SUBNET), an address,
    /// host, internet, tailnet or imds, as `hostctl explain` calls them.
    target: String,
    /// The host spec, TOML or JSON; default: /etc/hostctl/host.toml. Drop-ins of
    /// /var/lib/hostctl/host.d are merged into it.
    spec: Option<PathBuf>,
    /// By the rules that the kernel has, not by those that would be loaded.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    which: Which,
}

pub async fn reaches(context: &Context, arguments: &Reaches) -> Result<(), Failure> {
    let service = arguments.which.service()?;
    let checked = load(context, &SpecFile { spec: arguments.spec.clone() })?;
    let topology = &checked.compiled;
    let end = End::receiver(topology, &arguments.target)
        .map_err(|error: EndError| Failure::other(error.to_string()))?;
    let families = arguments.which.families_of(&[end.family])?;
    let rules = rules(context, &checked, arguments.live).await?;
    let model = Model::new(topology, &rules.vicinity);
    let target = target(&model, &end)
        .ok_or_else(|| Failure::other(format!("{}: the host has no way there", end.name)))?;
    let mut found = rules.reaches(topology, (&target, service)).map_err(|unknown| unproved(&unknown))?;
    found.retain(|reacher| families.contains(&reacher.family));
    let names = Addresses::new(topology);
    if context.json {
        let found: Vec<Value> = found.iter().flat_map(|reacher| reacher_json(&names, reacher)).collect();
        return output::json(&json!({ "target": end.name, "reached_by": found }));
    }
    if found.is_empty() {
        return line(format!("nobody reaches {}", end.name));
    }
    print(&names, &families, &found)
}

/// All that an end is.
fn target(model: &Model<'_>, end: &End<'_>) -> Option<Target> {
    let mut targets: Vec<Target> = end.sides().filter_map(|(_, side)| target_of(model, side)).collect();
    if targets.len() == 1 {
        return targets.pop();
    }
    let addresses = targets.into_iter().flat_map(|target| match target {
        Target::Addresses(addresses) => addresses,
        _ => Vec::new(),
    });
    Some(Target::Addresses(addresses.collect())).filter(|target| *target != Target::Addresses(Vec::new()))
}

fn print(names: &Addresses<'_>, families: &[Family], found: &[Reacher]) -> Result<(), Failure> {
    for family in families {
        let of = found.iter().filter(|reacher| reacher.family == *family);
        for (number, reacher) in of.enumerate() {
            if number == 0 {
                line(family_text(*family))?;
            }
            for (one, boxes) in group(&reacher.boxes) {
                let who = who(names, reacher, one);
                let to = names.text(*family, &one.destinations).map(|text| format!(" to {text}"));
                line(format!("  {who}: {}{}", services_text(*family, boxes), to.unwrap_or_default()))?;
            }
            line(format!("    rule  {}", rule_text(reacher.rule.as_ref())))?;
        }
    }
    Ok(())
}

/// Who sends: guests by their names, else who is behind a link.
fn who(names: &Addresses<'_>, reacher: &Reacher, one: &HeaderBox) -> String {
    let Some(link) = &reacher.from else { return "the host".into() };
    let link = shown::line(link);
    match names.text(reacher.family, &one.sources) {
        Some(text) => format!("{text} by {link}"),
        None => format!("anybody by {link}"),
    }
}

fn reacher_json(names: &Addresses<'_>, reacher: &Reacher) -> Vec<Value> {
    let groups = group(&reacher.boxes).into_iter().map(|(one, boxes)| {
        let packets = boxes
            .iter()
            .map(|one| json!({ "protocols": one.protocols, "ports": one.ports, "types": one.types }));
        json!({
            "from": reacher.from,
            "family": reacher.family,
            "sources": names.ranges(reacher.family, &one.sources),
            "destinations": names.ranges(reacher.family, &one.destinations),
            "services": services_text(reacher.family, boxes.iter().copied()),
            "packets": packets.collect::<Vec<_>>(),
            "rule": reacher.rule.as_ref().map(rule_json),
        })
    });
    groups.collect()
}

/// Boxes that differ in nothing but protocols, ports and types, together.
pub fn group(boxes: &[HeaderBox]) -> Vec<(&HeaderBox, Vec<&HeaderBox>)> {
    let mut found: Vec<(&HeaderBox, Vec<&HeaderBox>)> = Vec::new();
    let ends = |one: &HeaderBox| (one.sources.clone(), one.destinations.clone(), one.tracked.clone());
    for one in boxes {
        match found.iter_mut().find(|(other, _)| ends(other) == ends(one)) {
            Some((_, all)) => all.push(one),
            None => found.push((one, vec![one])),
        }
    }
    found
}

/// The first of many.
fn few(words: &[String]) -> String {
    const MOST: usize = 4;
    let text = words.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match words.len().saturating_sub(MOST) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Whose addresses are whose.
pub struct Addresses<'t>(BTreeMap<IpAddr, &'t str>);

impl<'t> Addresses<'t> {
    pub fn new(topology: &'t Topology) -> Self {
        fn both<'t>(name: &'t str, port: &'t Port) -> impl Iterator<Item = (IpAddr, &'t str)> {
            let v6 = port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]).map(IpAddr::V6);
            [IpAddr::V4(port.address)].into_iter().chain(v6).map(move |address| (address, name))
        }
        let vms = topology.vms.iter().flat_map(|vm| both(vm.name.as_str(), &vm.port));
        let namespaces = topology.namespaces.iter();
        let namespaces = namespaces.flat_map(|namespace| both(namespace.name.as_str(), &namespace.port));
        Self(vms.chain(namespaces).collect())
    }

    /// Guests by their names, others by their prefixes; none where nothing is
    /// told of them.
    pub fn text(&self, family: Family, ranges: &[Range]) -> Option<String> {
        match ranges {
            [] => None,
            [(0 | 1, last)] if *last == family.last() => None,
            ranges => Some(few(&self.words(family, ranges))),
        }
    }

    fn words(&self, family: Family, ranges: &[Range]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for range in ranges {
            let guest = (range.0 == range.1).then(|| self.0.get(&family.address(range.0))).flatten();
            let word = guest.map_or_else(|| family.text(*range), |name| (*name).to_string());
            if !found.contains(&word) {
                found.push(word);
            }
        }
        found
    }

    /// As they are written.
    pub fn ranges(&self, family: Family, ranges: &[Range]) -> Vec<String> {
        ranges.iter().map(|range| family.text(*range)).collect()
    }
}
