//! Apps: programs that run in a subnet's namespace.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{AppUser, Memory, Name, NamespaceName};

/// A program in a subnet's network namespace, under a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The network that it runs in.
    #[schemars(with = "String", example = &"prod")]
    pub network: Name,
    /// The subnet; it has `namespace = true`.
    #[schemars(with = "String", example = &"web")]
    pub subnet: Name,
    /// The program and its arguments; or `webserver`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = ["/usr/bin/python3", "-m", "http.server"])]
    pub command: Option<Vec<String>>,
    /// A small web server of hostctl's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [{ "port": 8080 }]))]
    pub webserver: Option<AppWebserver>,
    /// When it is started again.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(example = &"always")]
    pub restart: AppRestart,
    /// Who it runs as: a user of the host by name (`www-data`) or number
    /// (`1000`), or a user's and a group's numbers (`1000:100`). Where nobody
    /// is named: root, to whom the host's files belong; a web server nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("examples" = ["www-data"]))]
    pub user: Option<AppUser>,
    /// Whether it has a PID and a mount namespace of its own, in which it sees
    /// its own processes alone and the `/sys` of its network namespace. It sees
    /// the host's files all the same, with the rights of its `user`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(example = true)]
    pub isolate: bool,
    /// What it may use of the host; needs cgroup v2.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("examples" = [{ "memory": "256M" }]))]
    pub limits: AppLimits,
    /// Variables of its environment.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("examples" = [{ "LANG": "C.UTF-8" }]))]
    pub environment: BTreeMap<String, String>,
}

impl App {
    /// The name of the namespace that it runs in.
    pub fn namespace(&self) -> NamespaceName {
        NamespaceName::of(&self.network, &self.subnet)
    }
}

/// A web server of hostctl's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppWebserver {
    /// The TCP port that it listens on.
    #[schemars(example = 8080)]
    pub port: u16,
    /// The directory that it serves; without one it greets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/srv/www")]
    pub directory: Option<PathBuf>,
    /// What it says without a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"hello")]
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
    #[schemars(with = "Option<String>", example = &"256M")]
    pub memory: Option<Memory>,
    /// Processor time, in thousandths of a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 500)]
    pub millicpus: Option<u32>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 100)]
    pub pids: Option<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
