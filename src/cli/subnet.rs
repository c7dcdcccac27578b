//! `hostctl subnet …`.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand, ValueEnum};
use hostctl::spec::{
    Checked, Cidr4, Cidr6, LimitOverrides, Name, SpecEdit, Subnet, SubnetKind, find_network,
};
use hostctl::topology::Topology;
use serde::Serialize;

use super::change::{Deletion, How, change, cidr, cidr6, delete, name};
use super::spec::load_default;
use super::{Context, Failure, line, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a subnet to a network, with a namespace `VPC-NAME`.
    ///
    /// The namespace has the subnet's second host address, unless another is
    /// named. Where all of it is there as asked, nothing is done. Needs root.
    #[command(visible_alias = "create")]
    Add(Add),
    /// List subnets.
    #[command(visible_alias = "ls")]
    List(List),
    /// Delete a subnet, its namespace and its policy.
    ///
    /// Whatever runs in its namespace is ended. Needs root.
    #[command(visible_alias = "rm", alias = "remove")]
    Delete(Delete),
}

#[derive(Debug, Args)]
pub struct Add {
    /// The network's name.
    #[arg(long)]
    vpc: String,
    /// The subnet's name.
    #[arg(long, value_parser = name)]
    name: Name,
    /// Its IPv4 prefix, within the network's.
    #[arg(long, value_parser = cidr)]
    cidr: Cidr4,
    /// Its IPv6 prefix, within the network's.
    #[arg(long, value_parser = cidr6)]
    cidr6: Option<Cidr6>,
    /// Whether it may go out where its network has NAT.
    #[arg(long = "type", value_enum, default_value = "private")]
    kind: Kind,
    /// The namespace's IPv4 address; default: the second host address.
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// The namespace's IPv6 address; default: likewise.
    #[arg(long)]
    address6: Option<Ipv6Addr>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Public,
    Private,
}

#[derive(Debug, Args)]
pub struct List {
    /// Only those of this network.
    #[arg(long)]
    vpc: Option<String>,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// The network's name.
    #[arg(long)]
    vpc: String,
    /// The subnet's name.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    deletion: Deletion,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Add(Add { vpc, name, cidr, cidr6, kind, address, address6, how }) => {
            let kind = match kind {
                Kind::Public => SubnetKind::Public,
                Kind::Private => SubnetKind::Private,
            };
            let subnet = Subnet {
                cidr,
                cidr6,
                kind,
                policy: None,
                namespace: true,
                address,
                address6,
                limits: LimitOverrides::default(),
            };
            let subnet = Box::new(subnet);
            change(context, &how, &SpecEdit::AddSubnet { network: vpc, name, subnet }).await
        }
        Command::Delete(Delete { vpc, name, deletion }) => {
            delete(context, &deletion, SpecEdit::DeleteSubnet { network: vpc, name }).await
        }
        Command::List(List { vpc }) => {
            let checked = load_default(context)?;
            if let Some(vpc) = &vpc {
                find_network(&checked.spec, vpc)?;
            }
            let rows = subnet_rows(&checked, vpc.as_deref());
            if context.json {
                return output::json(&rows);
            }
            if rows.is_empty() { line("no subnets") } else { print(&rows) }
        }
    }
}

/// A subnet in a list.
#[derive(Debug, Serialize)]
pub struct Row {
    vpc: String,
    name: String,
    cidr: String,
    cidr6: Option<String>,
    #[serde(rename = "type")]
    kind: SubnetKind,
    namespace: Option<String>,
    address: Option<String>,
    policy: Vec<String>,
}

/// The subnets that are written, of `network` or of all.
pub fn subnet_rows(checked: &Checked<Topology>, network: Option<&str>) -> Vec<Row> {
    let networks =
        checked.spec.networks.iter().filter(|(name, _)| network.is_none_or(|wanted| wanted == *name));
    let mut rows = Vec::new();
    for (vpc, network) in networks {
        for (name, subnet) in &network.subnets {
            let port = |namespace: &&hostctl::topology::Namespace| {
                namespace.port.network.as_str() == vpc && namespace.port.subnet.as_str() == name
            };
            let namespace = checked.compiled.namespaces.iter().find(port);
            let policy = subnet.policy.as_ref().or(network.policy.as_ref());
            rows.push(Row {
                vpc: vpc.clone(),
                name: name.clone(),
                cidr: subnet.cidr.to_string(),
                cidr6: subnet.cidr6.map(|cidr| cidr.to_string()),
                kind: subnet.kind,
                namespace: namespace.map(|namespace| namespace.name.to_string()),
                address: namespace.map(|namespace| namespace.port.address.to_string()),
                policy: policy.iter().flat_map(|names| names.as_slice()).map(ToString::to_string).collect(),
            });
        }
    }
    rows
}

/// Prints subnets as a table.
pub fn print(rows: &[Row]) -> Result<(), Failure> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let rows = rows.iter().map(|row| {
        let kind = match row.kind {
            SubnetKind::Public => "public",
            SubnetKind::Private => "private",
        };
        let policy = if row.policy.is_empty() { "-".into() } else { row.policy.join(" ") };
        let (vpc, name, cidr) = (row.vpc.clone(), row.name.clone(), row.cidr.clone());
        [vpc, name, cidr, kind.into(), or_none(&row.namespace), or_none(&row.address), policy]
    });
    output::table(&["VPC", "SUBNET", "CIDR", "TYPE", "NAMESPACE", "ADDRESS", "POLICY"], rows)
}
