//! `--wait`: for commands that change the host, of which one runs at a time.

use std::time::Duration;

use clap::Args;

/// Without a time.
const FOREVER: &str = "forever";

/// How long to wait for another hostctl.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Wait {
    /// Wait for another hostctl that is changing the host: for TIME (`30s`, `5m`),
    /// or as long as it takes.
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = FOREVER,
        value_parser = time
    )]
    wait: Option<Duration>,
}

impl Wait {
    /// How long; not at all where nobody asked for it.
    pub fn patience(self) -> Duration {
        self.wait.unwrap_or_default()
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match text {
        FOREVER => Ok(Duration::MAX),
        text => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}
