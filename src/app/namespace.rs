//! Emptying a namespace that is about to go: one that a process is in lives
//! on without a name, and so does whatever the process does there.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::root_dir::RootDir;
use crate::supervise::process::{Process, pids};
use crate::topology::NamespaceName;

use super::error::AppError;
use super::launch::NAMES;
use super::observe::{observe, stop};

/// How long killed processes may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Stops every app in `namespace`, all at a time, each as [`stop`] does.
///
/// # Errors
/// That of the first app that lives on; the others are stopped all the same.
pub fn stop_all(root: &RootDir, namespace: &NamespaceName, timeout: Duration) -> Result<(), AppError> {
    let apps = observe(root)?.into_iter().filter(|app| app.namespace == *namespace);
    std::thread::scope(|scope| {
        let stops: Vec<_> =
            apps.map(|app| scope.spawn(move || stop(root, &app.namespace, &app.name, timeout))).collect();
        let results: Vec<_> = stops.into_iter().map(|stop| stop.join()).collect();
        results.into_iter().try_for_each(|result| {
            result
                .unwrap_or_else(|_| Err(AppError::kernel("stop an app")(io::Error::other("the thread died"))))
        })
    })
}

/// Kills every process that is in `namespace`, whoever started it, and says
/// which; this one stays. For a namespace that is about to be deleted, once
/// its apps are stopped. One without that name has nobody in it.
///
/// # Errors
/// Where `/proc` can't be read, or a process lives on.
pub fn evict(namespace: &NamespaceName) -> Result<Vec<u32>, AppError> {
    let path = Path::new(NAMES).join(namespace.as_str());
    let wanted = match identity(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(AppError::file("look at", &path))?,
    };
    // `ip netns attach` gives any namespace a name, the machine's own too.
    // What can't be looked at isn't found as an occupant either.
    let same = |path: &str| identity(Path::new(path)).is_ok_and(|other| other == wanted);
    if ["/proc/thread-self/ns/net", "/proc/self/ns/net", "/proc/1/ns/net"].into_iter().any(same) {
        return Err(AppError::SparedNamespace(namespace.to_string()));
    }
    let mut ended = Vec::new();
    let deadline = Instant::now() + KILL_LIMIT;
    loop {
        let found = occupants(wanted).map_err(AppError::file("read", "/proc"))?;
        if found.is_empty() {
            return Ok(ended);
        }
        for process in &found {
            process.signal(Signal::KILL).map_err(AppError::kernel("kill a process"))?;
        }
        for process in found {
            let left = deadline.saturating_duration_since(Instant::now());
            if !process.wait(left).map_err(AppError::kernel("wait for a process"))? || left.is_zero() {
                let what = format!("the end of killed process {} in {namespace}", process.pid);
                return Err(AppError::late(what, KILL_LIMIT));
            }
            ended.push(process.pid);
        }
        // Once more, for what was born meanwhile.
    }
}

/// Device and inode: what tells one namespace from another (namespaces(7)).
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

fn occupants(namespace: (u64, u64)) -> io::Result<Vec<Process>> {
    let inside = |pid: u32| {
        // Held before it is looked at: the pid can't be another's by then.
        let process = Process::open(pid)?;
        let theirs = identity(Path::new(&format!("/proc/{pid}/ns/net"))).ok()?;
        (theirs == namespace).then_some(process)
    };
    Ok(pids()?.into_iter().filter_map(inside).collect())
}
