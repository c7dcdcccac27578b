//! The app that is wanted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ownership::APP_VARIABLE;
use crate::spec::{AppRestart, Memory, is_of_a_name, is_ragged};
use crate::topology::{self, Name};

use super::error::AppError;

/// The longest name of a namespace, in bytes: that of a network, a hyphen and
/// that of a subnet.
const NAMESPACE_MAX: usize = 127;
/// The longest command and the largest environment, in bytes; the kernel's
/// own limit is not below 128 KiB (execve(2)).
const WORDS_MAX: usize = 64 * 1024;

/// A program in a named network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its name, one in its namespace.
    pub name: Name,
    /// The namespace, as `ip netns list` names it.
    pub namespace: Namespace,
    /// What runs.
    pub workload: Workload,
    /// When it is started again.
    pub restart: Restart,
    /// Whether it gets a PID and a mount namespace of its own.
    #[serde(default)]
    pub isolate: bool,
    /// What it may use of the machine.
    #[serde(default)]
    pub limits: Limits,
    /// Whom it runs as: root, or for a web server nobody, where none is named.
    #[serde(default)]
    pub user: Option<User>,
    /// Added to an environment of `PATH` alone.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// What an app runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// A program and its arguments; without a slash it is looked for in `PATH`.
    Command(Vec<String>),
    /// hostctl's own web server.
    Webserver(Webserver),
}

/// A web server: a directory, or a page that greets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webserver {
    /// TCP port, IPv4 and IPv6.
    pub port: u16,
    /// The directory that is served, absolute. Files that not everybody may
    /// read aren't.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// What the page says where there is no directory; it names the namespace
    /// by default.
    #[serde(default)]
    pub greeting: Option<String>,
}

/// When an app that ended is started again, after a pause of 1 s that doubles
/// up to 60 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whenever it ended.
    Always,
    /// When it exited with another status than 0, or was killed.
    OnFailure,
    /// Never.
    Never,
}

/// Limits, by cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory, in MiB; there is no swap beyond it.
    pub memory: Option<u32>,
    /// Processor time, in thousandths of a processor.
    pub millicpus: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// Whom an app runs as. It has no other group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The name of a network namespace: a file in `/run/netns`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(String);

/// A text that can't name a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't name a namespace: 1 to 127 letters, digits, and inner hyphens and underscores can")]
pub struct NamespaceError(String);

