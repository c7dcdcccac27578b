//! Whether the firewall does with every packet what the spec says: that of a
//! spec, and that which the kernel has.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::firewall::{Ruleset, Surroundings, nft, render};
use crate::prove::{Answer, Unknown, prove};
use crate::reach::{Model, Vicinity};
use crate::root_dir::RootDir;
use crate::topology::{IfName, Topology};

use super::super::HostError;
use super::super::apply::observe::observe_surroundings;

/// Proves what would be loaded for a topology, on a host as it most often is.
///
/// # Errors
/// Where nft or the kernel doesn't take it.
pub fn prove_spec(topology: &Topology) -> Result<Answer, HostError> {
    let vicinity = Vicinity::assumed(topology);
    let surroundings = Surroundings {
        uplinks: vicinity.uplinks.clone(),
        indices: numbered(topology, &vicinity),
        ..Surroundings::default()
    };
    let text = render(&Ruleset::new(topology, &surroundings)?)?;
    Ok(proved(topology, &vicinity, &nft::rehearse_json(&text)?, &surroundings.indices))
}

/// Proves what the kernel has, for a topology on this host.
///
/// # Errors
/// Where nft or the kernel doesn't answer.
pub async fn prove_live(root: &RootDir, topology: &Topology) -> Result<Answer, HostError> {
    let surroundings = observe_surroundings(root, topology).await?;
    let vicinity = Vicinity {
        uplinks: surroundings.uplinks,
        opened: surroundings.opened,
        closed6: surroundings.closed6,
        on_link: surroundings.on_link,
        ..Vicinity::default()
    };
    Ok(proved(topology, &vicinity, &nft::list_json()?, &surroundings.indices))
}

/// Numbers that links might have.
fn numbered(topology: &Topology, vicinity: &Vicinity) -> BTreeMap<IfName, u32> {
    topology.exits(&vicinity.uplinks).into_iter().zip(1000..).collect()
}

fn proved(
    topology: &Topology,
    vicinity: &Vicinity,
    listing: &str,
    indices: &BTreeMap<IfName, u32>,
) -> Answer {
    match serde_json::from_str::<Value>(listing) {
        Ok(listing) => prove(&Model::new(topology, vicinity), &listing, indices),
        Err(error) => Answer::Unknown(Unknown(format!("nft's listing: {error}"))),
    }
}
