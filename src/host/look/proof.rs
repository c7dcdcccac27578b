//! Whether the firewall does with every packet what the spec says: that of a
//! spec, that which the kernel has, and that which was saved.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::firewall::{NftError, Ruleset, Surroundings, nft, render};
use crate::prove::template::{self, Parts, Schematic, template};
use crate::prove::{self, Answer, Class, Difference, Extent, Pair, Reacher, Target, Unknown};
use crate::reach::{Model, Service, Vicinity};
use crate::root_dir::RootDir;
use crate::topology::{IfName, Topology};

use super::super::HostError;
use super::super::apply::observe::observe_surroundings;

/// Rules as nft lists them, and the host that they are for.
#[derive(Debug)]
pub struct Rules {
    listing: Value,
    /// As they are loaded, where that is known.
    text: String,
    /// What is known of the host.
    pub vicinity: Vicinity,
    indices: BTreeMap<IfName, u32>,
}

impl Rules {
    /// Those that would be loaded for a topology on a host as it most often is.
    ///
    /// # Errors
    /// Where nft or the kernel doesn't take them.
    pub fn assumed(topology: &Topology) -> Result<Self, HostError> {
        Self::numbered(topology, &exits(topology).into_iter().zip(FIRST..).collect())
    }

    /// As [`Self::assumed`], where links have these numbers.
    fn numbered(topology: &Topology, numbers: &BTreeMap<IfName, u32>) -> Result<Self, HostError> {
        let vicinity = Vicinity::assumed(topology);
        let own = exits(topology);
        let indices = numbers.iter().filter(|(name, _)| own.contains(name));
        let surroundings = Surroundings {
            uplinks: vicinity.uplinks.clone(),
            indices: indices.map(|(name, number)| (name.clone(), *number)).collect(),
            ..Surroundings::default()
        };
        let (listing, text) = rehearsed(topology, &surroundings)?;
        Ok(Self { listing, text, vicinity, indices: surroundings.indices })
    }

    /// Those that would be loaded for two topologies, by one another's links.
    ///
    /// # Errors
    /// As [`Self::assumed`].
    pub fn assumed_both(old: &Topology, new: &Topology) -> Result<[Self; 2], HostError> {
        let all: std::collections::BTreeSet<_> = exits(old).into_iter().chain(exits(new)).collect();
        let numbers = all.into_iter().zip(FIRST..).collect();
        Ok([Self::numbered(old, &numbers)?, Self::numbered(new, &numbers)?])
    }

    /// Those that would be loaded for a topology on this host.
    ///
    /// # Errors
    /// Where nft or the kernel doesn't answer, or doesn't take them.
    pub async fn here(root: &RootDir, topology: &Topology) -> Result<Self, HostError> {
        let surroundings = observe_surroundings(root, topology).await?;
        Self::in_surroundings(topology, surroundings)
    }

    /// Those that would be loaded for a topology, in these surroundings.
    ///
    /// # Errors
    /// Where nft or the kernel doesn't take them.
    pub fn in_surroundings(topology: &Topology, surroundings: Surroundings) -> Result<Self, HostError> {
        Ok(Self::of(rehearsed(topology, &surroundings)?, surroundings))
    }

    /// Those that the kernel has, on this host.
    ///
    /// # Errors
    /// Where nft or the kernel doesn't answer.
    pub async fn loaded(root: &RootDir, topology: &Topology) -> Result<Self, HostError> {
        let surroundings = observe_surroundings(root, topology).await?;
        // Only for who sends packets through them again.
        let text = nft::list_text().unwrap_or_default();
        Ok(Self::of((parsed(&nft::list_json()?)?, text), surroundings))
    }

    /// Those that somebody saved; `nft -j list ruleset` printed them.
    pub fn saved(listing: Value) -> Self {
        let (text, vicinity, indices) = (String::new(), Vicinity::default(), BTreeMap::new());
        Self { listing, text, vicinity, indices }
    }

    fn of((listing, text): (Value, String), surroundings: Surroundings) -> Self {
        let Surroundings { uplinks, opened, closed6, indices, on_link, guarded: _ } = surroundings;
        let vicinity = Vicinity { uplinks, opened, closed6, on_link, ..Vicinity::default() };
        Self { listing, text, vicinity, indices }
    }

    /// What becomes of a packet that is really sent through them, in a namespace of
    /// its own.
    ///
    /// # Errors
    /// Where it can't be sent alone, or doesn't come to the rules.
    #[cfg(feature = "testbed")]
    pub fn replay(&self, packet: &prove::Packet) -> Result<prove::Outcome, crate::testbed::Unreplayed> {
        let links: Vec<IfName> = self.indices.keys().cloned().collect();
        crate::testbed::replay(&self.text, &self.indices, &links, packet)
    }

