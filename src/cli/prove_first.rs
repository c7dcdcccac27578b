//! `--prove`: for commands that load rules.

use clap::Args;
use hostctl::host::Rules;
use hostctl::prove::Extent;
use hostctl::topology::Topology;

use super::{Context, Failure};

/// Whether rules are loaded only where they are proved.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Prove {
    /// Change nothing unless the rules that would be loaded are proved to do with
    /// every packet what the spec says, as `hostctl prove` proves it.
    #[arg(long)]
    pub prove: bool,
}

impl Prove {
    /// Proves what would be loaded on this host, where that is asked for: for who
    /// changes nothing.
    ///
    /// # Errors
    /// Where it isn't equal, or nobody can say.
    pub async fn rehearsed(
        self,
        context: &Context,
        topology: &Topology,
    ) -> Result<Option<Extent>, hostctl::host::HostError> {
        match self.prove {
            true => Rules::here(&context.root, topology).await?.proved(topology).map(Some),
            false => Ok(None),
        }
    }
}

/// A proof that was asked for, in words.
pub fn told(extent: &Extent) -> Result<(), Failure> {
    super::line(format!("\nproved: equal for every packet, {} rules decide", extent.rules.len()))
}
