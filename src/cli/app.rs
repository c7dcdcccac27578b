//! `hostctl app …`.

use clap::{Args, Subcommand};
use hostctl::app::{self, Namespace, User, webserver};
use hostctl::topology::Name;

use super::{Context, Failure};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Supervise an app in the foreground.
    #[command(hide = true)]
    Supervise(Supervise),
    /// The first process of an isolated app.
    #[command(hide = true)]
    Init(Init),
    /// Serve a directory or a page over HTTP.
    #[command(hide = true)]
    Webserver(Webserver),
}

#[derive(Debug, Args)]
pub struct Supervise {
    /// The namespace that the app is in.
    namespace: String,
    /// The app's name.
    name: String,
}

#[derive(Debug, Args)]
pub struct Init {
    /// The user to become.
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    /// The group to become.
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    /// The program, and its arguments.
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Webserver {
    /// The TCP port to listen on.
    #[arg(long)]
    port: u16,
    /// The directory to serve.
    #[arg(long)]
    directory: Option<std::path::PathBuf>,
    /// What the page says where there is no directory.
    #[arg(long, default_value = "Hello")]
    greeting: String,
    /// The user to become.
    #[arg(long, default_value_t = 65534)]
    uid: u32,
    /// The group to become.
    #[arg(long, default_value_t = 65534)]
    gid: u32,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Supervise(arguments) => supervise(context, &arguments).await,
        Command::Init(Init { uid, gid, command }) => {
            let user = uid.zip(gid).map(|(uid, gid)| User { uid, gid });
            std::process::exit(app::init(user, &command)?.into())
        }
        Command::Webserver(Webserver { port, directory, greeting, uid, gid }) => {
            let server = app::Webserver { port, directory, greeting: Some(greeting) };
            Ok(webserver::serve(&server, User { uid, gid }).await?)
        }
    }
}

async fn supervise(context: &Context, arguments: &Supervise) -> Result<(), Failure> {
    let namespace =
        Namespace::new(&arguments.namespace).map_err(|error| Failure::other(error.to_string()))?;
    let name = Name::new(&arguments.name).map_err(|error| Failure::other(error.to_string()))?;
    let wanted = app::read_desired(&context.root, &namespace, &name)?;
    Ok(app::supervise(&context.root, wanted).await?)
}
