//! `hostctl vm exec` and `vm shell`: a program in a guest, with its streams, its
//! signals and its exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;
use hostctl::shown::Stream;
use hostctl::topology::Name;
use hostctl::vm::program::{INPUT_MAX, Output, Program, Size, Terminal};
use hostctl::vm::{Client, ExecOutput, SystemError, VmError};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::signal::unix::{SignalKind, signal};

use super::console::Raw;
use super::{Context, Failure, output};

/// The longest output of each kind that `--json` holds, in bytes.
const KEPT: usize = 1024 * 1024;
/// How long a program that is out of time has to end by itself.
const GRACE: Duration = Duration::from_secs(3);
/// Between two looks at a program that says nothing.
const LONGEST_NAP: Duration = Duration::from_millis(100);
/// root's login shell, or the one that every guest has.
const SHELL: &str = "s=$(getent passwd 0 2>/dev/null); s=${s##*:}; [ -x \"$s\" ] || s=/bin/sh; \
                     cd \"${HOME:-/root}\" 2>/dev/null || cd /; exec \"$s\" -l";

#[derive(Debug, Args)]
pub struct Exec {
    /// The VM's name in the spec.
    name: String,
    /// Give the program a terminal, as `ssh -t` does; the guest needs the
    /// program `script` for that.
    #[arg(long, short = 't')]
    tty: bool,
    /// Give it no input; otherwise it reads what this command reads.
    #[arg(long, short = 'n')]
    no_input: bool,
    /// Seconds that the program has; then it is ended. Default: as long as it takes.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The program, and its arguments.
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

impl Exec {
    /// The VM's name, as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A word of the one who runs the command.
enum Word {
    Signal(&'static str),
    Resized,
}

pub async fn exec(context: &Context, name: Name, arguments: Exec) -> Result<ExitCode, Failure> {
    let Exec { tty, no_input, timeout, command, .. } = arguments;
    let run = Run { name, command, tty, input: !no_input, limit: timeout.map(Duration::from_secs) };
    run.watched(context).await
}

pub async fn shell(context: &Context, name: Name) -> Result<ExitCode, Failure> {
    let command = ["/bin/sh", "-c", SHELL].map(str::to_owned).to_vec();
    let tty = std::io::stdin().is_terminal();
    Run { name, command, tty, input: true, limit: None }.watched(context).await
}

struct Run {
    name: Name,
    command: Vec<String>,
    tty: bool,
    input: bool,
    limit: Option<Duration>,
}

impl Run {
    /// Runs it beside a task that hears signals.
    async fn watched(self, context: &Context) -> Result<ExitCode, Failure> {
        let client = Client::connect(&context.root, &self.name)?;
        let (sender, words) = mpsc::channel();
        let caught =
            |kind| signal(kind).map_err(|error| Failure::other(format!("can't catch signals: {error}")));
        let mut interrupt = caught(SignalKind::interrupt())?;
        let mut terminate = caught(SignalKind::terminate())?;
        let mut hangup = caught(SignalKind::hangup())?;
        let mut quit = caught(SignalKind::quit())?;
        let mut window = caught(SignalKind::window_change())?;
        let json = context.json;
        let mut program = tokio::task::spawn_blocking(move || self.run(client, json, &words));
        let result = loop {
            let word = tokio::select! {
                ended = &mut program => break ended,
                _ = interrupt.recv() => Word::Signal("INT"),
                _ = terminate.recv() => Word::Signal("TERM"),
                _ = hangup.recv() => Word::Signal("HUP"),
                _ = quit.recv() => Word::Signal("QUIT"),
                _ = window.recv() => Word::Resized,
            };
            // It may have ended just now.
            _ = sender.send(word);
        };
        match result.map_err(|error| Failure::other(format!("can't run it: {error}")))?? {
            Ended::Code(code) => Ok(ExitCode::from(code)),
            Ended::Plainly(note, code) => {
                context.note(note);
                Ok(ExitCode::from(code))
            }
        }
    }

    fn run(&self, client: Client, json: bool, words: &mpsc::Receiver<Word>) -> Result<Ended, Failure> {
        let terminal = self.tty.then(|| Terminal {
            term: std::env::var("TERM").unwrap_or_else(|_| "dumb".into()),
            size: size(),
        });
        let program = match Program::start(client, &self.command, terminal.as_ref())? {
            Ok(program) => program,
            Err(client) => return self.run_plainly(client, json),
        };
        let raw = self.tty.then(Raw::enter);
        let mut sink = Sink::new(json, self.tty);
        let code = self.carry(program, &mut sink, words);
        drop(raw);
        let code = code?;
        sink.finish(code)?;
        Ok(Ended::Code(code))
    }

