//! The command line: one file a noun, no logic.

mod app;
mod apply;
mod console;
mod doctor;
mod failure;
mod output;
mod spec;
mod status;
mod vm;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hostctl::root_dir::RootDir;

pub use failure::Failure;

/// Isolated networks, QEMU guests and one firewall from one host spec.
///
/// Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the spec is refused; 4
/// another hostctl is changing the host.
#[derive(Debug, Parser)]
#[command(name = "hostctl", version, max_term_width = 100)]
struct Arguments {
    /// Put every file of hostctl's under DIR: DIR/etc/hostctl, DIR/run/hostctl, DIR/var/lib/hostctl.
    #[arg(long, global = true, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root_dir: PathBuf,
    /// Print JSON instead of tables and text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a host spec; report everything that is wrong with it.
    Check(spec::SpecFile),
    /// Print the nftables text that apply would load.
    Render(spec::Render),
    /// Print who may reach whom.
    Matrix(spec::SpecFile),
    /// Print the JSON Schema of host specs.
    Schema,
    /// Print the steps that apply would do, as commands.
    Plan(spec::SpecFile),
    /// Make the host what the spec says.
    Apply(spec::SpecFile),
    /// Show networks, guests, firewall and drift.
    Status,
    /// Remove everything that hostctl made, and nothing else.
    Down(apply::Down),
    /// Start, stop and look at VMs.
    #[command(subcommand)]
    Vm(vm::Command),
    /// Run programs in subnets.
    #[command(subcommand, hide = true)]
    App(app::Command),
    /// Say what this machine has and lacks.
    Doctor,
}

/// What every command needs.
pub struct Context {
    root: RootDir,
    json: bool,
}

impl Context {
    /// Whether somebody watches the progress.
    fn interactive(&self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let context = Context { root: RootDir::new(arguments.root_dir), json: arguments.json };
    // Everything in one thread: what is done to the network is done to the
    // namespace that this thread is in.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::other(format!("can't start: {error}")).report(),
    };
    match runtime.block_on(run(&context, arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(file) => spec::check(context, &file),
        Command::Render(arguments) => spec::render(context, &arguments).await,
        Command::Matrix(file) => spec::matrix(context, &file),
        Command::Schema => output::json(&hostctl::spec::json_schema()),
        Command::Plan(file) => apply::plan(context, &file).await,
        Command::Apply(file) => apply::apply(context, &file).await,
        Command::Status => status::status(context).await,
        Command::Down(arguments) => apply::down(context, &arguments).await,
        Command::Vm(command) => vm::run(context, command).await,
        Command::App(command) => app::run(context, command).await,
        Command::Doctor => doctor::doctor(context),
    }
}

/// `HOSTCTL_LOG=debug` shows what happens inside.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOSTCTL_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

/// Prints a line, unless nobody reads any more.
fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|error| Failure::other(format!("can't write: {error}"))),
    }
}
