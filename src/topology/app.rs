//! Each app of the spec → what runs, where and as whom. What could never start
//! is refused here, where its key is known.

use std::collections::BTreeMap;

use crate::ownership::{APP_VARIABLE, UIDS};
use crate::spec::{self, AppLimits, AppRestart, AppUser, AppWebserver, SpecPath};

use super::compile::Compiler;
use super::{Name, Namespace, NamespaceName};

/// The longest command and the largest environment, in bytes; the kernel's
/// own limit is not below 128 KiB (execve(2)).
const WORDS_MAX: usize = 64 * 1024;
/// The longest greeting of a web server, in bytes.
const GREETING_MAX: usize = 4096;
/// The least processor time, in thousandths of a processor: the kernel's
/// smallest quota is 1 ms in 100 (`cpu.max`, cgroup-v2.rst).
const MILLICPUS_MIN: u32 = 10;

/// A program in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its name in the spec.
    pub name: Name,
    /// The namespace that it runs in.
    pub namespace: NamespaceName,
    /// What runs.
    pub workload: Workload,
    /// When it is started again.
    pub restart: AppRestart,
    /// Whether it has a PID and a mount namespace of its own.
    pub isolate: bool,
    /// What it may use of the host.
    pub limits: AppLimits,
    /// Whom it runs as; none: root, a web server nobody.
    pub user: Option<AppUser>,
    /// Added to an environment of `PATH` alone.
    pub environment: BTreeMap<String, String>,
}

/// What an app runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workload {
    /// A program and its arguments; without a slash it is looked for in `PATH`.
    Command(Vec<String>),
    /// hostctl's own web server.
    Webserver(AppWebserver),
}

/// Why an app could never be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key of the spec, below the app's own.
    pub key: &'static [&'static str],
    /// What is wrong.
    pub message: &'static str,
    /// What would be right.
    pub hint: &'static str,
}

impl App {
    /// `<namespace>/<name>`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// What is wrong with it that its types don't exclude.
    pub fn faults(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        let mut add = |wrong: bool, key, message, hint| {
            if wrong {
                found.push(Fault { key, message, hint });
            }
        };
        match &self.workload {
            Workload::Command(words) => {
                let key = &["command"];
                add(
                    words.first().is_none_or(String::is_empty),
                    key,
                    "the command is empty",
                    "name a program and its arguments: command = [\"sleep\", \"60\"]",
                );
                let nul = words.iter().any(|word| word.contains('\0'));
                add(nul, key, "a word of the command holds a NUL", "no program can be given one");
                let long = words.iter().map(String::len).sum::<usize>() > WORDS_MAX;
                add(long, key, "the command is longer than 64 KiB", "put a part of it into a file");
            }
            Workload::Webserver(server) => {
                add(server.port == 0, &["webserver", "port"], "0 isn't a port", "1 to 65535 are");
                let directory = server.directory.as_ref();
                let key = &["webserver", "directory"];
                let relative = directory.is_some_and(|path| !path.is_absolute());
                add(relative, key, "the path isn't absolute", "begin it with /");
                let nul = directory.is_some_and(|path| path.as_os_str().as_encoded_bytes().contains(&0));
                add(nul, key, "the path holds a NUL", "no file's name does");
                let greeting = server.greeting.as_deref().unwrap_or_default();
                add(
                    greeting.len() > GREETING_MAX || greeting.contains('\0'),
                    &["webserver", "greeting"],
                    "the greeting is longer than 4096 bytes or holds a NUL",
                    "put it into a file, and name its directory",
                );
                add(
                    self.user.as_ref().is_some_and(AppUser::is_root),
                    &["user"],
                    "a web server needs no root",
                    "leave user out: it takes its port first and is nobody then",
                );
            }
        }
        let size: usize = self.environment.iter().map(|(key, value)| key.len() + value.len()).sum();
        add(
            size > WORDS_MAX,
            &["environment"],
            "the environment is larger than 64 KiB",
            "put a part of it into a file",
        );
        let unsettable = |(key, value): (&String, &String)| {
            key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') || key == APP_VARIABLE
        };
        add(
            self.environment.iter().any(unsettable),
            &["environment"],
            "a variable can't be set",
            "a name has no = in it, nothing a NUL, and HOSTCTL_APP is hostctl's own",
        );
        const NOTHING: &str = "nothing can run with that";
        add(self.limits.pids == Some(0), &["limits", "pids"], NOTHING, "1 or more");
        add(
            self.limits.millicpus.is_some_and(|millicpus| millicpus < MILLICPUS_MIN),
            &["limits", "millicpus"],
            NOTHING,
            "10 or more",
        );
        let ids = match &self.user {
            Some(AppUser::Ids { uid, gid }) => vec![uid, gid],
            Some(AppUser::Id(uid)) => vec![uid],
            Some(AppUser::Name(_)) | None => Vec::new(),
        };
        add(
            ids.into_iter().any(|id| UIDS.contains(id)),
            &["user"],
            "1879048192 to 2147483647 are the users of VMs' QEMUs, whom no app may be",
            "name a user of the host's",
        );
        found
    }
}

