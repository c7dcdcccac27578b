//! `hostctl firewall …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hostctl::spec::{Change, Checked, find_subnet, load_policy};
use hostctl::topology::{Action, Direction, Policy, Port, Topology};
use serde_json::json;

use super::change::{How, change};
use super::spec::load_default;
use super::{Context, Failure, line, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Apply a policy to a subnet, in the place of the one it has.
    ///
    /// Flows that it doesn't allow are cut. Needs root.
    Apply(Apply),
    /// Show the rules of a subnet, in the order of evaluation.
    Show(OfSubnet),
    /// Remove a subnet's own policy; what its network says acts then.
    ///
    /// Needs root.
    Remove(Remove),
}

#[derive(Debug, Args)]
pub struct OfSubnet {
    /// The network's name.
    #[arg(long)]
    vpc: String,
    /// The subnet's name.
    #[arg(long)]
    subnet: String,
}

#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    of: OfSubnet,
    /// The policy, JSON or TOML; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub struct Remove {
    #[command(flatten)]
    of: OfSubnet,
    #[command(flatten)]
    how: How,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Apply(Apply { of: OfSubnet { vpc: network, subnet }, policy, how }) => {
            let policy = Box::new(load_policy(&policy)?);
            change(context, &how, &Change::SetPolicy { network, subnet, policy }).await
        }
        Command::Remove(Remove { of: OfSubnet { vpc: network, subnet }, how }) => {
            change(context, &how, &Change::RemovePolicy { network, subnet }).await
        }
        Command::Show(of) => show(context, &of),
    }
}

/// The policy of the subnet; none where nothing is denied.
fn policy<'t>(checked: &'t Checked<Topology>, of: &OfSubnet) -> Option<&'t Policy> {
    let topology = &checked.compiled;
    let inside = |port: &&Port| port.network.as_str() == of.vpc && port.subnet.as_str() == of.subnet;
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

fn show(context: &Context, of: &OfSubnet) -> Result<(), Failure> {
    let checked = load_default(context)?;
    find_subnet(&checked.spec, &of.vpc, &of.subnet)?;
    let policy = policy(&checked, of);
    let directions = [("ingress", Direction::Ingress), ("egress", Direction::Egress)];
    if context.json {
        let mut value = serde_json::Map::new();
        value.insert("vpc".into(), json!(of.vpc));
        value.insert("subnet".into(), json!(of.subnet));
        value.insert("policies".into(), json!(policy.map(|policy| &policy.names)));
        for (name, direction) in directions {
            let list = policy.and_then(|policy| policy.rules(direction)).map(|list| {
                let rules = list.rules.iter().map(|rule| {
                    json!({ "rule": rule.text(direction), "priority": rule.priority,
                        "policy": rule.policy, "description": rule.description })
                });
                json!({ "rules": rules.collect::<Vec<_>>(), "default": list.default })
            });
            value.insert(name.into(), json!(list));
        }
        return output::json(&value);
    }
    let Some(policy) = policy else {
        return line(format!("no policy acts on the subnet {} of {}", of.subnet, of.vpc));
    };
    let names: Vec<_> = policy.names.iter().map(ToString::to_string).collect();
    line(format!("{}-{}: {}", of.vpc, of.subnet, names.join(", ")))?;
    for (name, direction) in directions {
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
