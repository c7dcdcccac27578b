//! A program in the guest with streams of any length. The guest agent takes
//! input once and gives output at the end; so `guest.sh` runs the program in the
//! guest and keeps what it writes, a few pieces at a time, in files, which this
//! reads through the agent. Whatever comes from there is the guest's word.

mod call;
#[cfg(test)]
mod tests;
mod words;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::supervise::error::SystemError;

use super::error::VmError;

pub use call::{CALL_LIMIT, GuestCall};
pub use words::Size;

const SCRIPT: &str = include_str!("guest.sh");
const PEER: &str = "guest agent";
/// Most bytes of one piece; `guest.sh` makes none that is longer.
const PIECE_MAX: usize = 64 * 1024;
/// Most bytes of a piece of input.
pub const INPUT_MAX: usize = 32 * 1024;
/// Pieces of input that may lie in the guest.
const INPUT_WINDOW: u64 = 4;
/// How often the guest is told that somebody is there; it gives up after 20 s.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// A call that gets no answer is made again so often.
const PATIENCE: usize = 3;
/// How long the guest has to make a directory.
const SETUP_LIMIT: Duration = Duration::from_secs(20);
/// Where such a directory may be, the first that can be written to.
const PLACES: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// Somebody who takes calls for the agent: a supervisor.
pub trait Agent {
    /// One call, and the agent's answer.
    ///
    /// # Errors
    /// Where the agent refuses it or doesn't answer.
    fn call(&mut self, call: &GuestCall) -> Result<Value, VmError>;
}

/// How a program runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Its kind, as `$TERM` says.
    pub term: String,
    /// Its size.
    pub size: Option<Size>,
}

/// Which of its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The standard one.
    Stdout,
    /// The one for errors.
    Stderr,
}

/// Takes what the program wrote.
pub type Sink<'s> = dyn FnMut(Output, &[u8]) -> Result<(), VmError> + 's;

/// A program that runs in the guest.
#[derive(Debug)]
pub struct Program<A> {
    agent: A,
    directory: String,
    /// The agent's number for `guest.sh`.
    pid: i64,
    /// Pieces taken of each output.
    taken: [u64; 2],
    /// Pieces of input given.
    given: u64,
    /// The oldest piece of input that may still lie there.
    oldest: u64,
    ended: bool,
    heartbeat: Instant,
}

impl<A: Agent> Program<A> {
    /// Starts `command` in the guest; on a terminal of its own where one is
    /// described. None where the guest lacks what this needs (a shell, and a
    /// directory to write to), or its agent doesn't open files.
    ///
    /// # Errors
    /// Where the agent doesn't answer, or won't start programs at all.
    pub fn start(
        mut agent: A,
        command: &[String],
        terminal: Option<&Terminal>,
    ) -> Result<Result<Self, A>, VmError> {
        let Some(directory) = make_directory(&mut agent)? else { return Ok(Err(agent)) };
        if put(&mut agent, &format!("{directory}/alive"), b"1").is_err() {
            return Ok(Err(agent));
        }
        let mode = if terminal.is_some() { "terminal" } else { "pipes" };
        let mut args: Vec<String> = ["-c", SCRIPT, "hostctl", &directory, mode].map(str::to_owned).into();
        match terminal {
            Some(terminal) => {
                let size = terminal.size.unwrap_or(Size { rows: 24, columns: 80 });
                args.push(words::on_terminal(command, &terminal.term, size));
            }
            None => args.extend(command.iter().cloned()),
        }
        let pid = start(&mut agent, args, false)?;
        let heartbeat = Instant::now();
        let (taken, given, oldest) = ([0; 2], 0, 0);
        Ok(Ok(Self { agent, directory, pid, taken, given, oldest, ended: false, heartbeat }))
    }

