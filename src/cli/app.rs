//! `hostctl app …`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use hostctl::app::{self, User};
use hostctl::spec::{App, AppLimits, AppRestart, AppUser, Memory, SpecEdit};
use hostctl::topology::{Name, NamespaceName};

use super::change::{Deletion, How, change, delete};
use super::{Context, Failure, logs, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program in a subnet's namespace, under a supervisor.
    ///
    /// It is added to the spec: it comes back with the host, and goes with its
    /// subnet. Where it is there as asked, nothing is done. Needs root.
    #[command(visible_alias = "start")]
    Run(Run),
    /// List apps.
    #[command(visible_alias = "ls")]
    List,
    /// Print what an app wrote.
    #[command(alias = "log")]
    Logs(Logs),
    /// Stop an app and remove it from the spec.
    ///
    /// It is asked to end, and killed with all that it started 20 s later.
    /// Needs root.
    #[command(visible_alias = "rm", aliases = ["delete", "remove"])]
    Stop(Stop),
    /// Supervise an app in the foreground.
    #[command(hide = true)]
    Supervise(Supervise),
    /// The first process of an isolated app.
    #[command(hide = true)]
    Init(Init),
    /// Serve a directory or a page over HTTP.
    #[cfg(feature = "webserver")]
    #[command(hide = true)]
    Webserver(Webserver),
}

#[derive(Debug, Args)]
pub struct Run {
    /// The network's name.
    #[arg(long)]
    vpc: String,
    /// The subnet's name.
    #[arg(long)]
    subnet: String,
    /// The app's name; default: the program's.
    #[arg(long)]
    name: Option<String>,
    /// When it is started again.
    #[arg(long, value_parser = restart(), default_value = "on-failure")]
    restart: AppRestart,
    /// Who it runs as, such as www-data, 1000 or 1000:100; default: root.
    ///
    /// A user of the host by name or number, with its group and no other, or a
    /// user's and a group's numbers. Root is root of the host: without the
    /// right to change networks or to leave the namespace by itself, and with
    /// all of root's files.
    #[arg(long)]
    user: Option<AppUser>,
    /// Hide all other processes from it, not the host's files.
    ///
    /// It has a PID and a mount namespace of its own: it sees and signals its
    /// own processes alone, and /sys shows its network namespace. All of it
    /// ends with its first process. It reads and writes the host's files as its
    /// user may, so code that you don't trust needs --user too.
    #[arg(long)]
    isolate: bool,
    /// Most memory, such as 256M; needs cgroup v2.
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<Memory>,
    /// Most processor time, in thousandths of a processor; needs cgroup v2.
    #[arg(long, value_name = "MILLICPUS")]
    millicpus: Option<u32>,
    /// Most processes and threads; needs cgroup v2.
    #[arg(long, value_name = "COUNT")]
    pids: Option<u32>,
    #[command(flatten)]
    how: How,
    /// The program, and its arguments.
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// The app's name.
    name: String,
    #[command(flatten)]
    shown: logs::Shown,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// The app's name.
    name: String,
    #[command(flatten)]
    deletion: Deletion,
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

#[cfg(feature = "webserver")]
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
        Command::Run(arguments) => start(context, arguments).await,
        Command::List => list(context),
        Command::Logs(arguments) => logs(context, &arguments),
        Command::Stop(Stop { name, deletion }) => {
            delete(context, &deletion, SpecEdit::RemoveApp { name }).await
        }
        Command::Supervise(arguments) => supervise(context, &arguments).await,
        Command::Init(Init { uid, gid, command }) => {
            let user = uid.zip(gid).map(|(uid, gid)| User { uid, gid });
            std::process::exit(app::init(user, &command)?.into())
        }
        #[cfg(feature = "webserver")]
        Command::Webserver(Webserver { port, directory, greeting, uid, gid }) => {
            let server = hostctl::webserver::Server { port, directory, greeting };
            let served = hostctl::webserver::serve(&server, User { uid, gid }).await;
            served.map_err(|error| Failure::other(error.to_string()))
        }
    }
}

/// When an app is started again, as the spec says it.
fn restart() -> impl TypedValueParser<Value = AppRestart> {
    PossibleValuesParser::new(["always", "on-failure", "never"]).map(|word| match word.as_str() {
        "always" => AppRestart::Always,
        "never" => AppRestart::Never,
        _ => AppRestart::OnFailure,
    })
}

