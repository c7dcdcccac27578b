//! The other end of a supervisor: what it says, and waiting for what is to come
//! of it. Blocks.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::control::{Connection, REPLY_LIMIT, Request};
use super::runtime_dir::{CONTROL, FAILURE, FileError, RuntimeDir};

/// How often it is looked again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a supervisor says of what it supervises.
pub(crate) trait Told: DeserializeOwned + PartialEq {
    /// The longest answer, in bytes.
    const REPLY_MAX: u64;

    /// The state, in words.
    fn state(&self) -> String;

    /// Why it failed, where it did: for good, or so often that nobody should
    /// wait for the next try.
    fn given_up(&self) -> Option<&str>;
}

/// What there is of something that is, or was, supervised.
#[derive(Debug)]
pub(crate) struct Seen<S> {
    /// What the supervisor says, where it answers.
    pub status: Option<S>,
    /// Whether a supervisor lives.
    pub supervised: bool,
    /// Why it failed, where it did and nobody started it since.
    pub failure: Option<String>,
}

impl<S: Told> Seen<S> {
    /// Looks at it.
    pub fn of(dir: &RuntimeDir) -> Self {
        let asked = |mut connection: Connection| connection.request(&Request::Status, REPLY_LIMIT).ok();
        Self {
            status: connect(dir, S::REPLY_MAX).and_then(asked),
            supervised: dir.lock_holder().is_some(),
            failure: dir.read_json(FAILURE).ok().flatten(),
        }
    }
}

/// Connects to the supervisor, where one answers.
pub(crate) fn connect(dir: &RuntimeDir, reply_max: u64) -> Option<Connection> {
    // Whatever is wrong with the socket, nobody answers on it.
    Some(Connection::new(dir.connect(CONTROL).ok()?, reply_max))
}

/// Why what was waited for won't be.
#[derive(Debug)]
pub(crate) enum WaitError {
    File(FileError),
    /// It failed, and why.
    Failed(String),
    /// Nobody supervises it, or not any more.
    NotSupervised,
    /// Not in that time; what it is now.
    Late(String),
}

/// Waits until what has its runtime files at `path` is as `reached` wants it,
/// calling `on_progress` with each new status.
pub(crate) fn wait_until<S: Told>(
    path: &Path,
    reached: impl Fn(&S) -> bool,
    timeout: Duration,
    mut on_progress: impl FnMut(&S),
) -> Result<S, WaitError> {
    let begun = Instant::now();
    let mut last: Option<S> = None;
    loop {
        let dir = RuntimeDir::open(path.to_path_buf()).map_err(WaitError::File)?;
        let seen = dir.as_ref().map(Seen::<S>::of);
        match seen {
            Some(Seen { status: Some(status), .. }) => {
                if last.as_ref() != Some(&status) {
                    on_progress(&status);
                }
                if reached(&status) {
                    return Ok(status);
                }
                if let Some(why) = status.given_up() {
                    return Err(WaitError::Failed(why.into()));
                }
                last = Some(status);
            }
            Some(Seen { supervised: true, .. }) => {}
            Some(Seen { failure: Some(why), .. }) => return Err(WaitError::Failed(why)),
            // A supervisor that was just started has no lock yet.
            _ if last.is_some() || begun.elapsed() > REPLY_LIMIT => return Err(WaitError::NotSupervised),
            _ => {}
        }
        if begun.elapsed() >= timeout {
            return Err(WaitError::Late(last.map_or("unknown".into(), |status| status.state())));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::root_dir::RootDir;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Status;

    impl Told for Status {
        const REPLY_MAX: u64 = 1024;

        fn state(&self) -> String {
            "there".into()
        }

        fn given_up(&self) -> Option<&str> {
            None
        }
    }

    #[test]
    fn a_wait_ends_by_the_failure_that_was_left_or_by_its_time() {
        let top = tempfile::tempdir().unwrap();
        let root = RootDir::new(top.path());
        let dir = RuntimeDir::create(&root, root.vm("x")).unwrap();
        let wait = |timeout| wait_until::<Status>(&root.vm("x"), |_| true, timeout, |_| {});
        // One that was just started has neither lock nor failure.
        let late = wait(Duration::from_millis(100));
        assert!(matches!(&late, Err(WaitError::Late(now)) if now == "unknown"), "{late:?}");
        dir.write_json(FAILURE, &"no such file").unwrap();
        let failed = wait(Duration::from_secs(20));
        assert!(matches!(&failed, Err(WaitError::Failed(why)) if why == "no such file"), "{failed:?}");
        // What an earlier one left says nothing of one that is about to answer.
        let _lock = dir.lock().unwrap();
        let late = wait(Duration::from_millis(100));
        assert!(matches!(late, Err(WaitError::Late(_))), "{late:?}");
    }
}