    /// Carries bytes and signals until the program has ended.
    fn carry(
        &self,
        mut program: Program<Client>,
        sink: &mut Sink,
        words: &mpsc::Receiver<Word>,
    ) -> Result<u8, Failure> {
        let begun = Instant::now();
        let mut input = self.input;
        if !input {
            program.give(b"")?;
        }
        let mut nap = Duration::ZERO;
        let (mut asked, mut killed, mut interrupts) = (None, false, 0);
        loop {
            let mut any = program.read(&mut |output, bytes| sink.write(output, bytes))?;
            if let Some(code) = program.ended()? {
                return match self.limit.filter(|_| asked.is_some()) {
                    Some(limit) => Err(VmError::late(self.what(), limit).into()),
                    None => Ok(code),
                };
            }
            while let Ok(word) = words.try_recv() {
                any = true;
                match word {
                    Word::Resized => size().map_or(Ok(()), |size| program.resize(size))?,
                    Word::Signal(name) => {
                        interrupts += 1;
                        if interrupts > 2 {
                            let left = "left it running: the guest ends it within a minute";
                            return Err(Failure::other(format!("{}: {left}", self.what())));
                        }
                        program.signal(name)?;
                    }
                }
            }
            if let Some(limit) = self.limit {
                let since = asked.map_or(Duration::ZERO, |asked: Instant| asked.elapsed());
                if asked.is_none() && begun.elapsed() > limit {
                    program.signal("TERM")?;
                    asked = Some(Instant::now());
                } else if since > GRACE && !killed {
                    program.signal("KILL")?;
                    killed = true;
                } else if since > 3 * GRACE {
                    return Err(VmError::late(self.what(), limit).into());
                }
            }
            nap = if any { Duration::ZERO } else { (nap + Duration::from_millis(10)).min(LONGEST_NAP) };
            let takes = input && program.takes_input()?;
            if !takes {
                std::thread::sleep(nap);
            } else if readable(nap)? {
                let mut buffer = vec![0; INPUT_MAX];
                // One that can't be read is at its end.
                let length = rustix::io::read(std::io::stdin(), &mut buffer).unwrap_or(0);
                program.give(buffer.get(..length).unwrap_or_default())?;
                input = length > 0;
                nap = Duration::ZERO;
            }
        }
    }

    fn what(&self) -> String {
        let program = self.command.first().map(String::as_str).unwrap_or_default();
        format!("{program} in {}", self.name)
    }

    /// What the agent can by itself: output at the end.
    fn run_plainly(&self, mut client: Client, json: bool) -> Result<Ended, Failure> {
        if self.tty {
            return Err(Failure::other(format!(
                "{} has no /bin/sh, or its agent may not open files: no terminal can be made there",
                self.name
            )));
        }
        let Some((path, rest)) = self.command.split_first() else { return Ok(Ended::Code(0)) };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let limit = self.limit.unwrap_or(Duration::from_secs(24 * 3600));
        let done = client.exec(path, &rest, limit)?;
        let code = done.exit_code.or(done.signal.map(|signal| 128 + signal)).unwrap_or(255);
        let code = u8::try_from(code & 0xff).unwrap_or(255);
        let mut sink = Sink::new(json, false);
        sink.write(Output::Stdout, &done.stdout)?;
        sink.write(Output::Stderr, &done.stderr)?;
        sink.truncated |= done.truncated;
        sink.finish(code)?;
        let cut = if done.truncated { ", and was cut" } else { "" };
        let note = format!(
            "{} has no /bin/sh, or its agent may not open files: no input was given, and output came at the end, \
             1 MiB of each kind at most{cut}",
            self.name
        );
        Ok(Ended::Plainly(note, code))
    }
}

enum Ended {
    Code(u8),
    /// Without streams, as is to be said.
    Plainly(String, u8),
}

/// Where output goes.
struct Sink {
    json: bool,
    /// Bytes as they are; otherwise as they may be shown.
    plain: [bool; 2],
    shown: [Stream; 2],
    kept: [Vec<u8>; 2],
    truncated: bool,
}

impl Sink {
    fn new(json: bool, tty: bool) -> Self {
        // What a program draws on its terminal is drawn on this one; into a file
        // or a pipe goes what it wrote.
        let plain = [std::io::stdout().is_terminal(), std::io::stderr().is_terminal()];
        let plain = plain.map(|terminal| tty || !terminal);
        Self { json, plain, shown: Default::default(), kept: Default::default(), truncated: false }
    }

    fn write(&mut self, output: Output, bytes: &[u8]) -> Result<(), VmError> {
        let index = usize::from(output == Output::Stderr);
        if self.json {
            let Some(kept) = self.kept.get_mut(index) else { return Ok(()) };
            let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
            kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
            self.truncated |= room < bytes.len();
            return Ok(());
        }
        match (self.plain.get(index), self.shown.get_mut(index)) {
            (Some(false), Some(shown)) => put(output, shown.add(bytes).as_bytes()),
            _ => put(output, bytes),
        }
    }

    fn finish(&mut self, code: u8) -> Result<(), Failure> {
        for (output, shown) in [Output::Stdout, Output::Stderr].into_iter().zip(&mut self.shown) {
            put(output, shown.finish().as_bytes())?;
        }
        if !self.json {
            return Ok(());
        }
        let [stdout, stderr] = std::mem::take(&mut self.kept);
        let (exit_code, truncated) = (Some(code.into()), self.truncated);
        output::json(&ExecOutput { exit_code, signal: None, stdout, stderr, truncated })
    }
}

/// Writes all of it at once: a program that waits for an answer has asked.
fn put(output: Output, bytes: &[u8]) -> Result<(), VmError> {
    let written = match output {
        Output::Stdout => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        Output::Stderr => std::io::stderr().write_all(bytes),
    };
    written.map_err(|source| VmError::from(SystemError::Kernel { action: "write", source }))
}

/// Whether there is something to read within that time.
fn readable(limit: Duration) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    let limit = rustix::time::Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
    match poll(&mut polled, Some(&limit)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(Failure::other(format!("can't read: {error}"))),
    }
}

/// The size of the terminal that this command has, where it has one.
fn size() -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(std::io::stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(Size { rows: size.ws_row, columns: size.ws_col })
}