    /// What the program wrote since it was last asked, of at most a few pieces,
    /// handed to `sink`. Whether there was anything.
    ///
    /// # Errors
    /// Where the agent doesn't answer, or `sink` fails.
    pub fn read(&mut self, sink: &mut Sink<'_>) -> Result<bool, VmError> {
        let mut any = false;
        for (index, (output, name)) in
            [(Output::Stdout, "out"), (Output::Stderr, "err")].into_iter().enumerate()
        {
            let Some(taken) = self.taken.get_mut(index) else { continue };
            let path = |rest: &str| format!("{}/{name}.{rest}", self.directory);
            let Some(ready) = number(fetch(&mut self.agent, &path("ready"))?) else { continue };
            let before = *taken;
            // What a guest forges here is no more than another piece that isn't there.
            while *taken < ready {
                let Some(bytes) = fetch(&mut self.agent, &path(&taken.to_string()))? else { break };
                *taken += 1;
                sink(output, &bytes)?;
                // The program goes on meanwhile.
                if (*taken - before).is_multiple_of(8) {
                    put(&mut self.agent, &path("taken"), format!("{taken}\n").as_bytes())?;
                }
            }
            if *taken != before {
                any = true;
                put(&mut self.agent, &path("taken"), format!("{taken}\n").as_bytes())?;
            }
        }
        self.beat()?;
        Ok(any)
    }

    /// How the program ended: its exit code, 128 and the signal's number where
    /// one ended it; none while it runs. Once that is known, nothing is left to
    /// read.
    ///
    /// # Errors
    /// Where the agent doesn't answer.
    pub fn ended(&mut self) -> Result<Option<u8>, VmError> {
        let status = persist(|| self.agent.call(&GuestCall::Status { pid: self.pid }))?;
        if status.get("exited").and_then(Value::as_bool) != Some(true) {
            return Ok(None);
        }
        let number = |key: &str| status.get(key).and_then(Value::as_i64);
        let code = number("exitcode").or_else(|| Some(128 + number("signal")?)).unwrap_or(255);
        // A code is eight bits, whatever a guest says.
        Ok(Some(u8::try_from(code & 0xff).unwrap_or(255)))
    }

    /// Whether the guest takes a piece of input now; it does so once it has
    /// read the earlier ones.
    ///
    /// # Errors
    /// Where the agent doesn't answer.
    pub fn takes_input(&mut self) -> Result<bool, VmError> {
        while self.given.saturating_sub(self.oldest) >= INPUT_WINDOW {
            let path = format!("{}/in.{}.ok", self.directory, self.oldest);
            if fetch(&mut self.agent, &path)?.is_some() {
                return Ok(false);
            }
            self.oldest += 1;
        }
        Ok(!self.ended)
    }

    /// Gives the program a piece of input, of at most [`INPUT_MAX`] bytes; an
    /// empty one is the end of its input.
    ///
    /// # Errors
    /// Where the agent doesn't answer.
    pub fn give(&mut self, bytes: &[u8]) -> Result<(), VmError> {
        if bytes.is_empty() {
            self.ended = true;
            return self.put_if_there("in.end", b"1");
        }
        let piece = format!("in.{}", self.given);
        self.put_if_there(&piece, bytes)?;
        self.put_if_there(&format!("{piece}.ok"), b"1")?;
        self.given += 1;
        Ok(())
    }

    /// Sends the program, and what it started in its process group, a signal by
    /// its name: `INT`.
    ///
    /// # Errors
    /// Where the agent doesn't answer.
    pub fn signal(&mut self, signal: &'static str) -> Result<(), VmError> {
        const SEND: &str = "read -r p <\"$1/pid\" && kill -\"$2\" \"$p\"";
        self.run(SEND, &[signal])
    }

    /// Tells the program's terminal its size.
    ///
    /// # Errors
    /// Where the agent doesn't answer.
    pub fn resize(&mut self, size: Size) -> Result<(), VmError> {
        const RESIZE: &str = "read -r t <\"$1/tty\" && stty rows \"$2\" cols \"$3\" <\"$t\"";
        self.run(RESIZE, &[&size.rows.to_string(), &size.columns.to_string()])
    }

    fn run(&mut self, script: &str, words: &[&str]) -> Result<(), VmError> {
        let mut args: Vec<String> = ["-c", script, "hostctl", &self.directory].map(str::to_owned).into();
        args.extend(words.iter().map(|word| (*word).to_owned()));
        start(&mut self.agent, args, false).map(drop)
    }

    /// Once the program has ended its directory is gone.
    fn put_if_there(&mut self, file: &str, bytes: &[u8]) -> Result<(), VmError> {
        match put(&mut self.agent, &format!("{}/{file}", self.directory), bytes) {
            Err(VmError::Refused { .. }) => Ok(()),
            result => result,
        }
    }

    fn beat(&mut self) -> Result<(), VmError> {
        if self.heartbeat.elapsed() >= HEARTBEAT {
            self.put_if_there("alive", b"1")?;
            self.heartbeat = Instant::now();
        }
        Ok(())
    }
}

