//! `hostctl peer …`.

use clap::{Args, Subcommand};
use hostctl::spec::{Name, SpecEdit};
use serde_json::json;

use super::change::{Deletion, How, change, delete, name};
use super::spec::load_default;
use super::{Context, Failure, line, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let two networks talk to each other; their other peers are not included.
    ///
    /// Where they are peered already, nothing is done. Needs root.
    #[command(visible_alias = "add")]
    Create(Create),
    /// List peerings.
    #[command(visible_alias = "ls")]
    List,
    /// Let two networks not talk to each other any more.
    ///
    /// Flows that are open are cut. Needs root.
    #[command(visible_alias = "rm", alias = "remove")]
    Delete(Delete),
}

#[derive(Debug, Args)]
pub struct Create {
    /// One network's name.
    #[arg(long, value_parser = name)]
    vpc1: Name,
    /// The other's.
    #[arg(long, value_parser = name)]
    vpc2: Name,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// One network's name.
    #[arg(long)]
    vpc1: String,
    /// The other's.
    #[arg(long)]
    vpc2: String,
    #[command(flatten)]
    deletion: Deletion,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(Create { vpc1, vpc2, how }) => {
            change(context, &how, &SpecEdit::CreatePeering { between: [vpc1, vpc2] }).await
        }
        Command::Delete(Delete { vpc1, vpc2, deletion }) => {
            delete(context, &deletion, SpecEdit::DeletePeering { between: [vpc1, vpc2] }).await
        }
        Command::List => list(context),
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let topology = load_default(context)?.compiled;
    let cidr = |name: &Name| topology.network(name).map(|one| one.cidr.to_string()).unwrap_or_default();
    if context.json {
        let peerings = topology
            .peerings
            .iter()
            .map(|(a, b)| json!({ "vpc1": a, "cidr1": cidr(a), "vpc2": b, "cidr2": cidr(b) }));
        return output::json(&peerings.collect::<Vec<_>>());
    }
    if topology.peerings.is_empty() {
        return line("no peerings");
    }
    let rows = topology.peerings.iter().map(|(a, b)| [a.to_string(), cidr(a), b.to_string(), cidr(b)]);
    output::table(&["VPC1", "CIDR1", "VPC2", "CIDR2"], rows)
}
