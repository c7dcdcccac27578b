//! What was applied until somebody confirms it, written down so that neither
//! a killed process nor a reboot makes it last.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::bounded::read_bounded;
use crate::record::{self, Field, lenient};
use crate::root_dir::RootDir;
use crate::spec::HostSpec;
use crate::supervise::birthplace::Birthplace;
use crate::supervise::process::Process;
use crate::whole_file;

use crate::host::{Generation, HostError};

/// How long an apply may take before it is taken for stuck: its terminal may
/// be one that it has cut off.
const APPLY_LIMIT: Duration = Duration::from_secs(120);

/// The version that is written. A later one may say more; what is read here
/// means the same in each.
const VERSION: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// The host waits for a confirmation.
    Waiting(Box<Waiting>),
    /// None came, and the host returned to what it was. The spec isn't applied
    /// again unless somebody is there to confirm it.
    Rejected {
        /// Its generation; none where the apply died before there was one.
        #[serde(default, deserialize_with = "lenient")]
        generation: Option<u64>,
        /// The spec.
        spec: Box<HostSpec>,
    },
}

/// An apply that isn't confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    #[serde(default)]
    version: Field<u32>,
    /// Its generation; none until it is applied whole.
    #[serde(default, deserialize_with = "lenient")]
    pub generation: Option<u64>,
    /// Its spec.
    pub spec: HostSpec,
    /// What to return to; none where nothing was applied before. Where the
    /// record doesn't say which, it isn't returned anywhere.
    #[serde(deserialize_with = "Deserialize::deserialize")]
    pub back_to: Option<Generation>,
    /// The process that applies it; none where that isn't known.
    #[serde(default, deserialize_with = "lenient")]
    applier: Option<Applier>,
    /// Until when it is waited for. What isn't known is over: a change that
    /// nobody confirms doesn't last.
    #[serde(default, deserialize_with = "lenient")]
    deadline: Option<Deadline>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Applier {
    pid: u32,
    start_time: u64,
    /// Where the pid means it; none where an earlier version wrote it.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    birthplace: Option<Birthplace>,
}

/// A point in time that no change of the wall clock moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Deadline {
    /// Which boot; a reboot is nobody's confirmation.
    boot: String,
    /// Milliseconds since then (CLOCK_BOOTTIME, clock_gettime(2)).
    milliseconds: u64,
}

/// Whether it is time to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not before.
    In(Duration),
    /// It is.
    Now,
}

impl Deadline {
    fn after(time: Duration) -> Self {
        let milliseconds = u64::try_from((now() + time).as_millis()).unwrap_or(u64::MAX);
        Self { boot: boot(), milliseconds }
    }

    fn due(&self) -> Due {
        let left = Duration::from_millis(self.milliseconds).saturating_sub(now());
        if self.boot != boot() || left.is_zero() { Due::Now } else { Due::In(left) }
    }
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn boot() -> String {
    let id = read_bounded(Path::new("/proc/sys/kernel/random/boot_id"), 64).unwrap_or_default();
    String::from_utf8_lossy(&id).trim().to_owned()
}

impl Waiting {
    /// This process is about to apply `spec`, and somebody has to confirm it
    /// within `time` of its end.
    pub fn begin(spec: &HostSpec, back_to: Option<Generation>, time: Duration) -> Self {
        let pid = std::process::id();
        let start_time = Process::open(pid).map_or(0, |process| process.start_time);
        let applier = Applier { pid, start_time, birthplace: Birthplace::here().ok() };
        let (applier, deadline) = (Some(applier), Some(Deadline::after(APPLY_LIMIT + time)));
        let version = Field::Is(VERSION);
        Self { version, generation: None, spec: spec.clone(), back_to, applier, deadline }
    }

    /// It is applied: the time runs from now.
    #[must_use]
    pub fn applied(self, generation: Option<u64>, time: Duration) -> Self {
        Self { generation, deadline: Some(Deadline::after(time)), ..self }
    }

    /// Whether it is time to return.
    pub fn due(&self) -> Due {
        // An apply that died can't be confirmed.
        let died = self.generation.is_none() && self.applier().is_none();
        if died { Due::Now } else { self.deadline.as_ref().map_or(Due::Now, Deadline::due) }
    }

    /// The process that is still applying it.
    pub fn applier(&self) -> Option<Process> {
        let Applier { pid, start_time, birthplace } = self.applier.as_ref()?;
        let deadline = self.deadline.as_ref()?;
        // After a reboot, or in another PID namespace, it is somebody else's.
        let here = Birthplace::here().ok()?;
        let strange = birthplace.as_ref().is_some_and(|place| !place.shares_pids_with(&here));
        if self.generation.is_some() || deadline.boot != here.boot || strange {
            return None;
        }
        Process::find(*pid, *start_time)
    }
}

fn path(root: &RootDir) -> PathBuf {
    root.state().join("unconfirmed.json")
}

fn failed(root: &RootDir) -> impl FnOnce(io::Error) -> HostError {
    let path = path(root);
    |source| HostError::File { path, source }
}

/// What is written down, where anything is.
///
/// # Errors
/// Where the file can't be read.
pub fn read(root: &RootDir) -> Result<Option<Record>, HostError> {
    let text = match std::fs::read(path(root)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed(root))?,
    };
    record::parse(&text).map(Some).map_err(failed(root))
}

/// Writes it down.
///
/// # Errors
/// Where the file can't be written.
pub fn write(root: &RootDir, record: &Record) -> Result<(), HostError> {
    let text = serde_json::to_string(record).map_err(|error| failed(root)(error.into()))?;
    whole_file::replace(&path(root), &text).map_err(failed(root))
}