impl Compiler<'_> {
    pub(super) fn apps(&mut self, namespaces: &[Namespace]) -> Vec<App> {
        let spec = self.spec;
        let mut apps = Vec::new();
        for (key, app) in &spec.apps {
            let path = SpecPath::keys(["apps", key]);
            let name = self.name(&path, key);
            let workload = self.workload(&path, app);
            if !self.reference(path.clone().key("network"), "network", &app.network, &spec.networks) {
                continue;
            }
            let Some(network) = spec.networks.get(app.network.as_str()) else { continue };
            if !self.reference(path.clone().key("subnet"), "subnet", &app.subnet, &network.subnets) {
                continue;
            }
            let namespace = app.namespace();
            if !namespaces.iter().any(|other| other.name == namespace) {
                let message = format!("subnet {} has no namespace to run in", app.subnet);
                let hint = "set namespace = true in the subnet";
                self.consequence(path.clone().key("subnet"), message, hint);
                continue;
            }
            let (Some(name), Some(workload)) = (name, workload) else { continue };
            let app = App {
                name,
                namespace,
                workload,
                restart: app.restart,
                isolate: app.isolate,
                limits: app.limits.clone(),
                user: app.user.clone(),
                environment: app.environment.clone(),
            };
            for Fault { key, message, hint } in app.faults() {
                let path = key.iter().fold(path.clone(), |path, key| path.key(key));
                self.issue(path, message, hint);
            }
            apps.push(app);
        }
        apps
    }

    fn workload(&mut self, path: &SpecPath, app: &spec::App) -> Option<Workload> {
        match (&app.command, &app.webserver) {
            (Some(_), Some(_)) => {
                self.issue(
                    path.clone().key("webserver"),
                    "a command and a web server: one of them",
                    "keep command = […] or webserver = {…}",
                );
                None
            }
            (None, None) => {
                let hint = "name a command = […] or a webserver = {…}";
                self.consequence(path.clone(), "nothing to run", hint);
                None
            }
            (Some(command), None) => Some(Workload::Command(command.clone())),
            (None, Some(server)) => Some(Workload::Webserver(server.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile;

    fn issues(keys: &str) -> Vec<String> {
        let text = format!(
            "[networks.prod]\ncidr = \"10.1.0.0/24\"\n[networks.prod.subnets.web]\ncidr = \"10.1.0.0/25\"\n\
             type = \"public\"\nnamespace = true\n[apps.api]\nnetwork = \"prod\"\nsubnet = \"web\"\n{keys}\n"
        );
        match compile(&toml::from_str(&text).unwrap()) {
            Ok(topology) => {
                assert_eq!(topology.apps[0].label(), "prod-web/api");
                Vec::new()
            }
            Err(issues) => issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message)).collect(),
        }
    }

    #[test]
    fn what_could_never_start_is_refused_at_its_key() {
        let command = |keys: &str| issues(&format!("command = [\"x\"]\n{keys}"));
        assert_eq!(command(""), [""; 0]);
        for (keys, at) in [
            ("command = []", "apps.api.command: the command is empty"),
            ("command = [\"a\\u0000b\"]", "apps.api.command: a word"),
            ("webserver = { port = 0 }", "apps.api.webserver.port: 0"),
            (
                "webserver = { port = 80, directory = \"www\" }",
                "apps.api.webserver.directory: the path isn't",
            ),
            (
                "webserver = { port = 80, directory = \"/a\\u0000\" }",
                "apps.api.webserver.directory: the path",
            ),
            ("webserver = { port = 80, greeting = \"\\u0000\" }", "apps.api.webserver.greeting: "),
            ("webserver = { port = 80 }\nuser = \"root\"", "apps.api.user: a web server needs no root"),
            ("webserver = { port = 80 }\nuser = \"0:5\"", "apps.api.user: a web server needs no root"),
        ] {
            let found = issues(keys);
            assert!(found.len() == 1 && found[0].starts_with(at), "{keys}: {found:?}");
        }
        for (keys, at) in [
            ("environment = { HOSTCTL_APP = \"x\" }", "apps.api.environment: a variable"),
            ("environment = { \"a=b\" = \"x\" }", "apps.api.environment: a variable"),
            ("limits = { pids = 0 }", "apps.api.limits.pids: nothing"),
            ("limits = { millicpus = 9 }", "apps.api.limits.millicpus: nothing"),
            // A VM's user could stop its QEMU and open what it has open.
            ("user = \"1879048192\"", "apps.api.user: 1879048192 to"),
            ("user = \"1000:2147483647\"", "apps.api.user: 1879048192 to"),
            ("user = \"2000000000:0\"", "apps.api.user: 1879048192 to"),
        ] {
            let found = command(keys);
            assert!(found.len() == 1 && found[0].starts_with(at), "{keys}: {found:?}");
        }
        let long = "x".repeat(70_000);
        assert_eq!(issues(&format!("command = [\"{long}\"]")).len(), 1);
        assert_eq!(command(&format!("environment = {{ A = \"{long}\" }}")).len(), 1);
    }
}
