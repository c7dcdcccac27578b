//! The other end of a supervisor's control socket. Blocks.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::root_dir::RootDir;
use crate::supervise::client::{self, Told, WaitError};
use crate::supervise::control::{Connection, REPLY_LIMIT, millis};
use crate::supervise::runtime_dir::FileError;
use crate::supervise::spawn::{self, SpawnError};
use crate::topology::{Name, Vm};

use super::control::{Request, VmReport};
use super::error::VmError;
use super::program::{Agent, CALL_LIMIT, GuestCall};
use super::qemu::agent::{Exec, ExecOutput};
use super::record::VmRecord;
use super::runtime_dir::{CONSOLE, DESIRED, RuntimeDir};
use super::state::State;

/// A connection to the supervisor of one VM.
#[derive(Debug)]
pub struct Client {
    name: Name,
    connection: Connection,
}

impl Client {
    /// Connects to the supervisor of the VM `name`.
    ///
    /// # Errors
    /// [`VmError::NotSupervised`] where there is none.
    pub fn connect(root: &RootDir, name: &Name) -> Result<Self, VmError> {
        let dir = RuntimeDir::open(root, name)?.ok_or_else(|| VmError::NotSupervised(name.clone()))?;
        let connection = client::connect(&dir, VmReport::REPLY_MAX);
        let connection = connection.ok_or_else(|| VmError::NotSupervised(name.clone()))?;
        Ok(Self { name: name.clone(), connection })
    }

    /// What the supervisor says of its VM.
    ///
    /// # Errors
    /// Where it doesn't answer.
    pub fn status(&mut self) -> Result<VmReport, VmError> {
        self.request(&Request::Status, REPLY_LIMIT)
    }

    /// Stops the guest: asks it to power off, and after `timeout` ends it.
    /// Returns when it is stopped and the supervisor gone.
    ///
    /// # Errors
    /// Where the supervisor doesn't answer, or hasn't left in time.
    pub fn stop(mut self, timeout: Duration) -> Result<(), VmError> {
        let stopped = self.connection.stop(timeout);
        stopped.map_err(|error| VmError::asked(error, self.name.as_str()))
    }

    /// Stops the guest as [`Client::stop`] does and starts it again. Returns
    /// when that has begun; [`wait_until`] tells when it is done.
    ///
    /// # Errors
    /// Where the supervisor doesn't answer.
    pub fn restart(&mut self, timeout: Duration) -> Result<(), VmError> {
        let timeout_ms = millis(timeout);
        self.request::<Option<()>>(&Request::Restart { timeout_ms }, REPLY_LIMIT).map(drop)
    }

    /// Lets a guest go on that QEMU holds. Returns when QEMU was told so; the
    /// status tells what comes of it.
    ///
    /// # Errors
    /// Where the supervisor doesn't answer.
    pub fn resume(&mut self) -> Result<(), VmError> {
        self.request::<Option<()>>(&Request::Resume, REPLY_LIMIT).map(drop)
    }

    /// Runs a program in the guest through its agent, for at most `timeout`.
    /// What it says is the guest's word and may hold any byte.
    ///
    /// # Errors
    /// Where the agent doesn't answer, the program can't be started, or it
    /// doesn't end in time (it is left running).
    pub fn exec(&mut self, path: &str, args: &[&str], timeout: Duration) -> Result<ExecOutput, VmError> {
        self.exec_with_input(path, args, None, timeout)
    }

    /// [`Client::exec`] with text for the program's standard input.
    ///
    /// # Errors
    /// As [`Client::exec`].
    pub fn exec_with_input(
        &mut self,
        path: &str,
        args: &[&str],
        input: Option<&str>,
        timeout: Duration,
    ) -> Result<ExecOutput, VmError> {
        let exec = Exec {
            path: path.into(),
            args: args.iter().map(|word| (*word).into()).collect(),
            timeout_ms: millis(timeout),
            input: input.map(Into::into),
        };
        self.request(&Request::Exec(exec), timeout + 2 * REPLY_LIMIT)
    }

    /// One call for the guest's agent.
    ///
    /// # Errors
    /// [`VmError::Refused`] where the agent refuses it, a timeout where
    /// it doesn't answer; [`VmError::Protocol`] where the supervisor is of a
    /// version that doesn't know this.
    fn call_agent(&mut self, call: &GuestCall) -> Result<serde_json::Value, VmError> {
        const PEER: &str = "guest agent";
        let asked: Result<AgentAnswer, _> =
            self.connection.request(&Request::Agent(call.clone()), CALL_LIMIT + REPLY_LIMIT);
        match asked.map_err(|error| VmError::asked(error, "the supervisor's answer")) {
            Ok(AgentAnswer { answer: Some(answer), .. }) => Ok(answer),
            Ok(AgentAnswer { refused: Some(message), .. }) => Err(VmError::Refused { peer: PEER, message }),
            Ok(_) => Err(VmError::late("the guest agent's answer", CALL_LIMIT)),
            Err(VmError::Refused { message, .. }) => Err(VmError::protocol("supervisor", message)),
            Err(error) => Err(error),
        }
    }

