//! The command line: one file a noun, no logic.

mod app;
mod apply;
mod audit;
mod change;
mod complete;
mod console;
mod deploy;
mod diff;
mod doctor;
mod exec;
mod explain;
mod failure;
mod firewall;
mod generate;
mod help;
mod log;
mod logs;
mod matrix;
mod nat;
mod output;
mod peer;
mod progress;
mod prove;
mod prove_first;
mod rollback;
mod spec;
mod spec_show;
mod status;
mod subnet;
mod summary;
mod terminal;
mod test;
mod topology_json;
mod vm;
mod vpc;
mod wait;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use hostctl::os_error;
use hostctl::root_dir::RootDir;
use hostctl::shown;
use rustix::fs::Mode;

pub use failure::Failure;

/// Isolated networks, QEMU guests and one firewall from one host spec.
///
/// Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the spec, or a change of it, is
/// refused; 4 another hostctl is changing the host, or a change waits for its
/// confirmation; 5 the spec wasn't confirmed and the host stays as it was; 6
/// something was found: by an audit, or a packet by a proof.
///
/// With --json a command that fails prints one JSON object, in one line, on
/// standard error: {"error": {"kind", "exit_code", "message", "hint",
/// "problems"}}. A kind for each exit code: failed, usage, spec, refused, locked,
/// unconfirmed, found; hint is null where there is none; problems are what is
/// wrong with a spec: file, line, column, message, hint.
///
/// Environment: HOSTCTL_LOG=info tells more on standard error; NO_COLOR=1 turns
/// colours off.
#[derive(Debug, Parser)]
#[command(name = "hostctl", version, max_term_width = 100)]
struct Arguments {
    /// Put every file of hostctl's under DIR: DIR/etc/hostctl, DIR/run/hostctl, DIR/var/lib/hostctl.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true,
        display_order = 900
    )]
    root_dir: PathBuf,
    /// Print JSON instead of tables and text.
    #[arg(long, global = true, display_order = 901)]
    json: bool,
    /// Print each command as it is done, also on a terminal.
    #[arg(long, short, global = true, display_order = 902)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a host spec; report everything that is wrong with it.
    ///
    /// Reads files only: needs neither root nor a network. Mistakes within a
    /// key are reported first, all of them; what is wrong between keys
    /// (overlaps, references) once those are gone. With --prove, which needs root,
    /// it ends as `hostctl prove` does where the spec is valid: 6 where a packet
    /// was found, 1 where nothing can be said.
    Check(spec::Check),
    /// Print the nftables text that apply would load.
    ///
    /// The text is commented for a reader and complete: `nft -f` takes it. The
    /// uplink and what the host forwarded before are read from this machine;
    /// without root, what only root may read is left out.
    Render(spec::Render),
    /// Print who may reach whom.
    ///
    /// Computed from the spec alone: one row for each source of flows, one
    /// column for each destination. Replies aren't shown; they follow the flow.
    Matrix(spec::SpecFile),
    /// Say whether FROM reaches TO, and why.
    ///
    /// Shows the way of a flow's first packet: the guest's port, prerouting,
    /// input or forward, policies, postrouting, and which line of the spec
    /// decided. Without --port: for which ports what holds. Computed from the
    /// spec alone, without root and without a network. The exit code is 0,
    /// whatever the answer.
    Explain(explain::Explain),
    /// Print what a change of the spec opens and closes.
    ///
    /// OLD and NEW are host specs or generations. One line for each part of
    /// who may reach whom that isn't the same; what opens is marked. Computed
    /// from the specs alone. Exit codes: 0, whatever the answer; with
    /// --exit-code 1 where something opens.
    Diff(diff::Diff),
    /// Prove that the firewall does with every packet what the spec says.
    ///
    /// Follows all headers at once, IPv4 and IPv6, through the rules that would
    /// be loaded, as the kernel lists them in a scratch namespace, and holds
    /// them against the spec: equal, or a packet with which they don't do the
    /// same. Names rules that decide about no packet. Needs root. Exit codes: 0
    /// equal; 6 a packet was found; 1 nothing can be said.
    Prove(prove::Prove),
    /// Print the JSON Schema of host specs.
    Schema,
    /// Print the steps that apply would do, as commands.
    ///
    /// Behind them stands what opens and what closes, compared with the last
    /// generation, as `hostctl diff` says it. Reads the kernel and changes
    /// nothing. Needs root.
    Plan(apply::Plan),
    /// Make the host what the spec says.
    ///
    /// Nothing is touched unless the whole spec is valid, the kernel takes the
    /// firewall in a scratch namespace and nothing foreign is in the way. A
    /// failed step is rolled back to the last generation. VMs with autostart
    /// are started and not waited for. Needs root.
    Apply(apply::Apply),
    /// Keep what apply --confirm applied.
    ///
    /// Needs root.
    Confirm(rollback::Confirm),
    /// Show networks, guests, firewall and drift.
    ///
    /// Drift is what differs from the generation that was applied last, not
    /// from the spec's file: `hostctl plan` compares with that. Needs root.
    Status,
    /// List what was applied: when, by which command, what it changed.
    ///
    /// The last fifty are kept. A rollback is a generation of its own.
    Generations,
    /// Return to an earlier generation.
    ///
    /// Applied as any other, and kept as a new generation. Without a number it
    /// is the one before the current one; again, the one before that. The
    /// spec's files stay as they are, except for what commands wrote where that
    /// brings the files in line. Needs root.
    Rollback(rollback::Rollback),
    /// Compare the host with what was applied, and look for what is in guests' way.
    ///
    /// Drift, object by object: tables, rules, elements, links, addresses,
    /// routes, settings. Other programs' firewall rules that drop guests'
    /// packets, or take them past hostctl's. Changes nothing, unless told to
    /// repair. A finding is critical where something is or may be open, a
    /// warning where something doesn't work. Exits with 6 if there is a finding
    /// at or above --fail-on. Needs root.
    Audit(audit::Arguments),
    /// Remove everything that hostctl made, and nothing else.
    ///
    /// Guests are shut down, links and tables removed, forwarding turned off
    /// again. Specs, images and disks stay. Needs root.
    Down(apply::Down),
    /// Create, list and delete networks; run programs in them.
    ///
    /// This and the nouns subnet, nat, peer and firewall edit the spec: they
    /// write /var/lib/hostctl/host.d/commands.json and apply. What another file
    /// defines is edited there.
    #[command(subcommand, visible_alias = "network")]
    Vpc(vpc::Command),
    /// Add, list and delete subnets.
    #[command(subcommand)]
    Subnet(subnet::Command),
    /// Let public subnets go out, or not.
    #[command(subcommand)]
    Nat(nat::Command),
    /// Let networks talk to each other, or not.
    #[command(subcommand)]
    Peer(peer::Command),
    /// Apply, show and remove the policies of subnets.
    #[command(subcommand)]
    Firewall(firewall::Command),
    /// Look at the spec.
    #[command(subcommand)]
    Spec(spec_show::Command),
    /// Hold what packets do against what the spec says.
    #[command(subcommand)]
    Test(test::Command),
    /// Start, stop and look at VMs.
    #[command(subcommand)]
    Vm(vm::Command),
    /// Run programs in subnets.
    #[command(subcommand)]
    App(app::Command),
    /// Deploy ready-made apps in subnets.
    #[command(subcommand)]
    Deploy(deploy::Command),
    /// Remove everything that hostctl ever made, and what commands wrote.
    ///
    /// As `hostctl down`, and /var/lib/hostctl/host.d/commands.json goes too.
    /// Needs root.
    Cleanup(apply::Down),
    /// Say what this machine has and lacks.
    ///
    /// Tries each thing: loads the rules in a scratch namespace, runs a test
    /// guest on KVM (up to 3 s, once a boot), reads other programs' firewalls.
    /// Fails where something is missing that hostctl can't do without.
    Doctor,
    /// Print a shell's completions.
    Completions(generate::Completions),
    /// Write manual pages, one for each command.
    Man(generate::Pages),
    /// Wait for the confirmation of an apply; started by apply --confirm.
    #[command(hide = true)]
    Watchdog,
    /// Say what a word of the command line can become; asked by completions.
    #[command(hide = true)]
    Complete(complete::Words),
}