/// Forgets it.
///
/// # Errors
/// Where the file can't be removed.
pub fn remove(root: &RootDir) -> Result<(), HostError> {
    whole_file::remove(&path(root)).map_err(failed(root))
}

/// Writes back what was there before.
///
/// # Errors
/// Where that fails.
pub fn put_back(root: &RootDir, before: Option<&Record>) -> Result<(), HostError> {
    before.map_or_else(|| remove(root), |record| write(root, record))
}

/// A confirmation that is waited for, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unconfirmed {
    /// The generation; none while it is being applied.
    pub generation: Option<u64>,
    /// The generation that the host returns to; none where it returns to what
    /// it was before hostctl.
    pub returns_to: Option<u64>,
    /// How many seconds are left; 0 where the time is over.
    pub seconds: u64,
}

/// The confirmation that is waited for, where one is.
///
/// # Errors
/// Where the file can't be read.
pub fn unconfirmed(root: &RootDir) -> Result<Option<Unconfirmed>, HostError> {
    let Some(Record::Waiting(waiting)) = read(root)? else { return Ok(None) };
    let seconds = match waiting.due() {
        Due::Now => 0,
        Due::In(left) => left.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
    };
    let returns_to = waiting.back_to.as_ref().map(|generation| generation.number);
    Ok(Some(Unconfirmed { generation: waiting.generation, returns_to, seconds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_time_runs_from_the_end_of_the_apply() {
        let begun = Waiting::begin(&HostSpec::default(), None, MINUTE);
        assert!(matches!(begun.due(), Due::In(left) if left > APPLY_LIMIT));
        assert!(begun.applier().is_some());
        let applied = begun.applied(Some(3), MINUTE);
        assert!(matches!(applied.due(), Due::In(left) if left <= MINUTE && left > MINUTE / 2));
        assert!(applied.applier().is_none(), "it isn't applying any more");
        assert_eq!(applied.clone().applied(Some(3), Duration::ZERO).due(), Due::Now);
        // What is left of another boot is over.
        let deadline = Deadline { boot: "another".into(), ..applied.deadline.clone().unwrap() };
        assert_eq!(Waiting { deadline: Some(deadline), ..applied }.due(), Due::Now);
    }

    #[test]
    fn an_apply_that_died_is_over_at_once() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut begun = Waiting::begin(&HostSpec::default(), None, MINUTE);
        let start_time = Process::open(child.id()).unwrap().start_time;
        begun.applier = Some(Applier { pid: child.id(), start_time, birthplace: Birthplace::here().ok() });
        assert!(matches!(begun.due(), Due::In(_)));
        // The same numbers of another boot, or of another PID namespace, are
        // another process: it isn't killed.
        let rebooted = Deadline { boot: "another".into(), ..begun.deadline.clone().unwrap() };
        assert!(Waiting { deadline: Some(rebooted), ..begun.clone() }.applier().is_none());
        let mut elsewhere = begun.clone();
        elsewhere.applier.as_mut().unwrap().birthplace =
            Birthplace::here().ok().map(|here| Birthplace { pids: 1, ..here });
        assert!(elsewhere.applier().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(begun.due(), Due::Now);
    }

    #[test]
    fn what_an_earlier_version_wrote_is_understood_and_what_isnt_known_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/records/d346908");
        let lay = |text: &str| {
            whole_file::replace(&path(&root), text).unwrap();
            read(&root)
        };
        let text = |host: &str| std::fs::read_to_string(kept.join(host).join("unconfirmed.json")).unwrap();
        let Some(Record::Rejected { generation, spec }) = lay(&text("rejected")).unwrap() else { panic!() };
        assert_eq!((generation, spec.networks.len()), (Some(5), 3));
        let Some(Record::Waiting(waiting)) = lay(&text("waiting")).unwrap() else { panic!() };
        assert_eq!((waiting.generation, waiting.spec.networks.len()), (Some(2), 2));
        let back_to = waiting.back_to.clone().unwrap();
        assert_eq!((back_to.number, back_to.spec.networks.len()), (1, 1));
        assert_eq!(back_to.allocations().vms.len(), 1);
        // That boot is over.
        assert_eq!((waiting.applier.is_some(), waiting.deadline.is_some()), (true, true));
        assert_eq!((waiting.due(), waiting.applier().is_none()), (Due::Now, true));

        let whole: serde_json::Value = serde_json::from_str(&text("waiting")).unwrap();
        let changed = |key: &str, to: Option<serde_json::Value>| {
            let mut value = whole.clone();
            match (to, value["waiting"].as_object_mut().unwrap()) {
                (Some(to), waiting) => waiting.insert(key.into(), to),
                (None, waiting) => waiting.remove(key),
            };
            value.to_string()
        };
        for key in ["generation", "applier", "deadline", "later"] {
            for to in [None, Some(serde_json::json!([7]))] {
                let Some(Record::Waiting(read)) = lay(&changed(key, to)).unwrap() else { panic!() };
                assert_eq!(
                    (read.due(), &read.back_to, &read.spec),
                    (Due::Now, &waiting.back_to, &waiting.spec)
                );
            }
        }
        // A host isn't taken down because it isn't known what to return to.
        for to in [None, Some(serde_json::json!([7]))] {
            assert!(lay(&changed("back_to", to)).unwrap_err().to_string().contains("unconfirmed.json"));
        }
    }
}