    /// As they are loaded, in nft's text; nothing where they were saved.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether they do with every packet what a topology says.
    pub fn prove(&self, topology: &Topology) -> Answer {
        prove::prove(&Model::new(topology, &self.vicinity), &self.listing, &self.indices)
    }

    /// How much was looked at, where they do with every packet what a topology says.
    ///
    /// # Errors
    /// Where they don't, or nobody can say.
    pub fn proved(&self, topology: &Topology) -> Result<Extent, HostError> {
        match self.prove(topology) {
            Answer::Equal(extent) => Ok(extent),
            answer => Err(HostError::Unproved(Box::new(answer))),
        }
    }

    /// Who reaches a target, with a service.
    ///
    /// # Errors
    /// Names what isn't known of them.
    pub fn reaches(
        &self,
        topology: &Topology,
        asked: (&Target, Option<Service>),
    ) -> Result<Vec<Reacher>, Unknown> {
        prove::reaches(&Model::new(topology, &self.vicinity), &self.listing, &self.indices, asked)
    }

    /// What is done with a pair's packets, and why.
    ///
    /// # Errors
    /// Names what isn't known of them.
    pub fn why(&self, topology: &Topology, pair: Pair<'_>) -> Result<Vec<Class>, Unknown> {
        prove::why(&Model::new(topology, &self.vicinity), &self.listing, &self.indices, pair)
    }

    /// With which packets they don't do the same as others; a spec's with what it
    /// says.
    ///
    /// # Errors
    /// Names what isn't known of them, or of the others.
    pub fn difference(
        &self,
        topology: Option<&Topology>,
        (new, new_topology): (&Self, Option<&Topology>),
    ) -> Result<Vec<Difference>, Unknown> {
        let indices: BTreeMap<IfName, u32> =
            self.indices.iter().chain(&new.indices).map(|(name, number)| (name.clone(), *number)).collect();
        let models = [topology.map(|topology| Model::new(topology, &self.vicinity)), {
            new_topology.map(|topology| Model::new(topology, &new.vicinity))
        }];
        let [old_model, new_model] = models.each_ref().map(Option::as_ref);
        let old = prove::Side { model: old_model, listing: &self.listing };
        let new = prove::Side { model: new_model, listing: &new.listing };
        prove::difference((old, new), &indices)
    }

    /// Other programs' tables among them, each with what is in it, without
    /// handles and counters.
    pub fn foreign(&self) -> BTreeMap<String, Vec<Value>> {
        prove::foreign(&self.listing)
    }

    /// Whether a table of hostctl's is among them.
    pub fn are_hostctls(&self) -> bool {
        prove::has_own(&self.listing)
    }
}

/// The first number that a link might have.
const FIRST: u32 = 1000;

/// The links that guests' packets go out by, on a host as it most often is.
fn exits(topology: &Topology) -> std::collections::BTreeSet<IfName> {
    topology.exits(&Vicinity::assumed(topology).uplinks).into_iter().collect()
}

fn rehearsed(topology: &Topology, surroundings: &Surroundings) -> Result<(Value, String), HostError> {
    let text = render(&Ruleset::new(topology, surroundings)?)?;
    Ok((parsed(&nft::rehearse_json(&text)?)?, text))
}

fn parsed(listing: &str) -> Result<Value, HostError> {
    serde_json::from_str(listing).map_err(|error| NftError::unexpected(&error).into())
}

/// Proves what would be loaded for a topology, on a host as it most often is.
///
/// # Errors
/// Where nft or the kernel doesn't take it.
pub fn prove_spec(topology: &Topology) -> Result<Answer, HostError> {
    Ok(Rules::assumed(topology)?.prove(topology))
}

/// Proves what the kernel has, for a topology on this host.
///
/// # Errors
/// Where nft or the kernel doesn't answer.
pub async fn prove_live(root: &RootDir, topology: &Topology) -> Result<Answer, HostError> {
    Ok(Rules::loaded(root, topology).await?.prove(topology))
}

/// Proves the template with these parts for every host, whatever its sets hold.
///
/// # Errors
/// Where nft or the kernel doesn't take it.
pub fn prove_template(parts: Parts) -> Result<template::Answer, HostError> {
    let host = match Schematic::new(parts) {
        Ok(host) => host,
        Err(unknown) => return Ok(template::Answer::Unknown(unknown)),
    };
    let surroundings = Surroundings {
        uplinks: host.vicinity.uplinks.clone(),
        indices: host.indices.clone(),
        ..Surroundings::default()
    };
    Ok(template(&host, &rehearsed(&host.topology, &surroundings)?.0))
}