/// A name made of a program's or a subnet's.
pub fn named(wanted: Option<String>, fallback: &str) -> Result<Name, Failure> {
    let tame = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let text = wanted.unwrap_or_else(|| {
        let text: String = fallback.to_lowercase().chars().map(tame).take(63).collect();
        text.trim_matches('-').to_string()
    });
    Name::new(&text).map_err(|error| Failure::other(format!("{text:?} can't be an app's name: {error}")))
}

async fn start(context: &Context, run: Run) -> Result<(), Failure> {
    let program = run.command.first().map(String::as_str).unwrap_or_default();
    let name = named(run.name, program.rsplit('/').next().unwrap_or_default())?;
    let network = named(Some(run.vpc), "")?;
    let subnet = named(Some(run.subnet), "")?;
    let app = App {
        network,
        subnet,
        command: Some(run.command),
        webserver: None,
        restart: run.restart,
        user: run.user,
        isolate: run.isolate,
        limits: AppLimits { memory: run.memory, millicpus: run.millicpus, pids: run.pids },
        environment: std::collections::BTreeMap::new(),
    };
    add(context, &run.how, name, app).await
}

/// Adds an app to the spec, and waits until it runs.
pub async fn add(context: &Context, how: &How, name: Name, app: App) -> Result<(), Failure> {
    let namespace = app.namespace();
    change(context, how, &SpecEdit::AddApp { name: name.clone(), app: Box::new(app) }).await?;
    if how.is_dry_run() {
        return Ok(());
    }
    let limit = std::time::Duration::from_secs(10);
    match app::wait_until(&context.root, (&namespace, &name), &app::State::Running, limit, |_| {}) {
        Ok(_) => Ok(()),
        // One that was done before it was asked is fine.
        Err(_) if app::read_ended(&context.root, &namespace, &name)?.is_some() => Ok(()),
        Err(error) => Err(Failure::other(format!("{error}; it stays in the spec: hostctl app stop {name}"))),
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let spec = super::spec::load_default(context)?.spec;
    let seen = app::observe(&context.root)?;
    let apps: Vec<_> = spec
        .apps
        .iter()
        .map(|(name, app)| {
            let namespace = app.namespace();
            let one = seen.iter().find(|one| one.name.as_str() == name && one.namespace == namespace);
            let state = one.map_or_else(|| "stopped".into(), app::Observed::state);
            let what = match (&app.webserver, &app.command) {
                (Some(server), _) => format!("webserver on port {}", server.port),
                (None, command) => command.clone().unwrap_or_default().join(" "),
            };
            (name.clone(), namespace.to_string(), state, what)
        })
        .collect();
    if context.json {
        let rows: Vec<_> = apps
            .iter()
            .map(|(name, namespace, state, what)| {
                serde_json::json!({ "name": name, "namespace": namespace, "state": state, "what": what })
            })
            .collect();
        return output::json(&rows);
    }
    let rows = apps.into_iter().map(|(name, namespace, state, what)| [name, namespace, state, what]);
    output::table(&["APP", "NAMESPACE", "STATE", "WHAT"], rows)
}

fn logs(context: &Context, arguments: &Logs) -> Result<(), Failure> {
    let name = arguments.name.as_str();
    let seen = app::observe(&context.root)?;
    let Some(one) = seen.iter().find(|one| one.name.as_str() == name) else {
        return Err(Failure::other(format!("there is no app {name}: hostctl app list shows them")));
    };
    let path = context.root.app(one.namespace.as_str(), name).join("log");
    match arguments.shown.print(&path, "") {
        // It said nothing yet.
        Err(Failure::Other(text)) if text.is_empty() => Ok(()),
        result => result,
    }
}

async fn supervise(context: &Context, arguments: &Supervise) -> Result<(), Failure> {
    let namespace =
        NamespaceName::new(&arguments.namespace).map_err(|error| Failure::other(error.to_string()))?;
    let name = Name::new(&arguments.name).map_err(|error| Failure::other(error.to_string()))?;
    let wanted = app::read_desired(&context.root, &namespace, &name)?;
    Ok(app::supervise(&context.root, wanted).await?)
}
