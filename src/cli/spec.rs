//! Commands that read a host spec and change nothing.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use hostctl::firewall::{self, Ruleset};
use hostctl::host::{self, Kept};
use hostctl::spec::{Checked, SpecError, load_checked};
use hostctl::topology::{self, Topology};
use serde_json::json;

use super::prove::{answer_json, print_answer};
use super::{Context, Failure, line, output};

/// The spec that a command is about.
#[derive(Debug, Default, Args)]
pub struct SpecFile {
    /// The host spec, TOML or JSON; default: /etc/hostctl/host.toml. Drop-ins of
    /// /var/lib/hostctl/host.d are merged into it.
    pub(super) spec: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    file: SpecFile,
    /// Also prove that the rules do with every packet what the spec says.
    #[arg(long)]
    prove: bool,
}

#[derive(Debug, Args)]
pub struct Render {
    #[command(flatten)]
    file: SpecFile,
    /// nft's own text, commented, or its JSON.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Reads, checks and compiles a spec. Guests that this host has keep their
/// addresses, whatever file it is.
pub fn load(context: &Context, file: &SpecFile) -> Result<Checked<Topology>, Failure> {
    let kept = host::kept(&context.root);
    let checked = load_keeping(context, file, &kept)?;
    if let Some(note) = kept.note.filter(|_| checked.compiled.ports().next().is_some()) {
        context.note(note);
    }
    tell_ignored(context, &checked);
    Ok(checked)
}

fn tell_ignored(context: &Context, checked: &Checked<Topology>) {
    for ignored in checked.sources.ignored() {
        context.note(format!("{} is ignored: drop-ins are called *.toml or *.json", ignored.display()));
    }
}

/// As [`load`], without notes.
pub fn load_quietly(context: &Context, file: &SpecFile) -> Result<Checked<Topology>, SpecError> {
    load_keeping(context, file, &host::kept(&context.root))
}

fn load_keeping(context: &Context, file: &SpecFile, kept: &Kept) -> Result<Checked<Topology>, SpecError> {
    let compile = |spec: &_| topology::compile_keeping(spec, &kept.allocations);
    load_checked(file.spec.as_deref(), &context.root, compile)
}

/// The host's own spec, for commands that name no file.
pub fn load_default(context: &Context) -> Result<Checked<Topology>, Failure> {
    load(context, &SpecFile { spec: None })
}

pub fn check(context: &Context, arguments: &Check) -> Result<(), Failure> {
    // Whether it is valid; no address is told.
    let checked = load_quietly(context, &arguments.file)?;
    tell_ignored(context, &checked);
    let topology = &checked.compiled;
    if let Some(note) = hostctl::host::flow_shortage(topology) {
        context.note(&note);
    }
    let advice = host::advice(topology, host::Machine::here());
    if !context.json {
        advice.iter().for_each(|note| context.note(note));
    }
    let begun = Instant::now();
    let proof = if arguments.prove { Some(host::prove_spec(topology)?) } else { None };
    let time = begun.elapsed();
    if context.json {
        let mut value = json!({
            "networks": topology.networks.len(), "vms": topology.vms.len(), "files": checked.sources.files(),
            "notes": advice,
        });
        if let (Some(value), Some(answer)) = (value.as_object_mut(), &proof) {
            value.insert("proof".into(), answer_json(&checked, answer, time));
        }
        output::json(&value)?;
        return proof.map_or(Ok(()), |answer| print_answer(context, &checked, &answer, time));
    }
    let files: Vec<_> = checked.sources.files().iter().map(|file| file.display().to_string()).collect();
    let files = if files.is_empty() { "nothing written yet".into() } else { files.join(", ") };
    let networks = output::count(topology.networks.len(), "network");
    line(format!("ok: {networks}, {} ({files})", output::count(topology.vms.len(), "VM")))?;
    proof.map_or(Ok(()), |answer| print_answer(context, &checked, &answer, time))
}

pub async fn render(context: &Context, arguments: &Render) -> Result<(), Failure> {
    let topology = load(context, &arguments.file)?.compiled;
    let surroundings = host::observe_surroundings(&context.root, &topology).await?;
    let mut ruleset = Ruleset::new(&topology, &surroundings).map_err(host::HostError::from)?;
    // The marks are those that are loaded, where some are.
    let loaded = host::loaded_judgement(&context.root);
    ruleset.judgement =
        loaded.filter(|loaded| loaded.mask() == topology.mark_mask).unwrap_or(ruleset.judgement);
    let text = firewall::render(&ruleset).map_err(host::HostError::from)?;
    match arguments.format {
        Format::Text => line(text.trim_end()),
        Format::Json => line(firewall::nft::rehearse_json(&text).map_err(host::HostError::from)?.trim_end()),
    }
}
