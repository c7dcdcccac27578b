//! Where tests kill hostctl: in every place between two changes.

/// The variable that names the point.
#[cfg(feature = "testbed")]
pub const KILL_AT: &str = "HOSTCTL_KILL_AT";

/// With the feature `testbed`, the process kills itself (SIGKILL) at its Nth
/// kill point where the environment has `HOSTCTL_KILL_AT=N`, counted from 1,
/// and names the point on standard error. Otherwise nothing happens.
#[cfg(feature = "testbed")]
pub fn kill_point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PASSED: AtomicU64 = AtomicU64::new(0);
    static AT: LazyLock<Option<u64>> =
        LazyLock::new(|| std::env::var(KILL_AT).ok().and_then(|at| at.parse().ok()));
    if let Some(at) = *AT
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == at
    {
        eprintln!("killed at: {name}");
        _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing, in what an operator installs.
#[cfg(not(feature = "testbed"))]
pub fn kill_point(_: &str) {}
