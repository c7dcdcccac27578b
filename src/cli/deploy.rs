//! `hostctl deploy …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hostctl::spec::{App, AppLimits, AppRestart, AppWebserver};

use super::app::{add, named};
use super::change::How;
use super::{Context, Failure};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a directory or a page over HTTP in a subnet's namespace.
    ///
    /// An app like those of `hostctl app run`: supervised, and gone with its
    /// subnet. Needs root.
    Webserver(Webserver),
}

#[derive(Debug, Args)]
pub struct Webserver {
    /// The network's name.
    #[arg(long)]
    vpc: String,
    /// The subnet's name.
    #[arg(long)]
    subnet: String,
    /// The TCP port to listen on.
    #[arg(long)]
    port: u16,
    /// The directory to serve; without one it greets.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The app's name; default: webserver-VPC-SUBNET-PORT.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    how: How,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let Command::Webserver(server) = command;
    let fallback = format!("webserver-{}-{}-{}", server.vpc, server.subnet, server.port);
    let name = named(server.name, &fallback)?;
    let directory = server.directory.map(std::path::absolute).transpose();
    let directory = directory.map_err(|error| Failure::other(format!("no such directory: {error}")))?;
    let greeting = format!("Hello from subnet {} of {}", server.subnet, server.vpc);
    let app = App {
        network: named(Some(server.vpc), "")?,
        subnet: named(Some(server.subnet), "")?,
        command: None,
        webserver: Some(AppWebserver { port: server.port, directory, greeting: Some(greeting) }),
        restart: AppRestart::Always,
        user: None,
        isolate: false,
        limits: AppLimits::default(),
        environment: std::collections::BTreeMap::new(),
    };
    add(context, &server.how, name, app).await
}
