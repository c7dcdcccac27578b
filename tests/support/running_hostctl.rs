//! A hostctl that runs on, and what it says.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::lab::Lab;

/// Generous: the machine may be busy with other tests. What is measured is
/// printed.
pub const SOON: Duration = Duration::from_secs(30);

pub struct RunningHostctl {
    pub child: Child,
    /// Its lines, as they come.
    pub news: Receiver<Value>,
}

impl Drop for RunningHostctl {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl RunningHostctl {
    pub fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command.arg("--root-dir").arg(lab.root_dir()).arg("--json").args(arguments).stdout(Stdio::piped());
        let mut child = lab.world.hypervisor.run(|| command.spawn()).unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, news) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, news }
    }

    /// The first news that is `wanted`; the panic shows what else was said.
    #[track_caller]
    pub fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + SOON;
        let mut other = Vec::new();
        loop {
            match self.news.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(news) if wanted(&news) => return news,
                Ok(news) => other.push(news),
                Err(_) => panic!("not told of within {SOON:?}; but of {other:#?}"),
            }
        }
    }

    /// The first news of that event.
    #[track_caller]
    pub fn event(&self, event: &str) -> Value {
        self.until(|news| news["event"] == event)
    }
}
