//! How fast hostctl is, always as a ratio to a baseline that is measured in
//! the same run, round by round in turn. One file a question; what they find
//! becomes `docs/performance.md`. `make bench` runs them all, as root, in
//! network namespaces of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod output;
#[path = "questions.rs"]
mod questions;

use std::process::ExitCode;

use output::{machine, page};
use questions::QUESTIONS;
use questions::harness::Extent;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let unknown = arguments.iter().find(|name| !QUESTIONS.iter().any(|(known, _)| known == name));
    if let Some(name) = unknown {
        let known: Vec<_> = QUESTIONS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no question {name}; there are: {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let extent = Extent::from_environment();
    let asked = |name: &&str| arguments.is_empty() || arguments.iter().any(|asked| asked == name);
    for (name, ask) in QUESTIONS.iter().filter(|(name, _)| asked(name)) {
        eprintln!("== {name}");
        let started = std::time::Instant::now();
        let report = ask(&extent);
        eprintln!("== {name}: {:.0} s", started.elapsed().as_secs_f64());
        for aim in &report.aims {
            let reached = if aim.reached { "reached" } else { "missed" };
            eprintln!("   {reached}: {}: {}", aim.wanted, aim.measured);
        }
        if extent.is_whole() && std::env::var_os("AGAINST").is_none() {
            page::keep(name, &report, &machine::describe());
        }
    }
    page::write(&QUESTIONS.map(|(name, _)| name));
    ExitCode::SUCCESS
}
