//! Named network namespaces, as `ip netns` keeps them: each is bound to a
//! file of `/run/netns` (ip-netns(8)).

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns` looks.
const DIRECTORY: &str = "/run/netns";

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The names that there are.
///
/// # Errors
/// Where the directory can't be read.
pub fn names() -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// The namespace of that name, to move links to.
///
/// # Errors
/// Where there is none.
pub fn open(name: &str) -> io::Result<File> {
    File::open(path(name))
}

/// Runs `work` in a thread of its own that is in the namespace. Sockets that
/// it opens stay there.
///
/// # Errors
/// Where there is no such namespace; `work` didn't run then.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let file = open(name)?;
    in_thread(|| {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
}

fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes a namespace, lets `prepare` work in it, and only then gives it its
/// name: nobody sees it half made.
///
/// # Errors
/// Where the kernel refuses, the name is taken, or `prepare` fails; nothing is
/// left then.
pub fn create(name: &str, prepare: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    make_directory()?;
    share_directory()?;
    let path = path(name);
    File::options().write(true).create_new(true).mode(0o000).open(&path)?;
    let made = in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        prepare()?;
        let source = Some(Path::new("/proc/thread-self/ns/net"));
        Ok(mount(source, &path, None::<&OsStr>, MsFlags::MS_BIND, None::<&OsStr>)?)
    });
    if made.is_err() {
        // An empty file is no namespace, and its name would be taken.
        _ = fs::remove_file(&path);
    }
    made
}

/// It is everybody's, as `ip netns add` makes it, whatever the umask.
fn make_directory() -> io::Result<()> {
    match fs::create_dir(DIRECTORY) {
        Ok(()) => fs::set_permissions(DIRECTORY, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Mounts in the directory are everybody's, so that a name that goes here goes
/// in every mount namespace; as `ip netns add` does.
fn share_directory() -> io::Result<()> {
    let directory = Path::new(DIRECTORY);
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&OsStr>, directory, None::<&OsStr>, flags, None::<&OsStr>)
    };
    if share().is_ok() {
        return Ok(());
    }
    mount(Some(directory), directory, None::<&OsStr>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&OsStr>)?;
    Ok(share()?)
}

/// Takes the name away. The namespace ends with the last process in it.
///
/// # Errors
/// Where the kernel refuses.
pub fn delete(name: &str) -> io::Result<()> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // A file that nothing is mounted on: left by a crash.
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    fs::remove_file(&path)
}

/// Replaces this process by `command`, in the namespace; `/sys` is that of
/// the namespace too, as `ip netns exec` has it. Comes back only where that
/// fails.
pub fn exec(name: &str, command: &mut std::process::Command) -> io::Error {
    use std::os::unix::process::CommandExt;
    match enter(name) {
        Ok(()) => command.exec(),
        Err(error) => error,
    }
}

fn enter(name: &str) -> io::Result<()> {
    setns(open(name)?, CloneFlags::CLONE_NEWNET)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&OsStr>;
    // What is mounted from now on stays in this process.
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
    // One that isn't mounted needn't go.
    _ = umount2("/sys", MntFlags::MNT_DETACH);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("sysfs"), "/sys", Some("sysfs"), flags, none)?)
}
