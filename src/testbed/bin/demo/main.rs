//! `make demo`: a microVM host with five real guests, in namespaces of its
//! own, and the proof by real packets that it is what the spec says.

#![allow(clippy::print_stdout, reason = "it is a demonstration")]

mod keep;
mod proof;
mod report;
mod stage;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use stage::Stage;

/// What went wrong, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How the demo came to its end.
enum End {
    /// All was shown; whether every packet did as expected.
    Shown(Result<bool, Failure>),
    /// Ctrl-C, or kill.
    Signal(Signal),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        [] => run(false),
        ["--keep"] => keep::in_background(),
        // Started by --keep: shows the demo to its parent, then stays.
        ["--keeper"] => run(true),
        ["--down"] => keep::take_down(),
        _ => Err("usage: hostctl-demo [--keep | --down]".into()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\ndemo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(stay: bool) -> Result<ExitCode, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err("the demo makes network namespaces and runs guests: run it as root".into());
    }
    // Signals come to one thread that waits for them; every other inherits the mask.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block()?;
    let (ended, end) = mpsc::channel();
    let by_signal = ended.clone();
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if by_signal.send(End::Signal(signal)).is_err() {
                return;
            }
        }
    });
    let stage = Stage::new()?;
    let show = stage.clone();
    thread::spawn(move || {
        // Nobody waits any more where a signal came first.
        let _ = ended.send(End::Shown(show.play()));
    });
    let mut code = ExitCode::FAILURE;
    match end.recv()? {
        End::Signal(signal) => report::say(&format!("\n{signal}: cleaning up")),
        End::Shown(Err(error)) => report::say(&format!("\nthe demo failed: {error}")),
        End::Shown(Ok(as_expected)) => {
            code = if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            if stay {
                keep::announce(&stage)?;
                while !matches!(end.recv(), Ok(End::Signal(_)) | Err(_)) {}
            }
        }
    }
    stage.strike()?;
    Ok(code)
}
