//! Apps: programs that run in a subnet's namespace.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{Memory, Name};

/// A program in a subnet's network namespace, under a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The network that it runs in.
    #[schemars(with = "String")]
    pub network: Name,
    /// The subnet; it has `namespace = true`.
    #[schemars(with = "String")]
    pub subnet: Name,
    /// The program and its arguments; or `webserver`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// A small web server of hostctl's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webserver: Option<AppWebserver>,
    /// When it is started again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart: AppRestart,
    /// Whether it has a PID and a mount namespace of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub isolate: bool,
    /// What it may use of the host; needs cgroup v2.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: AppLimits,
    /// Variables of its environment.
    #[serde(default, skip_serializing_if = "is_default")]
    pub environment: BTreeMap<String, String>,
}

/// A web server of hostctl's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppWebserver {
    /// The TCP port that it listens on.
    pub port: u16,
    /// The directory that it serves; without one it greets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// What it says without a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greeting: Option<String>,
}

/// When an app is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AppRestart {
    /// However it ended.
    Always,
    /// When it failed or was killed.
    #[default]
    OnFailure,
    /// Not at all.
    Never,
}

/// What an app may use of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppLimits {
    /// Memory, such as `256M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<Memory>,
    /// Processor time, in thousandths of a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub millicpus: Option<u32>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
