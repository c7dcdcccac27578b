//! Runs a program and prints, as JSON, how long it took, how much time of a
//! processor and how much memory.
//!
//! A small program of its own: the kernel counts the memory of whoever starts a
//! program as that program's (exec_mmap in `fs/exec.c`). What is printed is
//! therefore never less than this program has, some 2 MiB.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else { return ExitCode::FAILURE };
    let started = Instant::now();
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).status();
    let seconds = started.elapsed().as_secs_f64();
    if !status.is_ok_and(|status| status.success()) {
        return ExitCode::FAILURE;
    }
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return ExitCode::FAILURE };
    let time = |value: TimeVal| value.num_microseconds() as f64 / 1e6;
    let processor = time(usage.user_time()) + time(usage.system_time());
    println!(r#"{{"seconds":{seconds},"processor":{processor},"peak_kib":{}}}"#, usage.max_rss());
    ExitCode::SUCCESS
}