    fn request<T: DeserializeOwned>(&mut self, request: &Request, limit: Duration) -> Result<T, VmError> {
        let asked = self.connection.request(request, limit);
        asked.map_err(|error| VmError::asked(error, "the supervisor's answer"))
    }
}

/// What a supervisor says of a call for the agent.
#[derive(serde::Deserialize)]
struct AgentAnswer {
    /// The agent's answer; an answer may be null.
    #[serde(default, deserialize_with = "there")]
    answer: Option<serde_json::Value>,
    refused: Option<String>,
}

/// A key that is there, whatever it holds.
fn there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde::Deserialize::deserialize(deserializer).map(Some)
}

impl Agent for Client {
    fn call(&mut self, call: &GuestCall) -> Result<serde_json::Value, VmError> {
        self.call_agent(call)
    }
}

/// Writes down the VM that `hostctl vm run NAME` is to run.
///
/// # Errors
/// Where the file can't be written.
pub fn write_desired(root: &RootDir, vm: &Vm) -> Result<(), VmError> {
    Ok(RuntimeDir::create(root, &vm.name)?.write_json(DESIRED, &VmRecord::from(vm))?)
}

/// The VM that [`write_desired`] wrote down.
///
/// # Errors
/// Where there is none of that name, or it can't be read.
pub fn read_desired(root: &RootDir, name: &Name) -> Result<Vm, VmError> {
    let Some(dir) = RuntimeDir::open(root, name)? else { return Err(VmError::NotSupervised(name.clone())) };
    let record = dir.read_record::<VmRecord>(DESIRED)?;
    let record = record.ok_or_else(|| VmError::NotSupervised(name.clone()))?;
    let found = record.vm().map_err(|key| {
        FileError::at("understand", dir.path(DESIRED))(io::Error::other(format!("its {key} can't be read")))
    })?;
    if found.name == *name { Ok(found) } else { Err(VmError::NotSupervised(name.clone())) }
}

/// Starts `program --root-dir ROOT vm run NAME` in the background: in a
/// session of its own, its output in `<run>/vms/NAME/supervisor.log`.
///
/// # Errors
/// Where it can't be started. What becomes of it, [`wait_until`] tells.
pub fn spawn_supervisor(root: &RootDir, name: &Name, program: &Path) -> Result<(), VmError> {
    let dir = RuntimeDir::create(root, name)?;
    if let Some(pid) = dir.lock_holder() {
        return Err(VmError::Supervised { name: name.clone(), pid });
    }
    spawn::spawn_supervisor(root, &dir, program, &["vm", "run", name.as_str()]).map_err(|error| match error {
        SpawnError::File(error) => error.into(),
        SpawnError::Program(source) => VmError::spawn(program.display().to_string(), source),
    })
}

/// A connection to the VM's serial console: what it prints from now on, and a
/// way to type.
///
/// # Errors
/// [`VmError::NotSupervised`] where nobody serves it.
pub fn attach_console(root: &RootDir, name: &Name) -> Result<UnixStream, VmError> {
    let dir = RuntimeDir::open(root, name)?.ok_or_else(|| VmError::NotSupervised(name.clone()))?;
    dir.connect(CONSOLE).map_err(|_| VmError::NotSupervised(name.clone()))
}

/// Waits until the VM is in `wanted` ([`State::Ready`] counts as
/// [`State::Running`] too), calling `on_progress` with each new status.
///
/// # Errors
/// Where it fails for good or three times in a row, its supervisor ends, or
/// `timeout` passes.
pub fn wait_until(
    root: &RootDir,
    name: &Name,
    wanted: &State,
    timeout: Duration,
    on_progress: impl FnMut(&VmReport),
) -> Result<VmReport, VmError> {
    let reached = |status: &VmReport| {
        status.state == *wanted || (*wanted == State::Running && status.state == State::Ready)
    };
    client::wait_until(&root.vm(name.as_str()), reached, timeout, on_progress).map_err(|error| match error {
        WaitError::File(error) => error.into(),
        WaitError::Failed(why) => VmError::Failed { name: name.clone(), why },
        WaitError::NotSupervised => VmError::NotSupervised(name.clone()),
        WaitError::Late(now) => {
            let what = format!("VM {name}, to become {wanted} (it is {now}),");
            VmError::late(what, timeout)
        }
    })
}