/// What every command needs.
pub struct Context {
    root: RootDir,
    json: bool,
    verbose: bool,
    /// What the caller's own files are made with.
    umask: Mode,
}

impl Context {
    /// Whether somebody watches the progress.
    fn interactive(&self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }

    /// Tells what isn't the command's answer, and no failure either; with
    /// --json as an object in a line of its own.
    fn note(&self, text: impl std::fmt::Display) {
        let text = shown::text(&os_error::without_number(&text.to_string()));
        if self.json {
            eprintln!("{}", serde_json::json!({ "note": text }));
        } else {
            eprintln!("note: {text}");
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    // First of all: what hostctl makes is nobody else's to read or to lock.
    let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let parsed = Arguments::command().try_get_matches().or_else(|error| match error.kind() {
        // Only help shows the commands in groups, which are told by building them all.
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            help::grouped(Arguments::command()).try_get_matches()
        }
        _ => Err(error),
    });
    let arguments = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => return Failure::usage(&error),
    };
    // Asked at each key: nothing is begun for it, and nothing said.
    if let Command::Complete(words) = &arguments.command {
        return complete::candidates(words).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    // A supervisor's log is all that tells of a guest's life.
    let watches = matches!(arguments.command, Command::Vm(vm::Command::Run(_)) | Command::Watchdog);
    let context = Context {
        root: RootDir::new(arguments.root_dir),
        json: arguments.json,
        verbose: arguments.verbose,
        umask,
    };
    log::start(&context.root, if watches { "info" } else { "warn" });
    // Only root's own; whoever isn't finds nothing of theirs.
    if rustix::process::geteuid().is_root()
        && let Err(error) = hostctl::private::tighten(&context.root)
    {
        tracing::warn!("can't close to others what is hostctl's: {error}");
    }
    // Everything in one thread: what is done to the network is done to the
    // namespace that this thread is in.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::other(format!("can't start: {error}")).report(context.json),
    };
    match runtime.block_on(run(&context, arguments.command)) {
        Ok(code) => code,
        Err(failure) => failure.report(context.json),
    }
}

