//! Commands that change the spec: what they share.

use clap::Args;
use hostctl::host::Compared;
use hostctl::prove::Extent;
use hostctl::reach;
use hostctl::spec::{Cidr4, Cidr6, IfName, Name, SpecEdit};
use serde_json::{Value, json};

use super::apply::{host, preview_json, print_preview};
use super::failure::placed;
use super::progress::Progress;
use super::prove_first::{Prove, told};
use super::wait::Wait;
use super::{Context, Failure, diff, line, output};

/// How a change is made.
#[derive(Debug, Args)]
pub struct How {
    /// Print the steps and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    prove: Prove,
    #[command(flatten)]
    wait: Wait,
}

/// How something is deleted.
#[derive(Debug, Args)]
pub struct Deletion {
    /// Do nothing, and don't fail, where it isn't there.
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    how: How,
}

impl How {
    /// Whether nothing is to be done.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

impl Deletion {
    /// How, and the change with what becomes of it where there is nothing.
    pub fn of(&self, change: SpecEdit) -> (&How, SpecEdit) {
        (&self.how, if self.if_exists { SpecEdit::IfExists(Box::new(change)) } else { change })
    }
}

/// Makes something go.
pub async fn delete(context: &Context, deletion: &Deletion, change: SpecEdit) -> Result<(), Failure> {
    let (how, change) = deletion.of(change);
    make(context, how, &change, false).await
}

/// Writes the change to the commands' drop-in and applies the spec.
pub async fn change(context: &Context, how: &How, change: &SpecEdit) -> Result<(), Failure> {
    make(context, how, change, false).await
}

/// As [`change`], and says what it opens and what it shuts.
pub async fn change_and_compare(context: &Context, how: &How, change: &SpecEdit) -> Result<(), Failure> {
    make(context, how, change, true).await
}

async fn make(context: &Context, how: &How, change: &SpecEdit, compares: bool) -> Result<(), Failure> {
    let host = host(context)?;
    let difference =
        |compared: &Compared| compares.then(|| reach::Change::between(&compared.before, &compared.after));
    if how.dry_run {
        let planned = host.plan_edit(change).await.map_err(|error| placed(context, None, error))?;
        let reach = difference(&planned.compared);
        let proved = how.prove.rehearsed(context, &planned.compared.after).await;
        let proved = proved.map_err(|error| placed(context, None, error))?;
        if context.json {
            let mut value = preview_json(&planned.preview);
            add_reach(&mut value, reach.as_ref());
            add_proof(&mut value, proved.as_ref());
            return output::json(&value);
        }
        print_preview(context, &planned.preview)?;
        if let Some(extent) = &proved {
            told(extent)?;
        }
        return reach.map_or(Ok(()), |reach| print_reach(&reach, "would be"));
    }
    let edited = host.edit(change, &mut Progress::new(context, how.wait).proving(how.prove.prove)).await;
    let edited = edited.map_err(|error| placed(context, None, error))?;
    for note in &edited.outcome.notes {
        context.note(note);
    }
    let done = if edited.same { change.unchanged() } else { change.to_string() };
    let reach = difference(&edited.compared);
    if context.json {
        let commands: Vec<_> = edited.outcome.steps.iter().flat_map(hostctl::host::Step::commands).collect();
        let mut value = json!({
            "done": done,
            "changed": !edited.same,
            "also": edited.also,
            "steps": commands,
            "generation": edited.outcome.generation,
        });
        add_reach(&mut value, reach.as_ref());
        return output::json(&value);
    }
    let also = match edited.also.as_slice() {
        [] => String::new(),
        also => format!(", and {}", also.join(", ")),
    };
    line(format!("{done}{also}"))?;
    reach.map_or(Ok(()), |reach| print_reach(&reach, "is"))
}

fn add_reach(value: &mut Value, reach: Option<&reach::Change>) {
    if let (Some(value), Some(reach)) = (value.as_object_mut(), reach) {
        value.insert("widens".into(), json!(reach.widens()));
        value.insert("changes".into(), json!(reach.lines));
    }
}

/// A proof that was asked for.
pub fn add_proof(value: &mut Value, proved: Option<&Extent>) {
    if let (Some(value), Some(extent)) = (value.as_object_mut(), proved) {
        value.insert("proof".into(), json!({ "answer": "equal", "rules": extent.rules.len() }));
    }
}

/// What a policy shuts that was open, and the other way round.
fn print_reach(change: &reach::Change, verb: &str) -> Result<(), Failure> {
    if change.lines.is_empty() {
        return line(format!("nothing that was open {verb} shut, and nothing else opened"));
    }
    diff::print(change)
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
