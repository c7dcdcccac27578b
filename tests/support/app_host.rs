//! A host with one namespace, prod-web, and one app in it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use hostctl::app::{self, AppRecord, AppReport, Client, State};
use hostctl::root_dir::RootDir;
use hostctl::testbed::{NamedNamespaces, Netns};
use hostctl::topology::{App, Name, NamespaceName};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::processes::until;

/// More than any app needs here.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Host {
    pub root: RootDir,
    pub app: App,
    pub names: NamedNamespaces,
    pub netns: Netns,
    dir: tempfile::TempDir,
}

impl Host {
    /// An app that runs `script` in a shell, `edit`ed. The calling thread
    /// moves to a mount namespace of its own.
    pub fn new(script: &str, edit: impl FnOnce(&mut Value)) -> Self {
        let names = NamedNamespaces::enter().unwrap();
        let netns = names.add("prod-web").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::new(dir.path());
        let mut value = json!({
            "name": "api", "namespace": "prod-web", "restart": "never",
            "workload": { "command": ["/bin/sh", "-c", script] },
            // Where scripts put files, and by which their processes are found.
            "environment": { "DIR": dir.path() },
        });
        edit(&mut value);
        let app = serde_json::from_value::<AppRecord>(value).unwrap().app().unwrap();
        Self { root, app, names, netns, dir }
    }

    pub fn webserver(port: u16, edit: impl FnOnce(&mut Value)) -> Self {
        Self::new("", |value| {
            value["workload"] = json!({ "webserver": { "port": port } });
            edit(value);
        })
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Starts a supervisor in the background.
    pub fn start(&self) {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_hostctl"));
        app::spawn_supervisor(&self.root, &self.app, &program).unwrap();
    }

    pub fn wait(&self, state: &State) -> Result<AppReport, String> {
        let id = (&self.app.namespace, &self.app.name);
        app::wait_until(&self.root, id, state, LONG, |_| {}).map_err(|error| error.to_string())
    }

    pub fn running(&self) -> AppReport {
        self.wait(&State::Running).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Starts it, and waits until the script made the file `ready`.
    pub fn start_ready(&self) -> AppReport {
        self.start();
        let status = self.running();
        until("the script is ready", || self.path("ready").exists());
        status
    }

    pub fn status(&self) -> Option<AppReport> {
        Client::connect(&self.root, &self.app.namespace, &self.app.name).ok()?.status().ok()
    }

    pub fn stop(&self, timeout: Duration) {
        app::stop(&self.root, &self.app.namespace, &self.app.name, timeout).unwrap();
    }

    pub fn observed(&self) -> app::Observed {
        app::observe(&self.root).unwrap().remove(0)
    }

    /// Waits until nobody supervises; why it failed, where it did.
    pub fn over(&self) -> Option<String> {
        // A supervisor that is about to start has no lock yet, but what it is to run.
        until("it is over", || {
            matches!(self.observed(), app::Observed { supervised: false, record: None, .. })
        });
        self.observed().failure
    }

    pub fn log_path(&self) -> PathBuf {
        self.root.app("prod-web", "api").join("log")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    pub fn logged(&self, text: &str) {
        until(text, || self.log().contains(text));
    }

    /// The living processes in the app's network namespace: none is hidden by
    /// a new session, another parent or an empty environment.
    pub fn processes(&self) -> Vec<u32> {
        let inode = |path: &str| std::fs::metadata(path).map(|file| file.ino()).ok();
        let ours = rustix::fs::fstat(self.netns.fd()).unwrap().st_ino;
        let pids = std::fs::read_dir("/proc").unwrap();
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| inode(&format!("/proc/{pid}/ns/net")) == Some(ours)).collect()
    }

    /// The app's HTTP answer: head and body.
    pub fn http(&self, address: &str, request: &str) -> std::io::Result<String> {
        self.netns.run(|| {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(LONG))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })
    }

    pub fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.http("127.0.0.1:8080", &request).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let stopped = app::stop(&self.root, &self.app.namespace, &self.app.name, Duration::ZERO);
        let left = self.processes();
        for pid in &left {
            let _ = Pid::from_raw(pid.cast_signed()).map(|pid| kill_process(pid, Signal::KILL));
        }
        if !std::thread::panicking() {
            stopped.unwrap();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

pub fn name(text: &str) -> (NamespaceName, Name) {
    (NamespaceName::new("prod-web").unwrap(), Name::new(text).unwrap())
}
