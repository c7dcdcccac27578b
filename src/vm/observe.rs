//! What VMs there are, whoever started them; and stopping one without a
//! supervisor. Blocks.

use std::fs;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::Signal;
use tokio::net::UnixStream;

use crate::ownership::UIDS;
use crate::root_dir::RootDir;
use crate::supervise::client::Seen;
use crate::supervise::process::{Process, of_users};
use crate::supervise::runtime_dir::{FAILURE, names};
use crate::topology::{Name, Vm};

use super::booted::{self, Booted};
use super::client::Client;
use super::control::VmReport;
use super::error::VmError;
use super::pending::{Pending, differences};
use super::qemu::adopt::adopt;
use super::qemu::command_line::name_of;
use super::qemu::launch::Launched;
use super::qemu::qmp::Qmp;
use super::record::VmRecord;
use super::runtime_dir::{BOOTED, LAUNCH, QMP, RuntimeDir};

/// One VM as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its name.
    pub name: Name,
    /// What its QEMU was started with, where one lives and it was written down.
    pub launched: Option<VmRecord>,
    /// Which files it booted.
    pub booted: Booted,
    /// The living QEMU.
    pub pid: Option<u32>,
    /// Whether a supervisor lives.
    pub supervised: bool,
    /// What the supervisor says, where it answers.
    pub status: Option<VmReport>,
    /// Why it failed, where it did and nobody started it since.
    pub failure: Option<String>,
    /// When that was, in seconds after the epoch.
    pub failed_at: Option<u64>,
}

impl Observed {
    /// What of `wanted` waits for the guest's next start; nothing where no
    /// guest runs.
    pub fn pending(&self, root: &RootDir, wanted: &Vm) -> Vec<Pending> {
        if self.pid.is_none() {
            return Vec::new();
        }
        let mut found = differences(self.launched.as_ref(), wanted);
        let named = |one: &Pending| found.iter().any(|other| other.key == one.key || other.key == "image");
        let replaced: Vec<_> =
            booted::replaced(root, &self.booted, wanted).into_iter().filter(|one| !named(one)).collect();
        found.extend(replaced);
        found
    }

    /// Its state as its supervisor tells it, or as it is without one.
    pub fn state(&self) -> String {
        match (&self.status, self.pid, &self.failure) {
            (Some(status), _, _) => status.text(),
            (None, Some(_), _) if self.supervised => "running; its supervisor doesn't answer".into(),
            (None, Some(_), _) => "running without a supervisor".into(),
            (None, None, Some(failure)) => format!("failed: {failure}"),
            (None, None, None) => "stopped".into(),
        }
    }
}

/// Looks at every VM that has a runtime directory.
///
/// # Errors
/// Where the runtime directory can't be read. A VM whose own files can't be
/// understood is listed as one that doesn't run.
pub fn observe(root: &RootDir) -> Result<Vec<Observed>, VmError> {
    let names = names(&root.vms())?.into_iter().filter_map(|name| Name::new(name).ok());
    let mut found: Vec<_> = names.filter_map(|name| observe_one(root, &name)).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Looks at one VM; none where it has no runtime directory.
pub fn observe_one(root: &RootDir, name: &Name) -> Option<Observed> {
    let dir = RuntimeDir::open(root, name).ok().flatten()?;
    let launched = adopt(root, name, &dir).ok().flatten();
    let Seen { status, supervised, failure } = Seen::of(&dir);
    Some(Observed {
        pid: launched.as_ref().map(|launched| launched.process.pid),
        launched: launched.and_then(|launched| launched.record.vm.into_option()),
        booted: dir.read_record(BOOTED).ok().flatten().unwrap_or_default(),
        supervised,
        status,
        failure,
        failed_at: modified(&dir.path(FAILURE)),
        name: name.clone(),
    })
}

fn modified(path: &std::path::Path) -> Option<u64> {
    let time = fs::metadata(path).ok()?.modified().ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|age| age.as_secs())
}

/// QEMUs that this instance of hostctl started and whose runtime files are
/// lost: pid and VM name. [`kill_stray`] ends one.
///
/// # Errors
/// Where `/proc` can't be read.
pub fn find_strays(root: &RootDir) -> Result<Vec<(u32, String)>, VmError> {
    // Processes first: one that starts now is accounted for a moment later.
    let found = strays(root)?;
    let seen = observe(root)?;
    // A supervisor writes down what it launched once it runs.
    let launching = |vm: &Observed| vm.supervised && vm.pid.is_none();
    let known = |pid: u32, name: &str| {
        seen.iter().any(|vm| vm.pid == Some(pid) || (vm.name.as_str() == name && launching(vm)))
    };
    let strays = found.into_iter().map(|(process, name)| (process.pid, name));
    Ok(strays.filter(|(pid, name)| !known(*pid, name)).collect())
}

