//! `hostctl prove`.

mod diff;
mod pair;
mod reaches;
mod template;
mod told;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use hostctl::host;
use hostctl::spec::Checked;
use hostctl::topology::Topology;

use super::explain::Which;
use super::spec::{SpecFile, load};
use super::{Context, Failure};

pub use told::{answer_json, different_lines, print_answer};

use told::tell;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Prove {
    #[command(subcommand)]
    command: Option<Command>,
    /// The host spec, TOML or JSON; default: /etc/hostctl/host.toml. Drop-ins of
    /// /var/lib/hostctl/host.d are merged into it.
    spec: Option<PathBuf>,
    /// Prove what the kernel has, not what would be loaded.
    #[arg(long)]
    live: bool,
    /// Say of every packet from FROM to TO what is done with it, by which rule and
    /// which line of the spec; both are called as `hostctl explain` calls them.
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    why: Option<Vec<String>>,
    #[command(flatten)]
    which: Which,
    /// Send each packet that is found through the rules for real, in a network
    /// namespace of its own. Only in builds with the feature `testbed`.
    #[cfg(feature = "testbed")]
    #[arg(long, hide = true, conflicts_with = "why")]
    replay: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the first packet with which two sets of rules don't do the same.
    ///
    /// OLD and NEW are host specs, generations, or what `nft -j list ruleset`
    /// printed; what a file is, its content says. One packet for each way in which
    /// they differ, with the rule on both sides, and what the spec says where a
    /// side is one. Only hostctl's tables are followed; where nothing else is
    /// compared, and others' differ, nothing is said. Needs root. Exit codes: 0 no
    /// packet differs; 6 a packet was found; 1 nothing can be said.
    Diff(diff::Diff),
    /// Print who reaches a guest, the host, or the internet, by the rules.
    ///
    /// Every first packet that arrives, as boxes of headers: who sends it, with
    /// which protocol, to which ports, and the rule that lets it pass; within the
    /// limits of guests. Needs root. The exit code is 0, whatever the answer; 1
    /// where nothing can be said.
    Reaches(reaches::Reaches),
    /// Prove hostctl's own rules for every host, whatever their sets hold.
    ///
    /// The rules are the same on every host but for their sets. Proves each set of
    /// rules that this hostctl may load: the whole host guarded or only guests, with
    /// and without policies; a difference is a packet, with what is true of it on the
    /// host where it is one. For who changes the template. Needs root. Exit codes: 0
    /// equal; 6 a packet was found; 1 nothing can be said.
    Template,
}

pub async fn prove(context: &Context, arguments: &Prove) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Some(Command::Diff(arguments)) => return diff::diff(context, arguments).await,
        Some(Command::Reaches(arguments)) => {
            return reaches::reaches(context, arguments).await.map(|()| ExitCode::SUCCESS);
        }
        Some(Command::Template) => return template::template(context).map(|()| ExitCode::SUCCESS),
        None => {}
    }
    let checked = load(context, &SpecFile { spec: arguments.spec.clone() })?;
    if let Some([from, to]) = arguments.why.as_deref() {
        pair::why(context, &checked, (from, to), &arguments.which, arguments.live).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.which.is_some() {
        return Err(Failure::other(
            "--port, --protocol and --family are of --why: say whose packets are meant",
        ));
    }
    let begun = Instant::now();
    let rules = rules(context, &checked, arguments.live).await?;
    let answer = rules.prove(&checked.compiled);
    let time = begun.elapsed();
    #[cfg(feature = "testbed")]
    if arguments.replay {
        told::replay(context, &rules, &answer);
    }
    tell(context, &checked, &answer, time)?;
    Ok(ExitCode::SUCCESS)
}

/// The rules that a spec is asked about: those that would be loaded, or those
/// that the kernel has.
async fn rules(context: &Context, checked: &Checked<Topology>, live: bool) -> Result<host::Rules, Failure> {
    let topology = &checked.compiled;
    Ok(match live {
        true => host::Rules::loaded(&context.root, topology).await?,
        false => host::Rules::assumed(topology)?,
    })
}

fn unproved(unknown: &hostctl::prove::Unknown) -> Failure {
    Failure::other(format!("nothing is proved: {unknown}"))
}
