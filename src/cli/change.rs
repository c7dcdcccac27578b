//! Commands that change the spec: what they share.

use clap::Args;
use hostctl::spec::{Change, Cidr4, Cidr6, IfName, Name};
use serde_json::json;

use super::apply::{Progress, host, print_preview};
use super::wait::Wait;
use super::{Context, Failure, line, output};

/// How a change is made.
#[derive(Debug, Args)]
pub struct How {
    /// Print the steps and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
}

impl How {
    /// Whether nothing is to be done.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

/// Writes the change to the commands' drop-in and applies the spec.
pub async fn change(context: &Context, how: &How, change: &Change) -> Result<(), Failure> {
    let host = host(context)?;
    if how.dry_run {
        return print_preview(context, &host.plan_edit(change).await?);
    }
    let edited = host.edit(change, &mut Progress::new(context, how.wait)).await?;
    for note in &edited.outcome.notes {
        eprintln!("note: {note}");
    }
    if context.json {
        let commands: Vec<_> = edited.outcome.steps.iter().flat_map(hostctl::host::Step::commands).collect();
        return output::json(&json!({
            "done": change.to_string(),
            "also": edited.also,
            "steps": commands,
            "generation": edited.outcome.generation,
        }));
    }
    let also = match edited.also.as_slice() {
        [] => String::new(),
        also => format!(", and {}", also.join(", ")),
    };
    line(format!("{change}{also}"))
}

/// A name on the command line.
pub fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

/// An interface's name on the command line.
pub fn interface(text: &str) -> Result<IfName, String> {
    IfName::new(text).map_err(|error| error.to_string())
}

/// An IPv4 prefix on the command line.
pub fn cidr(text: &str) -> Result<Cidr4, String> {
    text.parse().map_err(|error: hostctl::spec::CidrError| error.to_string())
}

/// An IPv6 prefix on the command line.
pub fn cidr6(text: &str) -> Result<Cidr6, String> {
    text.parse().map_err(|error: hostctl::spec::CidrError| error.to_string())
}
