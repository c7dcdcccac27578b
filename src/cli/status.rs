//! `hostctl status`.

use hostctl::host::{self, HostStatus};

use super::terminal::{Tone, paint};
use super::{Context, Failure, line, output};

pub async fn status(context: &Context) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::other("only root may read the firewall: run it as root"));
    }
    let status = host::status(&context.root).await?;
    if context.json { output::json(&status) } else { print(&status) }
}

fn print(status: &HostStatus) -> Result<(), Failure> {
    let generation = status.generation.map_or("none".to_string(), |number| number.to_string());
    let uplinks = if status.uplinks.is_empty() { "none".into() } else { status.uplinks.join(", ") };
    let firewall = if status.firewall.loaded {
        format!("loaded, {} rules, {} elements", status.firewall.rules, status.firewall.elements)
    } else {
        paint("not loaded", Tone::Bad)
    };
    line(format!("generation {generation}, uplink {uplinks}, firewall {firewall}"))?;
    if status.firewall.loaded {
        line(format!("flush by others: {}", status.firewall.flush))?;
    }
    if let Some(waiting) = &status.unconfirmed {
        line(super::apply::unconfirmed(waiting))?;
    }
    for note in &status.notes {
        line(format!("note: {note}"))?;
    }
    if !status.networks.is_empty() {
        line("")?;
        let rows = status.networks.iter().map(|network| {
            let up = if network.up { "up" } else { "missing" };
            let addresses = match network.addresses.as_slice() {
                [] => "missing".into(),
                addresses => addresses.join(" "),
            };
            [network.name.clone(), network.bridge.clone(), up.into(), addresses, network.guests.to_string()]
        });
        output::table(&["NETWORK", "BRIDGE", "STATE", "GATEWAY", "GUESTS"], rows)?;
    }
    if !status.guests.is_empty() {
        line("")?;
        super::vm::guest_table(&status.guests)?;
    }
    if !status.namespaces.is_empty() {
        line("")?;
        let rows = status.namespaces.iter().map(|one| {
            let up = if one.up { "up" } else { "missing" };
            [one.name.clone(), up.into(), one.interface.clone(), one.addresses.join(" ")]
        });
        output::table(&["NAMESPACE", "STATE", "INTERFACE", "ADDRESSES"], rows)?;
    }
    if !status.apps.is_empty() {
        line("")?;
        let rows = status.apps.iter().map(|app| [app.name.clone(), app.namespace.clone(), app.state.clone()]);
        output::table(&["APP", "NAMESPACE", "STATE"], rows)?;
    }
    if !status.strays.is_empty() {
        line(format!(
            "\nlinks of hostctl's that belong to nothing that was applied: {}",
            status.strays.join(" ")
        ))?;
    }
    match status.drift.len() {
        0 => line("\nno drift"),
        count => {
            let steps = output::count(count, "step");
            let drift = paint("drift:", Tone::Doubtful);
            line(format!("\n{drift} {steps} away from what was applied (hostctl apply repairs it):"))?;
            status
                .drift
                .iter()
                .flat_map(|step| step.lines())
                .try_for_each(|command| line(format!("  {command}")))
        }
    }
}
