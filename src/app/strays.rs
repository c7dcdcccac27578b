//! What a supervisor that was killed left behind. Every process of an app
//! carries a variable in its environment that names hostctl's root and the
//! app, and hands it on to its children.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ownership::APP_VARIABLE;
use crate::root_dir::RootDir;
use crate::supervise::birthplace;
use crate::supervise::process::{Process, pids};
use crate::topology::{Name, NamespaceName};

use super::cgroup::Cgroup;
use super::error::AppError;
use super::launch::NAMES;
use super::runtime_dir::{RuntimeDir, label};

/// How much of an environment is read, in bytes; an app's own is smaller.
const ENVIRONMENT_MAX: u64 = 1024 * 1024;
/// How long a killed process may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A process without a supervisor, which was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its pid.
    pub pid: u32,
    /// The app's namespace.
    pub namespace: NamespaceName,
    /// The app.
    pub name: Name,
}

/// The value of [`APP_VARIABLE`]: `<instance>:<namespace>/<name>`.
pub(super) fn mark(root: &RootDir, namespace: &NamespaceName, name: &Name) -> String {
    format!("{}:{}", root.instance(), label(namespace, name))
}

/// Ends the processes of every app that has no supervisor, and says which
/// they were. One that emptied its environment, or only ever lives for a
/// moment and starts the next, can be missed: [`evict`](super::evict) finds
/// the former, and an isolated app leaves neither.
///
/// # Errors
/// Where `/proc` can't be read, or a process lives on.
pub fn reap_strays(root: &RootDir) -> Result<Vec<Stray>, AppError> {
    reap(root, |stray| {
        let dir = RuntimeDir::open(root, &stray.namespace, &stray.name);
        !dir.is_ok_and(|dir| dir.is_some_and(|dir| dir.lock_holder().is_some()))
    })
}

/// Ends what is left of one app; for whoever holds its lock.
pub(super) fn reap_app(root: &RootDir, namespace: &NamespaceName, name: &Name) -> Result<(), AppError> {
    // Where it had limits its group knows them all; gone when it is dropped.
    let group = Cgroup::find(root, namespace, name);
    if let Some(group) = &group {
        group.kill();
    }
    reap(root, |stray| stray.namespace == *namespace && stray.name == *name).map(drop)
}

fn reap(root: &RootDir, wanted: impl Fn(&Stray) -> bool) -> Result<Vec<Stray>, AppError> {
    let marks = Marks::of(root);
    let mut ended: Vec<Stray> = Vec::new();
    let deadline = Instant::now() + KILL_LIMIT;
    loop {
        let found = marks.find().map_err(AppError::file("read", "/proc"))?;
        let found: Vec<_> = found.into_iter().filter(|(_, stray)| wanted(stray)).collect();
        if found.is_empty() {
            return Ok(ended);
        }
        for (process, stray) in found {
            process.signal(Signal::KILL).map_err(AppError::kernel("kill a stray process"))?;
            let left = deadline.saturating_duration_since(Instant::now());
            let gone = process.wait(left).map_err(AppError::kernel("wait for a stray process"))?;
            if !gone || left.is_zero() {
                let what = format!("the end of killed process {} of app {}", process.pid, stray.name);
                return Err(AppError::late(what, KILL_LIMIT));
            }
            ended.push(stray);
        }
        // Once more, for what was born meanwhile.
    }
}

/// What marks the processes of a hostctl's apps.
struct Marks {
    prefix: String,
    /// An earlier version's, which several hostctls may have: good for those
    /// that are in a namespace of ours.
    former: String,
}

impl Marks {
    fn of(root: &RootDir) -> Self {
        let prefix = |instance: String| format!("{APP_VARIABLE}={instance}:");
        Self { prefix: prefix(root.instance()), former: prefix(root.former_instance()) }
    }

    fn find(&self) -> io::Result<Vec<(Process, Stray)>> {
        let mut found = Vec::new();
        for pid in pids()? {
            if pid == std::process::id() {
                continue;
            }
            // Held before it is read: the pid can't be another's by then.
            let Some(process) = Process::open(pid) else { continue };
            if let Some((namespace, name)) = environment(pid).and_then(|text| self.app_of(pid, &text)) {
                found.push((process, Stray { pid, namespace, name }));
            }
        }
        Ok(found)
    }

    fn app_of(&self, pid: u32, environment: &[u8]) -> Option<(NamespaceName, Name)> {
        let former = || {
            let (namespace, name) = marked(environment, &self.former)?;
            let path = Path::new(NAMES).join(namespace.as_str());
            let named = std::fs::metadata(path).ok()?.ino();
            (birthplace::network_of(pid) == Some(named)).then_some((namespace, name))
        };
        marked(environment, &self.prefix).or_else(former)
    }
}

fn environment(pid: u32) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(ENVIRONMENT_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

fn marked(environment: &[u8], prefix: &str) -> Option<(NamespaceName, Name)> {
    let value = environment.split(|byte| *byte == 0).find_map(|word| word.strip_prefix(prefix.as_bytes()))?;
    let (namespace, name) = std::str::from_utf8(value).ok()?.split_once('/')?;
    Some((NamespaceName::new(namespace).ok()?, Name::new(name).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_another_roots_isnt() {
        let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = RootDir::new(here.path());
        let (namespace, name) = (NamespaceName::new("prod-web").unwrap(), Name::new("api").unwrap());
        let mark = mark(&root, &namespace, &name);
        let environment = format!("PATH=/bin\0{APP_VARIABLE}={mark}\0HOME=/\0");
        let prefix = |root: &RootDir| format!("{APP_VARIABLE}={}:", root.instance());
        assert_eq!(marked(environment.as_bytes(), &prefix(&root)), Some((namespace, name)));
        assert_eq!(marked(environment.as_bytes(), &prefix(&RootDir::new(elsewhere.path()))), None);
        assert_eq!(marked(b"", &prefix(&root)), None);
        assert_eq!(marked(format!("X{APP_VARIABLE}={mark}\0").as_bytes(), &prefix(&root)), None);
    }

    #[test]
    fn a_marked_process_is_ended_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::new(dir.path());
        let (namespace, name) = (NamespaceName::new("prod-web").unwrap(), Name::new("api").unwrap());
        let mut stray = std::process::Command::new("sleep");
        let mut stray = stray.arg("60").env(APP_VARIABLE, mark(&root, &namespace, &name)).spawn().unwrap();
        // Those of an earlier version, whose path may be another directory
        // there, and those of another network namespace's hostctl stay.
        let former = format!("{}:prod-web/api", root.former_instance());
        let other = format!("{}0:prod-web/api", root.instance());
        let others = [former, other].map(|mark| {
            std::process::Command::new("sleep").arg("60").env(APP_VARIABLE, mark).spawn().unwrap()
        });
        let ended = reap_strays(&root).unwrap();
        assert_eq!(ended, [Stray { pid: stray.id(), namespace, name }]);
        stray.wait().unwrap();
        assert_eq!(reap_strays(&root).unwrap(), []);
        for mut other in others {
            assert!(other.try_wait().unwrap().is_none(), "it lives");
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}
