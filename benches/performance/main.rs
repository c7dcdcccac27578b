//! How fast hostctl is, always as a ratio to a baseline that is measured in
//! the same run, round by round in turn. One file a question; what they find
//! becomes `docs/performance.md`. `make bench` runs them all, as root, in
//! network namespaces of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod harness;

mod full_apply;
mod growth;
mod guests;
mod packets;
mod planning;
mod proof;
mod ruleset_load;
mod setup_commands;

use std::process::ExitCode;

use harness::{Report, machine, page, program};

/// A question's name, and who answers it.
type Question = (&'static str, fn() -> Report);

/// In the order of the page.
const QUESTIONS: [Question; 8] = [
    ("setup-commands", setup_commands::ask),
    ("ruleset-load", ruleset_load::ask),
    ("packets", packets::ask),
    ("growth", growth::ask),
    ("full-apply", full_apply::ask),
    ("planning", planning::ask),
    ("proof", proof::ask),
    ("guests", guests::ask),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let Some((program::MEASURE, command)) =
        arguments.split_first().map(|(word, rest)| (word.as_str(), rest))
    {
        return program::measure(command);
    }
    let unknown = arguments.iter().find(|name| !QUESTIONS.iter().any(|(known, _)| known == name));
    if let Some(name) = unknown {
        let known: Vec<_> = QUESTIONS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no question {name}; there are: {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let asked = |name: &&str| arguments.is_empty() || arguments.iter().any(|asked| asked == name);
    for (name, ask) in QUESTIONS.iter().filter(|(name, _)| asked(name)) {
        eprintln!("== {name}");
        let started = std::time::Instant::now();
        let report = ask();
        eprintln!("== {name}: {:.0} s", started.elapsed().as_secs_f64());
        page::keep(name, &report, &machine::describe());
    }
    page::write(&QUESTIONS.map(|(name, _)| name));
    ExitCode::SUCCESS
}
