//! Where the program's log goes: what happens inside to standard error, what was
//! done to the host to the journal too, where there is one.

use std::io::IsTerminal;
use std::path::Path;

use hostctl::host::ACTION_TARGET;
use hostctl::root_dir::RootDir;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// `HOSTCTL_LOG=info` tells what happens inside hostctl; the libraries keep
/// quiet, unless they are named as tracing-subscriber's directives do it.
pub fn start(root: &RootDir, default: &str) {
    let wanted = std::env::var("HOSTCTL_LOG").unwrap_or_else(|_| default.into());
    let plain = wanted.chars().all(char::is_alphanumeric);
    // A command prints by itself what it did.
    let directives = if plain { format!("warn,{ACTION_TARGET}=off,hostctl={wanted}") } else { wanted };
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new(default));
    let colors = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt::layer().with_target(false).with_ansi(colors);
    let log = log.with_writer(std::io::stderr).with_filter(filter);
    tracing_subscriber::registry().with(log).with(journal(root)).init();
}

/// Fields are called HOSTCTL_COMMAND, HOSTCTL_RESULT and so on. What is under
/// another root directory isn't this machine's affair.
fn journal<S>(root: &RootDir) -> Option<impl Layer<S> + use<S>>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    if root.path() != Path::new("/") {
        return None;
    }
    // No journal is no failure.
    let journal = tracing_journald::layer().ok()?;
    let journal = journal.with_field_prefix(Some("HOSTCTL".into())).with_syslog_identifier("hostctl".into());
    Some(journal.with_filter(Targets::new().with_target(ACTION_TARGET, tracing::Level::INFO)))
}