async fn run(context: &Context, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Explain(arguments) => explain::explain(context, &arguments),
        Command::Diff(arguments) => return diff::diff(context, &arguments),
        Command::Prove(arguments) => return prove::prove(context, &arguments).await,
        Command::Check(arguments) => spec::check(context, &arguments),
        Command::Render(arguments) => spec::render(context, &arguments).await,
        Command::Matrix(file) => matrix::matrix(context, &file),
        Command::Schema => output::json(&hostctl::spec::json_schema()),
        Command::Plan(arguments) => apply::plan(context, &arguments).await,
        Command::Apply(arguments) => apply::apply(context, &arguments).await,
        Command::Status => status::status(context).await,
        Command::Confirm(arguments) => rollback::confirm(context, &arguments),
        // Was answered already.
        Command::Complete(words) => complete::candidates(&words),
        Command::Watchdog => Ok(apply::host(context)?.watch_unconfirmed().await?),
        Command::Generations => rollback::generations(context),
        Command::Rollback(arguments) => rollback::rollback(context, &arguments).await,
        Command::Audit(arguments) => audit::audit(context, &arguments).await,
        Command::Down(arguments) => apply::down(context, &arguments).await,
        Command::Vpc(command) => vpc::run(context, command).await,
        Command::Subnet(command) => subnet::run(context, command).await,
        Command::Nat(command) => nat::run(context, command).await,
        Command::Peer(command) => peer::run(context, command).await,
        Command::Firewall(command) => firewall::run(context, command).await,
        Command::Spec(command) => spec_show::run(context, &command),
        Command::Vm(command) => return vm::run(context, command).await,
        Command::Test(command) => test::run(context, &command),
        Command::Deploy(command) => deploy::run(context, command).await,
        Command::Cleanup(arguments) => apply::cleanup(context, &arguments).await,
        Command::App(command) => app::run(context, command).await,
        Command::Doctor => doctor::doctor(context).await,
        Command::Completions(arguments) => generate::completions(&arguments),
        Command::Man(arguments) => generate::pages(context, &arguments),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Prints a line, unless nobody reads any more.
fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|error| Failure::other(format!("can't write: {error}"))),
    }
}
