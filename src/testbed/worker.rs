//! A thread that ends when its handle is dropped.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::oneshot;

/// A running thread. Dropping it asks the thread to end and waits for that.
#[derive(Debug)]
pub(super) struct Worker {
    signal: Option<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// How a thread is told to end: a blocking one by its eventfd, a runtime by
/// dropping the sender.
#[derive(Debug)]
enum Signal {
    Event(Stop),
    Channel { _sender: oneshot::Sender<()> },
}

/// How a thread learns that it is to end: an eventfd that becomes readable.
#[derive(Debug, Clone)]
pub(super) struct Stop(Arc<OwnedFd>);

impl Worker {
    /// Starts `body`, which has to return soon after its [`Stop`] fires.
    pub(super) fn spawn(name: &str, body: impl FnOnce(Stop) + Send + 'static) -> io::Result<Self> {
        let stop = Stop(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let theirs = stop.clone();
        let thread = thread::Builder::new().name(name.into()).spawn(move || body(theirs))?;
        Ok(Self { signal: Some(Signal::Event(stop)), thread: Some(thread) })
    }

    /// Starts a Tokio runtime that drives `body`, and drops both at the end.
    pub(super) fn spawn_async<F: Future<Output = ()>>(
        name: &str,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = body() => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { signal: Some(Signal::Channel { _sender: sender }), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(Signal::Event(stop)) = self.signal.take() {
            // Can't fail: the counter of an eventfd takes a 1.
            let _ = rustix::io::write(&stop.0, &1u64.to_ne_bytes());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Stop {
    /// Waits until one of `fds` can be read. `None`: it is time to end.
    pub(super) fn wait_readable<const N: usize>(&self, fds: [BorrowedFd<'_>; N]) -> Option<[bool; N]> {
        let mut polled: Vec<PollFd<'_>> = std::iter::once(self.0.as_fd())
            .chain(fds)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        loop {
            match poll(&mut polled, None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        let ready = |index: usize| polled.get(index).is_some_and(|fd| !fd.revents().is_empty());
        if ready(0) { None } else { Some(std::array::from_fn(|index| ready(index + 1))) }
    }
}