impl Namespace {
    /// Checks `text`.
    ///
    /// # Errors
    /// Where it isn't 1 to 127 bytes of ASCII letters, digits, and inner hyphens
    /// and underscores.
    pub fn new(text: impl Into<String>) -> Result<Self, NamespaceError> {
        let text = text.into();
        let valid = (1..=NAMESPACE_MAX).contains(&text.len()) && text.chars().all(is_of_a_name);
        if !valid || is_ragged(&text) {
            return Err(NamespaceError(text));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Namespace {
    type Error = NamespaceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<&topology::App> for App {
    type Error = NamespaceError;

    /// The app that the topology asks for.
    fn try_from(app: &topology::App) -> Result<Self, NamespaceError> {
        let spec = &app.spec;
        let workload = match (&spec.webserver, &spec.command) {
            (Some(server), _) => Workload::Webserver(Webserver {
                port: server.port,
                directory: server.directory.clone(),
                greeting: server.greeting.clone(),
            }),
            (None, command) => Workload::Command(command.clone().unwrap_or_default()),
        };
        Ok(Self {
            name: app.name.clone(),
            namespace: Namespace::new(app.namespace.as_str())?,
            workload,
            restart: match spec.restart {
                AppRestart::Always => Restart::Always,
                AppRestart::OnFailure => Restart::OnFailure,
                AppRestart::Never => Restart::Never,
            },
            isolate: spec.isolate,
            limits: Limits {
                memory: spec.limits.memory.map(Memory::mebibytes),
                millicpus: spec.limits.millicpus,
                pids: spec.limits.pids,
            },
            user: None,
            environment: spec.environment.clone(),
        })
    }
}

impl Limits {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl App {
    /// Checks what types can't.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for what could never be started.
    pub fn check(&self) -> Result<(), AppError> {
        let invalid = |reason: &str| Err(AppError::Invalid { app: self.label(), reason: reason.into() });
        match &self.workload {
            Workload::Command(words) => {
                if words.first().is_none_or(String::is_empty) {
                    return invalid("it has no command: name a program");
                }
                if words.iter().any(|word| word.contains('\0')) {
                    return invalid("a word of its command holds a NUL");
                }
                if words.iter().map(String::len).sum::<usize>() > WORDS_MAX {
                    return invalid("its command is longer than 64 KiB");
                }
            }
            Workload::Webserver(server) => {
                if server.port == 0 {
                    return invalid("a web server can't listen on port 0");
                }
                if server.directory.as_ref().is_some_and(|path| !path.is_absolute()) {
                    return invalid("the web server's directory isn't an absolute path");
                }
                if server.greeting.as_ref().is_some_and(|text| text.len() > 4096 || text.contains('\0')) {
                    return invalid("the greeting is longer than 4096 bytes or holds a NUL");
                }
            }
        }
        let size: usize = self.environment.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > WORDS_MAX {
            return invalid("its environment is larger than 64 KiB");
        }
        for (key, value) in &self.environment {
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') || key == APP_VARIABLE {
                return invalid("a variable of its environment can't be set");
            }
        }
        let limits = [self.limits.memory, self.limits.millicpus, self.limits.pids];
        // The kernel's smallest quota is 1 ms in 100.
        if limits.contains(&Some(0)) || self.limits.millicpus.is_some_and(|millicpus| millicpus < 10) {
            return invalid("a limit is too small to run anything");
        }
        Ok(())
    }

    /// `<namespace>/<name>`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(edit: impl FnOnce(&mut serde_json::Value)) -> Result<App, serde_json::Error> {
        let mut value = serde_json::json!({
            "name": "api", "namespace": "prod-web", "workload": { "command": ["sleep", "1"] },
            "restart": "on-failure",
        });
        edit(&mut value);
        serde_json::from_value(value)
    }

    #[test]
    fn an_app_reads_back() {
        let read = app(|_| {}).unwrap();
        read.check().unwrap();
        assert_eq!(read.label(), "prod-web/api");
        assert_eq!(read.restart, Restart::OnFailure);
        let text = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<App>(&text).unwrap(), read);
    }

    #[test]
    fn what_could_never_start_is_refused() {
        let refused =
            |edit: &dyn Fn(&mut serde_json::Value)| app(|value| edit(value)).unwrap().check().is_err();
        assert!(refused(&|value| value["workload"] = serde_json::json!({ "command": [] })));
        assert!(refused(&|value| value["workload"] = serde_json::json!({ "command": ["a\0b"] })));
        assert!(refused(&|value| value["workload"] = serde_json::json!({ "webserver": { "port": 0 } })));
        let relative = serde_json::json!({ "webserver": { "port": 80, "directory": "www" } });
        assert!(refused(&|value| value["workload"] = relative.clone()));
        assert!(refused(&|value| value["environment"] = serde_json::json!({ "HOSTCTL_APP": "x" })));
        assert!(refused(&|value| value["environment"] = serde_json::json!({ "a=b": "x" })));
        assert!(refused(&|value| value["limits"] = serde_json::json!({ "pids": 0 })));
    }

    #[test]
    fn a_namespaces_name_is_one_file() {
        for text in ["", ".", "..", "a/b", "-a", "a-", "_a", &"n".repeat(128)] {
            assert!(Namespace::new(text).is_err(), "{text}");
            assert!(app(|value| value["namespace"] = text.into()).is_err());
        }
        assert_eq!(Namespace::new("prod-web").unwrap().as_str(), "prod-web");
    }
}
