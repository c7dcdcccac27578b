//! Starting an app's program in its namespace.

use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setsid};
use tokio::net::unix::pipe::Receiver;

use crate::confine::User;
use crate::ownership::APP_VARIABLE;
use crate::root_dir::RootDir;
use crate::topology::{App, Workload};

use super::cgroup::Cgroup;
use super::error::AppError;
use super::strays::mark;
use super::user::{self, limit_capabilities, usual_umask};

/// Where `ip netns` keeps the names of namespaces.
pub(super) const NAMES: &str = "/run/netns";
const NO_WEBSERVER: &str =
    "this hostctl was built without its web server (the feature `webserver`): name a command";
/// This very program, even where its file was replaced meanwhile.
const SELF: &str = "/proc/self/exe";

/// A program that was started.
#[derive(Debug)]
pub(super) struct Launched {
    /// The program, or the init of its PID namespace.
    pub pid: u32,
    /// What it and its descendants say.
    pub output: Receiver,
    pub cgroup: Option<Cgroup>,
    /// An isolated app's init ends when this is closed: it can't see its
    /// supervisor, but this end of its standard input.
    pub lifeline: Option<PipeWriter>,
}

/// Starts the program of `app`. To be called in the thread that the
/// supervisor lives in as long as it does: the program dies with it.
pub(super) fn launch(root: &RootDir, app: &App) -> Result<Launched, AppError> {
    can_start(app)?;
    let user = user::of(app)?;
    let namespace = open_namespace(app.namespace.as_str())?;
    let cgroup = Cgroup::create(root, app)?;
    let members = cgroup.as_ref().map(Cgroup::members).transpose()?;
    let kernel = AppError::kernel;
    let (output, words) = io::pipe().map_err(kernel("make a pipe"))?;
    let output = Receiver::from_owned_fd(output.into()).map_err(kernel("read from a pipe"))?;
    let words = [words.try_clone().map_err(kernel("make a pipe"))?, words];

    let (mut command, user) = command(app, user);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(&app.environment);
    command.env(APP_VARIABLE, mark(root, &app.namespace, &app.name)).current_dir("/");
    let [stdout, stderr] = words;
    command.stdout(stdout).stderr(stderr).stdin(Stdio::null());
    let mut lifeline = None;
    if app.isolate {
        let (stdin, ours) = io::pipe().map_err(kernel("make a pipe"))?;
        command.stdin(stdin);
        lifeline = Some(ours);
    }
    let child = Child { namespace, members, user, parent: rustix::process::getpid(), isolate: app.isolate };
    // SAFETY: runs between fork and exec; it makes system calls and nothing
    // else: no allocation, no lock.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || child.prepare());
    }
    let program = match &app.workload {
        Workload::Command(words) => words.first().cloned().unwrap_or_default(),
        Workload::Webserver(_) => "the web server".into(),
    };
    let spawned = if app.isolate { spawn_in_pid_namespace(&mut command) } else { spawn(&mut command) };
    let pid = spawned.map_err(|source| AppError::spawn(program, source))?;
    Ok(Launched { pid, output, cgroup, lifeline })
}

/// Whether this host has what `app` needs: to be asked before anything is
/// touched.
///
/// # Errors
/// What is missing.
pub fn can_start(app: &App) -> Result<(), AppError> {
    if matches!(app.workload, Workload::Webserver(_)) && !cfg!(feature = "webserver") {
        return Err(AppError::Invalid { app: app.label(), reason: NO_WEBSERVER.into() });
    }
    user::of(app).map(drop)
}

fn open_namespace(name: &str) -> Result<File, AppError> {
    let path = Path::new(NAMES).join(name);
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(AppError::NoNamespace(name.into())),
        result => result.map_err(AppError::file("open", path)),
    }
}

/// The program, and whom it is started as; the web server and the init change
/// their user themselves, after what only root may do.
fn command(app: &App, mut user: Option<User>) -> (Command, Option<User>) {
    let mut words: Vec<String> = Vec::new();
    match &app.workload {
        Workload::Command(command) => words.clone_from(command),
        Workload::Webserver(server) => {
            let greeting = server.greeting.clone().unwrap_or_else(|| format!("Hello from {}", app.namespace));
            words.extend([SELF, "app", "webserver"].map(Into::into));
            words.extend([format!("--port={}", server.port), format!("--greeting={greeting}")]);
            if let Some(directory) = &server.directory {
                words.push(format!("--directory={}", directory.display()));
            }
            let User { uid, gid } = user.take().unwrap_or(User::NOBODY);
            words.extend([format!("--uid={uid}"), format!("--gid={gid}")]);
        }
    }
    if app.isolate {
        let mut init: Vec<String> = [SELF, "app", "init"].map(Into::into).to_vec();
        if let Some(User { uid, gid }) = user.take() {
            init.extend([format!("--uid={uid}"), format!("--gid={gid}")]);
        }
        init.push("--".into());
        init.append(&mut words);
        words = init;
    }
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    (command, user)
}

/// The supervisor waits for all of its children itself.
fn spawn(command: &mut Command) -> io::Result<u32> {
    Ok(command.spawn()?.id())
}

/// Spawns the first process of a new PID namespace. The calling thread's next
/// children are born there, so it is told to come back.
fn spawn_in_pid_namespace(command: &mut Command) -> io::Result<u32> {
    let home = File::open("/proc/thread-self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let spawned = spawn(command);
    setns(&home, CloneFlags::CLONE_NEWPID)?;
    spawned
}

/// What the child does between fork and exec.
struct Child {
    namespace: File,
    members: Option<File>,
    user: Option<User>,
    parent: Pid,
    isolate: bool,
}

impl Child {
    fn prepare(&self) -> io::Result<()> {
        self.die_with_parent()?;
        if let Some(members) = &self.members {
            rustix::io::write(members, b"0")?;
        }
        setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
        // A session of its own: Ctrl-C and a closed terminal are the
        // supervisor's affair.
        setsid()?;
        close_on_exec()?;
        usual_umask();
        if !self.isolate {
            limit_capabilities()?;
        }
        if let Some(user) = self.user {
            user.become_for_good()?;
            // A change of user takes it back (PR_SET_PDEATHSIG(2const)).
            self.die_with_parent()?;
        }
        Ok(())
    }

    fn die_with_parent(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have died before. In another PID namespace it has no number;
        // there the lifeline tells.
        if !self.isolate && getppid() != Some(self.parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    }
}

/// Descriptors that the supervisor itself was given aren't the app's.
fn close_on_exec() -> io::Result<()> {
    // SAFETY: it takes numbers, and marks descriptors without closing any.
    #[allow(unsafe_code)]
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match io::Error::last_os_error() {
        // Before Linux 5.11: Rust's own descriptors are marked anyway.
        error if result < 0 && !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}
