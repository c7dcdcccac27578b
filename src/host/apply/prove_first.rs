//! Rules that are loaded only once they are proved, where somebody asks for it.

use std::time::Instant;

use crate::firewall::Surroundings;
use crate::host::HostError;
use crate::host::look::proof::Rules;
use crate::topology::Topology;

use super::watch::Watch;

/// Proves what would be loaded, where `watch` asks for it.
///
/// # Errors
/// Where it isn't equal to what the spec says, or nobody can say.
pub(in crate::host) fn prove_first(
    topology: &Topology,
    surroundings: &Surroundings,
    watch: &mut dyn Watch,
) -> Result<(), HostError> {
    if !watch.proves() {
        return Ok(());
    }
    let begun = Instant::now();
    let extent = Rules::in_surroundings(topology, surroundings.clone())?.proved(topology)?;
    watch.proved(&extent, begun.elapsed());
    Ok(())
}