/// A directory that is the program's alone.
fn make_directory(agent: &mut impl Agent) -> Result<Option<String>, VmError> {
    const MAKE: &str = "umask 077; n=$1; shift; for p; do mkdir \"$p/$n\" 2>/dev/null && echo \"$p/$n\" && exit; done; exit 1";
    let name = format!("hostctl-exec-{:016x}{:016x}", random(), random());
    let mut args: Vec<String> = ["-c", MAKE, "hostctl", &name].map(str::to_owned).into();
    args.extend(PLACES.map(str::to_owned));
    let pid = match start(agent, args, true) {
        Err(VmError::Refused { .. }) => return Ok(None),
        // A supervisor of an earlier version, which can't be asked for this.
        Err(VmError::Protocol { reason, .. }) if reason.starts_with("not a request") => return Ok(None),
        result => result?,
    };
    let begun = Instant::now();
    loop {
        let status = persist(|| agent.call(&GuestCall::Status { pid }))?;
        if status.get("exited").and_then(Value::as_bool) == Some(true) {
            let text = status.get("out-data").and_then(Value::as_str).unwrap_or_default();
            let told = BASE64.decode(text).unwrap_or_default();
            // One of those that were asked for, and none of the guest's choice.
            let known = PLACES.map(|place| format!("{place}/{name}"));
            return Ok(known.into_iter().find(|path| told.trim_ascii() == path.as_bytes()));
        }
        if begun.elapsed() > SETUP_LIMIT {
            let what = "a shell in the guest".to_string();
            return Err(VmError::late(what, SETUP_LIMIT));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Told apart from anybody else's is all it has to be: the directory is made
/// anew, and by root.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

fn start(agent: &mut impl Agent, args: Vec<String>, capture: bool) -> Result<i64, VmError> {
    let reply = agent.call(&GuestCall::Start { path: "/bin/sh".into(), args, capture })?;
    let pid = reply.get("pid").and_then(Value::as_i64);
    pid.ok_or_else(|| VmError::protocol(PEER, "guest-exec returned no pid"))
}

fn number(bytes: Option<Vec<u8>>) -> Option<u64> {
    std::str::from_utf8(&bytes?).ok()?.trim().parse().ok()
}

/// Calls again what may be called twice, where no answer came.
fn persist<T>(mut call: impl FnMut() -> Result<T, VmError>) -> Result<T, VmError> {
    for _ in 1..PATIENCE {
        match call() {
            Err(VmError::System(SystemError::Timeout { .. })) => {}
            result => return result,
        }
    }
    call()
}

fn open(agent: &mut impl Agent, path: &str, write: bool) -> Result<i64, VmError> {
    let reply = agent.call(&GuestCall::Open { path: path.into(), write })?;
    reply.as_i64().ok_or_else(|| VmError::protocol(PEER, "guest-file-open returned no handle"))
}

/// A file's bytes; none where it isn't there.
fn fetch(agent: &mut impl Agent, path: &str) -> Result<Option<Vec<u8>>, VmError> {
    persist(|| {
        let handle = match open(agent, path, false) {
            Err(VmError::Refused { .. }) => return Ok(None),
            result => result?,
        };
        let mut bytes = Vec::new();
        let read = loop {
            let count = u32::try_from(PIECE_MAX).unwrap_or(u32::MAX);
            let reply = agent.call(&GuestCall::Read { handle, count })?;
            let Some((more, eof)) = call::read_reply(&reply) else {
                break Err(VmError::protocol(PEER, "guest-file-read returned no base64"));
            };
            let last = eof || more.is_empty();
            bytes.extend_from_slice(&more);
            if bytes.len() > 2 * PIECE_MAX {
                break Err(VmError::protocol(PEER, "a piece of output that is too long"));
            }
            if last {
                break Ok(bytes);
            }
        };
        agent.call(&GuestCall::Close { handle })?;
        read.map(Some)
    })
}

/// Writes a file anew.
fn put(agent: &mut impl Agent, path: &str, bytes: &[u8]) -> Result<(), VmError> {
    persist(|| {
        let handle = open(agent, path, true)?;
        let written = agent.call(&GuestCall::write(handle, bytes));
        agent.call(&GuestCall::Close { handle })?;
        written.map(drop)
    })
}
