//! `hostctl spec …`.

use clap::{Args, Subcommand};
use hostctl::spec::{Checked, HostSpec, SpecPath};
use hostctl::topology::{self, Topology};
use serde_json::json;

use super::spec::{SpecFile, load};
use super::{Context, Failure, line, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the merged spec, and where each part of it is written.
    Show(Show),
}

#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    file: SpecFile,
    /// Write in what guests are given: addresses and MACs, as this host has
    /// them or would give them.
    ///
    /// Prints one spec, which means the same on a host that has no guests yet:
    /// to be committed beside its source.
    #[arg(long)]
    resolved: bool,
}

pub fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let Command::Show(Show { file, resolved }) = command;
    let checked = load(context, file)?;
    if *resolved {
        return print_resolved(context, &checked);
    }
    let parts = parts(&checked);
    if context.json {
        let origins: serde_json::Map<_, _> =
            parts.iter().map(|(path, place, _)| (path.to_string(), json!(place))).collect();
        return output::json(&json!({ "spec": checked.spec, "origins": origins }));
    }
    if parts.is_empty() {
        return line("nothing written yet");
    }
    for (index, (_, place, spec)) in parts.iter().enumerate() {
        let text = toml::to_string(spec).map_err(|error| Failure::other(error.to_string()))?;
        let gap = if index == 0 { "" } else { "\n" };
        line(format!("{gap}# {place}\n{}", text.trim_end()))?;
    }
    Ok(())
}

fn print_resolved(context: &Context, checked: &Checked<Topology>) -> Result<(), Failure> {
    let spec = topology::resolved(&checked.spec, &checked.compiled);
    if context.json {
        return output::json(&spec);
    }
    let text = toml::to_string(&spec).map_err(|error| Failure::other(error.to_string()))?;
    line(text.trim_end())
}

/// Each part of the spec, by its key, with its place and as a spec of its own.
fn parts(checked: &Checked<Topology>) -> Vec<(SpecPath, String, HostSpec)> {
    let spec = &checked.spec;
    let mut parts = Vec::new();
    let mut add = |path: SpecPath, part: HostSpec| {
        let place = checked.sources.line(&path).map(|(file, line)| format!("{}:{line}", file.display()));
        parts.push((path, place.unwrap_or_default(), part));
    };
    let nothing = HostSpec::default();
    if spec.host != nothing.host {
        add(SpecPath::keys(["host"]), HostSpec { host: spec.host.clone(), ..HostSpec::default() });
    }
    for (name, network) in &spec.networks {
        let networks = [(name.clone(), network.clone())].into();
        add(SpecPath::keys(["networks", name]), HostSpec { networks, ..HostSpec::default() });
    }
    for (index, peering) in spec.peerings.iter().enumerate() {
        let path = SpecPath::keys(["peerings"]).index(index);
        add(path, HostSpec { peerings: vec![peering.clone()], ..HostSpec::default() });
    }
    for (name, vm) in &spec.vms {
        let vms = [(name.clone(), vm.clone())].into();
        add(SpecPath::keys(["vms", name]), HostSpec { vms, ..HostSpec::default() });
    }
    for (name, policy) in &spec.policies {
        let policies = [(name.clone(), policy.clone())].into();
        add(SpecPath::keys(["policies", name]), HostSpec { policies, ..HostSpec::default() });
    }
    for (name, app) in &spec.apps {
        let apps = [(name.clone(), app.clone())].into();
        add(SpecPath::keys(["apps", name]), HostSpec { apps, ..HostSpec::default() });
    }
    parts
}
