//! `hostctl firewall …`.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use hostctl::host::{HoldNews, HostError};
use hostctl::spec::{Checked, SpecEdit, find_network, find_subnet, load_policy};
use hostctl::topology::{Action, Direction, Policy, Port, Topology};
use serde_json::{Value, json};

use super::apply::host;
use super::change::{Deletion, How, change_and_compare};
use super::spec::load_default;
use super::{Context, Failure, line, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Apply a policy to a subnet or a network, in the place of the one it has.
    ///
    /// Says what it shuts that was open. Flows that it doesn't allow are cut. A
    /// network's policy acts on guests that have none of their own, and whose
    /// subnets have none. Needs root.
    #[command(visible_alias = "set")]
    Apply(Apply),
    /// Show the rules of a subnet, or of a network's subnets, in the order of
    /// evaluation.
    #[command(aliases = ["list", "ls"])]
    Show(Of),
    /// Remove the own policy of a subnet or a network; what is around it acts
    /// then.
    ///
    /// Says what that opens. Needs root.
    #[command(visible_alias = "rm", alias = "delete")]
    Remove(Remove),
    /// Hold the tables, so that no other program's `flush ruleset` takes them.
    ///
    /// Runs until it is ended (hostctl-hold.service), in the host's network
    /// namespace. Needs Linux 6.9; elsewhere, and where tables are gone that it
    /// doesn't hold, it puts them back. What it held stays when it ends, and the
    /// next one holds it. Needs root.
    Hold,
}

#[derive(Debug, Args)]
pub struct Of {
    /// The network's name.
    #[arg(long)]
    vpc: String,
    /// The subnet's name; without it the whole network is meant.
    #[arg(long)]
    subnet: Option<String>,
}

#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    of: Of,
    /// The policy, JSON or TOML; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub struct Remove {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    deletion: Deletion,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Apply(Apply { of: Of { vpc: network, subnet }, policy, how }) => {
            let policy = Box::new(load_policy(&policy)?);
            change_and_compare(context, &how, &SpecEdit::SetPolicy { network, subnet, policy }).await
        }
        Command::Remove(Remove { of: Of { vpc: network, subnet }, deletion }) => {
            let (how, change) = deletion.of(SpecEdit::RemovePolicy { network, subnet });
            change_and_compare(context, how, &change).await
        }
        Command::Show(of) => show(context, &of),
        Command::Hold => hold(context).await,
    }
}

async fn hold(context: &Context) -> Result<(), Failure> {
    let mut tell =
        |news: HoldNews| tell(context, &news).map_err(|failure| HostError::Told(format!("{failure:?}")));
    Ok(host(context)?.hold(&mut tell).await?)
}

/// Prints news with its time, as a line.
fn tell(context: &Context, news: &HoldNews) -> Result<(), Failure> {
    let at = humantime::format_rfc3339_millis(SystemTime::now());
    if context.json {
        let mut object = json!(news);
        object["at"] = json!(at.to_string());
        return line(object);
    }
    let text = match news {
        HoldNews::Holding { port } => format!("holding   the tables, by netlink port {port}"),
        HoldNews::Watching { reason } => {
            format!("watching  tables can't be held here, and are put back: {reason}")
        }
        HoldNews::Loaded(done) => {
            let what = if done.gone {
                "put back the tables, which were gone"
            } else {
                "holds what others had loaded"
            };
            format!("loaded    {what}, in {} ms", done.milliseconds)
        }
        HoldNews::Failed { error } => format!("failed    {}", error.replace('\n', " ")),
    };
    line(format!("{at} {text}"))
}

/// The policy of the subnet; none where nothing is denied.
fn policy<'t>(checked: &'t Checked<Topology>, vpc: &str, subnet: &str) -> Option<&'t Policy> {
    let topology = &checked.compiled;
    let inside = |port: &&Port| port.network.as_str() == vpc && port.subnet.as_str() == subnet;
    let namespaces = topology.namespaces.iter().map(|namespace| &namespace.port);
    // A VM may have a policy of its own in the place of the subnet's.
    let own = |name: &str| checked.spec.vms.get(name).is_some_and(|vm| vm.policy.is_some());
    let vms = topology.vms.iter().filter(|vm| !own(vm.name.as_str())).map(|vm| &vm.port);
    topology.policy(namespaces.chain(vms).find(inside)?)
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    }
}

fn show(context: &Context, of: &Of) -> Result<(), Failure> {
    let checked = load_default(context)?;
    let network = find_network(&checked.spec, &of.vpc)?;
    let subnets: Vec<String> = match &of.subnet {
        Some(subnet) => {
            find_subnet(&checked.spec, &of.vpc, subnet)?;
            vec![subnet.clone()]
        }
        None if network.subnets.is_empty() => vec!["default".into()],
        None => network.subnets.keys().cloned().collect(),
    };
    let values: Vec<Value> =
        subnets.iter().map(|subnet| as_json(&of.vpc, subnet, policy(&checked, &of.vpc, subnet))).collect();
    match (context.json, &of.subnet, values.as_slice()) {
        (true, Some(_), [only]) => output::json(only),
        (true, ..) => output::json(&values),
        _ => subnets.iter().try_for_each(|subnet| print(&of.vpc, subnet, policy(&checked, &of.vpc, subnet))),
    }
}

const DIRECTIONS: [(&str, Direction); 2] = [("ingress", Direction::Ingress), ("egress", Direction::Egress)];

fn as_json(vpc: &str, subnet: &str, policy: Option<&Policy>) -> Value {
    let mut value = serde_json::Map::new();
    value.insert("vpc".into(), json!(vpc));
    value.insert("subnet".into(), json!(subnet));
    value.insert("policies".into(), json!(policy.map(|policy| &policy.names)));
    for (name, direction) in DIRECTIONS {
        let list = policy.and_then(|policy| policy.rules(direction)).map(|list| {
            let rules = list.rules.iter().map(|rule| {
                json!({ "rule": rule.text(direction), "priority": rule.priority,
                    "policy": rule.policy, "description": rule.description })
            });
            json!({ "rules": rules.collect::<Vec<_>>(), "default": list.default })
        });
        value.insert(name.into(), json!(list));
    }
    value.into()
}

fn print(vpc: &str, subnet: &str, policy: Option<&Policy>) -> Result<(), Failure> {
    let Some(policy) = policy else {
        return line(format!("no policy acts on the subnet {subnet} of {vpc}"));
    };
    let names: Vec<_> = policy.names.iter().map(ToString::to_string).collect();
    line(format!("{vpc}-{subnet}: {}", names.join(", ")))?;
    for (name, direction) in DIRECTIONS {
        let Some(list) = policy.rules(direction) else {
            line(format!("{name}: open"))?;
            continue;
        };
        line(format!("{name}:"))?;
        for rule in &list.rules {
            let why = rule.description.as_ref().map(|text| format!("  # {text}")).unwrap_or_default();
            line(format!("  {:5} {}{why}", rule.priority, rule.text(direction)))?;
        }
        line(format!("  {:5} {} everything else", "", word(list.default)))?;
    }
    Ok(())
}
