//! A network namespace that lives as long as its descriptors do.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::links::Links;

/// A network namespace, held by a descriptor and by nothing else: no name, no
/// mount, no process. A clone is another handle of the same namespace.
#[derive(Debug, Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
}

/// Values that every namespace starts with, whatever the machine's are: IPv4
/// settings of a new namespace are copied from the first one
/// (`net.core.devconf_inherit_init_net`). Duplicate address detection would
/// keep addresses unusable for a second or two.
const SYSCTLS: [(&str, &str); 9] = [
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
];

impl Netns {
    /// A new namespace with loopback up, IPv4 forwarding and reverse-path
    /// filters off, ping sockets allowed, duplicate address detection off.
    ///
    /// # Errors
    /// Where the process may not make namespaces (CAP_SYS_ADMIN).
    pub fn new() -> io::Result<Self> {
        // A thread of its own: unshare changes the calling thread for good.
        let made = thread::Builder::new().name("netns-new".into()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })?;
        let file = made.join().map_err(|_| io::Error::other("the thread that makes a namespace died"))??;
        let netns = Self { fd: Arc::new(file.into()) };
        for (path, value) in SYSCTLS {
            netns.sysctl_set(path, value)?;
        }
        netns.links(async |links| links.up("lo").await)?;
        Ok(netns)
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// Where /proc isn't mounted.
    pub fn current() -> io::Result<Self> {
        Ok(Self { fd: Arc::new(File::open("/proc/thread-self/ns/net")?.into()) })
    }

    /// The namespace that `ip netns` knows by that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> io::Result<Self> {
        Ok(Self { fd: Arc::new(File::open(Path::new("/run/netns").join(name))?.into()) })
    }

    /// The namespace's descriptor, for setns(2) or IFLA_NET_NS_FD.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Moves the calling thread into the namespace, for good. Sockets opened
    /// and processes started by the thread from now on are in it.
    ///
    /// # Errors
    /// Those of setns(2).
    pub fn enter_current_thread(&self) -> io::Result<()> {
        Ok(setns(self.fd(), CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs `task` in a thread of its own inside the namespace and waits for
    /// it. Sockets it opens stay in the namespace and may be returned.
    ///
    /// # Panics
    /// When `task` does, and when the namespace can't be entered: going on
    /// would touch the machine's own network.
    #[expect(clippy::panic, reason = "running outside the namespace is worse")]
    pub fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        match self.try_run(task) {
            Ok(value) => value,
            Err(error) => panic!("can't enter the network namespace: {error}"),
        }
    }

    /// As [`Netns::run`], with an error where the namespace can't be entered.
    ///
    /// # Errors
    /// Those of clone(2) and setns(2); `task` hasn't run then.
    ///
    /// # Panics
    /// When `task` does.
    pub fn try_run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("netns-run".into()).spawn_scoped(scope, || {
                self.enter_current_thread()?;
                Ok(task())
            })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a future to its end, on a Tokio runtime of its own in a thread
    /// inside the namespace.
    ///
    /// # Errors
    /// Those of [`Netns::try_run`] and of starting the runtime.
    ///
    /// # Panics
    /// When the future does.
    pub fn block_on<T: Send, F: Future<Output = T>>(&self, task: impl FnOnce() -> F + Send) -> io::Result<T> {
        self.try_run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(async { task().await }))
        })?
    }

    /// Runs `task` with a route-netlink connection inside the namespace.
    ///
    /// # Errors
    /// Those of `task`, and of opening the connection.
    pub fn links<T: Send>(&self, task: impl AsyncFnOnce(Links) -> io::Result<T> + Send) -> io::Result<T> {
        self.block_on(async || {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            let connection = tokio::spawn(connection);
            let result = task(Links::new(handle)).await;
            connection.abort();
            result
        })?
    }

    /// The index of the interface named `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn ifindex(&self, name: &str) -> io::Result<u32> {
        self.links(async |links| links.index(name).await)
    }

    /// Writes a sysctl of the namespace, such as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// Those of open(2) and write(2), and for paths that don't lie in `net/`
    /// (those would be the machine's).
    pub fn sysctl_set(&self, path: &str, value: &str) -> io::Result<()> {
        let file = sysctl_file(path)?;
        self.try_run(|| std::fs::write(&file, value))?
            .map_err(|error| io::Error::new(error.kind(), format!("can't set {path} to {value}: {error}")))
    }

    /// Reads a sysctl of the namespace, without the line's end.
    ///
    /// # Errors
    /// As [`Netns::sysctl_set`].
    pub fn sysctl_get(&self, path: &str) -> io::Result<String> {
        let file = sysctl_file(path)?;
        let text = self
            .try_run(|| std::fs::read_to_string(&file))?
            .map_err(|error| io::Error::new(error.kind(), format!("can't read {path}: {error}")))?;
        Ok(text.trim_end().to_owned())
    }
}

/// The file of a sysctl; `/proc/sys/net` shows the reading thread's namespace.
fn sysctl_file(path: &str) -> io::Result<PathBuf> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if inside && path.starts_with("net/") {
        Ok(Path::new("/proc/sys").join(path))
    } else {
        let message =
            format!("{path:?} isn't a sysctl of a network namespace: write it as net/ipv4/ip_forward");
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}
