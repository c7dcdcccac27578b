//! Runs a program and says how long it took and how much memory: another program
//! does, which is small (`src/testbed/bin/measure.rs`).

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::host::Host;

/// Runs the program that it is given.
const MEASURE: &str = env!("CARGO_BIN_EXE_hostctl-measure");

/// What a program took.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Measured {
    pub seconds: f64,
    /// Of a processor, by it and what it started.
    pub processor: f64,
    /// Most memory that it had at a time, or one that it started had, in KiB.
    pub peak_kib: f64,
}

/// A program that is to be run.
#[derive(Debug, Clone)]
pub struct Program {
    words: Vec<String>,
    input: Option<String>,
    /// In seconds.
    limit: Option<u32>,
    environment: Vec<(String, String)>,
}

impl Program {
    pub fn new<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_str().unwrap().to_string()).collect();
        Self { words, input: None, limit: None, environment: Vec::new() }
    }

    /// Reads its standard input from a file.
    pub fn input(mut self, path: &Path) -> Self {
        self.input = Some(path.to_str().unwrap().into());
        self
    }

    /// Ends it after so many seconds.
    pub fn limit(mut self, seconds: u32) -> Self {
        self.limit = Some(seconds);
        self
    }

    /// Gives it an environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// Runs it on a host; an error is what it wrote to standard error.
    pub fn run(&self, host: &Host) -> Result<Measured, String> {
        let output = host.run(|| {
            let mut command = Command::new(MEASURE);
            command.stderr(Stdio::piped());
            command.envs(self.environment.iter().map(|(key, value)| (key, value)));
            if let Some(limit) = self.limit {
                command.args(["timeout", &limit.to_string()]);
            }
            command.stdin(match &self.input {
                Some(path) => Stdio::from(File::open(path).unwrap()),
                None => Stdio::null(),
            });
            command.args(&self.words).output().unwrap()
        });
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).unwrap());
        }
        let text: String = String::from_utf8_lossy(&output.stderr).chars().take(500).collect();
        let limit = self.limit.map(|limit| format!("not in {limit} s")).unwrap_or_default();
        Err(if text.trim().is_empty() { limit } else { text })
    }

    /// As [`Self::run`], where it can't fail.
    pub fn must(&self, host: &Host) -> Measured {
        self.run(host).unwrap_or_else(|error| panic!("{:?}: {error}", self.words))
    }
}
