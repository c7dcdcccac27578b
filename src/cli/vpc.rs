//! `hostctl vpc …`.

use clap::{Args, Subcommand};
use hostctl::link::namespace;
use hostctl::spec::{Checked, Cidr4, Cidr6, Name, SpecEdit, SpecPath, find_network, find_subnet};
use hostctl::topology::{NamespaceName, Nat, Network, Topology};
use serde_json::{Value, json};

use super::change::{Deletion, How, change, cidr, cidr6, delete, name};
use super::spec::load_default;
use super::subnet::subnet_rows;
use super::{Context, Failure, line, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a network.
    ///
    /// It begins without subnets and without a way out; `hostctl nat enable`
    /// gives it one. Where it is there as asked, nothing is done. Needs root.
    #[command(visible_alias = "add")]
    Create(Create),
    /// List networks.
    #[command(visible_alias = "ls")]
    List,
    /// Show a network, its subnets and its peerings.
    Show(Show),
    /// Delete a network with its subnets, apps, policies and peerings.
    ///
    /// Whatever runs in its namespaces is ended. Needs root.
    #[command(visible_alias = "rm", alias = "remove")]
    Delete(Delete),
    /// Run a program in a subnet's namespace, as `ip netns exec` does.
    ///
    /// The exit code is the program's. Needs root.
    Exec(Exec),
}

#[derive(Debug, Args)]
pub struct Create {
    /// Its name.
    #[arg(long, value_parser = name)]
    name: Name,
    /// Its IPv4 prefix; the first host address is the gateway's.
    #[arg(long, value_parser = cidr)]
    cidr: Cidr4,
    /// Its IPv6 prefix.
    #[arg(long, value_parser = cidr6)]
    cidr6: Option<Cidr6>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub struct Show {
    /// Its name.
    #[arg(long)]
    name: String,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Its name.
    #[arg(long)]
    name: String,
    /// Also where it is peered with a network that commands didn't make.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    deletion: Deletion,
}

#[derive(Debug, Args)]
pub struct Exec {
    /// The network's name.
    #[arg(long)]
    vpc: String,
    /// The subnet's name.
    #[arg(long)]
    subnet: String,
    /// The program, and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(Create { name, cidr, cidr6, how }) => {
            change(context, &how, &SpecEdit::CreateNetwork { name, cidr, cidr6 }).await
        }
        Command::Delete(Delete { name, force, deletion }) => {
            delete(context, &deletion, SpecEdit::DeleteNetwork { name, force }).await
        }
        Command::List => list(context),
        Command::Show(arguments) => show(context, &arguments.name),
        Command::Exec(arguments) => exec(context, &arguments),
    }
}

fn nat(network: &Network) -> String {
    match &network.nat {
        Nat::Uplinks => "uplinks".into(),
        Nat::Off => "-".into(),
        Nat::Named(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

/// Subnets that are written; one that only covers the network isn't.
fn subnets(checked: &Checked<Topology>, network: &Network) -> usize {
    checked.spec.networks.get(network.name.as_str()).map_or(0, |network| network.subnets.len())
}

fn origin(checked: &Checked<Topology>, network: &Network) -> String {
    let path = SpecPath::keys(["networks", network.name.as_str()]);
    checked.sources.origin(&path).map(|file| file.display().to_string()).unwrap_or_default()
}

fn peers(topology: &Topology, network: &Network) -> Vec<String> {
    let peers = topology.peerings.iter().filter_map(|(a, b)| match &network.name {
        name if name == a => Some(b.to_string()),
        name if name == b => Some(a.to_string()),
        _ => None,
    });
    peers.collect()
}

fn as_json(checked: &Checked<Topology>, network: &Network) -> Value {
    json!({
        "name": network.name,
        "cidr": network.cidr,
        "cidr6": network.cidr6,
        "bridge": network.bridge,
        "gateway": network.gateway,
        "gateway6": network.gateway6,
        "nat": network.nat,
        "peers": peers(&checked.compiled, network),
        "subnets": subnets(checked, network),
        "file": origin(checked, network),
    })
}

fn list(context: &Context) -> Result<(), Failure> {
    let checked = load_default(context)?;
    let networks = &checked.compiled.networks;
    if context.json {
        return output::json(&networks.iter().map(|one| as_json(&checked, one)).collect::<Vec<_>>());
    }
    if networks.is_empty() {
        return line("no networks");
    }
    let rows = networks.iter().map(|network| {
        let cidr6 = network.cidr6.map_or("-".into(), |cidr| cidr.to_string());
        let peers = match peers(&checked.compiled, network) {
            peers if peers.is_empty() => "-".into(),
            peers => peers.join(" "),
        };
        let (name, cidr, bridge) =
            (network.name.to_string(), network.cidr.to_string(), network.bridge.to_string());
        [name, cidr, cidr6, bridge, subnets(&checked, network).to_string(), nat(network), peers]
    });
    output::table(&["VPC", "CIDR", "CIDR6", "BRIDGE", "SUBNETS", "NAT", "PEERS"], rows)
}

fn show(context: &Context, name: &str) -> Result<(), Failure> {
    let checked = load_default(context)?;
    let (topology, spec) = (&checked.compiled, &checked.spec);
    find_network(spec, name)?;
    let Some(network) = topology.networks.iter().find(|network| network.name.as_str() == name) else {
        return Ok(());
    };
    let rows = subnet_rows(&checked, Some(name));
    if context.json {
        let mut value = as_json(&checked, network);
        if let Some(value) = value.as_object_mut() {
            value.insert("subnets".into(), json!(rows));
        }
        return output::json(&value);
    }
    let peers = peers(topology, network);
    let or_none = |text: String| if text.is_empty() { "-".into() } else { text };
    for (key, value) in [
        ("name", network.name.to_string()),
        ("cidr", network.cidr.to_string()),
        ("gateway", network.gateway.to_string()),
        ("cidr6", or_none(network.cidr6.map(|cidr| cidr.to_string()).unwrap_or_default())),
        ("gateway6", or_none(network.gateway6.map(|address| address.to_string()).unwrap_or_default())),
        ("bridge", network.bridge.to_string()),
        ("nat", nat(network)),
        ("peers", or_none(peers.join(" "))),
        ("file", origin(&checked, network)),
    ] {
        line(format!("{key:10} {value}"))?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    line("")?;
    super::subnet::print(&rows)
}

fn exec(context: &Context, arguments: &Exec) -> Result<(), Failure> {
    let spec = load_default(context)?.spec;
    let (network, subnet) = (arguments.vpc.as_str(), arguments.subnet.as_str());
    if !find_subnet(&spec, network, subnet)?.namespace {
        let message = format!(
            "the subnet {subnet} of {network} has no namespace\n  hint: set namespace = true in its table"
        );
        return Err(Failure::other(message));
    }
    let Some((program, rest)) = arguments.command.split_first() else { return Ok(()) };
    let names = Name::new(network).and_then(|network| Ok((network, Name::new(subnet)?)));
    let (network, subnet) = names.map_err(|error| Failure::other(error.to_string()))?;
    let name = String::from(NamespaceName::of(&network, &subnet));
    if !namespace::names().is_ok_and(|names| names.contains(&name)) {
        let message = format!("there is no network namespace {name}\n  hint: hostctl apply makes it");
        return Err(Failure::other(message));
    }
    rustix::process::umask(context.umask);
    let error = namespace::exec(&name, std::process::Command::new(program).args(rest));
    Err(Failure::other(format!("can't run {} in {name}: {error}", program.display())))
}