/// A VM of that directory's that lives in another network namespace than the
/// calling thread's.
///
/// # Errors
/// Where the runtime directory can't be read.
pub fn elsewhere(root: &RootDir) -> Result<Option<Name>, VmError> {
    let mut names = names(&root.vms())?.into_iter().filter_map(|name| Name::new(name).ok());
    let is_elsewhere = |name: &Name| {
        let dir = RuntimeDir::open(root, name).ok().flatten();
        dir.is_some_and(|dir| {
            dir.is_held_elsewhere() || matches!(adopt(root, name, &dir), Err(VmError::Elsewhere { .. }))
        })
    };
    Ok(names.find(is_elsewhere))
}

/// Ends one of [`find_strays`], if it still is one.
///
/// # Errors
/// Where it can't be killed, or `/proc` can't be read.
pub fn kill_stray(root: &RootDir, pid: u32) -> Result<(), VmError> {
    for (process, _) in strays(root)?.into_iter().filter(|(process, _)| process.pid == pid) {
        kill(&process)?;
    }
    Ok(())
}

fn strays(root: &RootDir) -> Result<Vec<(Process, String)>, VmError> {
    let instance = root.instance();
    let processes = of_users(UIDS).map_err(VmError::file("read", "/proc"))?;
    let ours = |(process, words): (Process, Vec<String>)| Some((process, name_of(&instance, &words)?));
    Ok(processes.into_iter().filter_map(ours).collect())
}

/// Stops a VM: through its supervisor, or itself where there is none.
/// `timeout` is the guest's time to power off; then it is ended. One that
/// doesn't run is left as it is.
///
/// # Errors
/// Where it lives on.
pub fn stop(root: &RootDir, name: &Name, timeout: Duration) -> Result<(), VmError> {
    if RuntimeDir::open(root, name)?.is_some_and(|dir| dir.is_held_elsewhere()) {
        return Err(VmError::Elsewhere { pid: 0, network: 0 });
    }
    match Client::connect(root, name) {
        Ok(client) => match client.stop(timeout) {
            // One that only waited to start the guest again leaves at once,
            // at times before it has answered.
            Err(VmError::Protocol { .. }) => {
                wait_unsupervised(root, name)?;
                stop_orphan(root, name, timeout)
            }
            result => result,
        },
        Err(VmError::NotSupervised(_)) => stop_orphan(root, name, timeout),
        Err(error) => Err(error),
    }
}

fn wait_unsupervised(root: &RootDir, name: &Name) -> Result<(), VmError> {
    let deadline = std::time::Instant::now() + Duration::from_secs(2);
    while RuntimeDir::open(root, name)?.is_some_and(|dir| dir.lock_holder().is_some()) {
        if std::time::Instant::now() > deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn stop_orphan(root: &RootDir, name: &Name, timeout: Duration) -> Result<(), VmError> {
    let Some(dir) = RuntimeDir::open(root, name)? else { return Ok(()) };
    // No supervisor shall start meanwhile; a hung one is an error that names it.
    let _lock = dir.lock(name)?;
    if let Some(Launched { process, .. }) = adopt(root, name, &dir)? {
        ask(&dir, "system_powerdown");
        let wait = |limit| process.wait(limit).map_err(VmError::kernel("wait for QEMU"));
        if !wait(timeout)? {
            ask(&dir, "quit");
            if !wait(Duration::from_secs(2))? {
                kill(&process)?;
            }
        }
    }
    let failed = dir.read_json::<String>(FAILURE).ok().flatten().is_some();
    dir.remove(LAUNCH)?;
    Ok(dir.clear(failed)?)
}

fn kill(process: &Process) -> Result<(), VmError> {
    let limit = Duration::from_secs(5);
    process.signal(Signal::KILL).map_err(VmError::kernel("kill QEMU"))?;
    if process.wait(limit).map_err(VmError::kernel("wait for QEMU"))? {
        return Ok(());
    }
    Err(VmError::late(format!("the end of killed process {}", process.pid), limit))
}

/// One command of the machine protocol. What comes of it is seen by the
/// process's end.
fn ask(dir: &RuntimeDir, command: &'static str) {
    let Ok(stream) = dir.connect(QMP) else { return };
    let exchange = || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        stream.set_nonblocking(true)?;
        runtime.block_on(async {
            let (qmp, _events) =
                Qmp::connect(UnixStream::from_std(stream)?).await.map_err(io::Error::other)?;
            qmp.execute(command).await.map(drop).map_err(io::Error::other)
        })
    };
    // A thread of its own: the caller may be in a runtime already.
    std::thread::scope(|scope| drop(scope.spawn(exchange).join()));
}
