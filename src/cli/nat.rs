//! `hostctl nat …`.

use clap::{Args, Subcommand};
use hostctl::spec::{IfName, SpecEdit};

use super::change::{How, change, interface};
use super::{Context, Failure};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let a network's public subnets go out, masqueraded.
    ///
    /// Private subnets never do. Needs root.
    #[command(visible_alias = "on")]
    Enable(Enable),
    /// Let a network's public subnets not go out any more.
    ///
    /// Flows that are open are cut. Needs root.
    #[command(visible_alias = "off")]
    Disable(Disable),
}

#[derive(Debug, Args)]
pub struct Enable {
    /// The network's name.
    #[arg(long)]
    vpc: String,
    /// The interface that they go out by.
    #[arg(long, value_parser = interface)]
    interface: IfName,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub struct Disable {
    /// The network's name.
    #[arg(long)]
    vpc: String,
    #[command(flatten)]
    how: How,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let (how, network, interface) = match command {
        Command::Enable(Enable { vpc, interface, how }) => (how, vpc, Some(interface)),
        Command::Disable(Disable { vpc, how }) => (how, vpc, None),
    };
    change(context, &how, &SpecEdit::SetNat { network, interface }).await
}
