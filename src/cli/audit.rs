//! `hostctl audit`.

use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use hostctl::firewall::Severity;
use hostctl::host::{self, Audit, Finding, HostError, News, WatchOptions};

use serde_json::json;

use super::apply::host;
use super::progress::Progress;
use super::terminal::{Tone, paint};
use super::wait::Wait;
use super::{Context, Failure, line, output};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Exit with 6 if something at least as bad is found.
    #[arg(long, value_name = "SEVERITY", default_value = "warning")]
    fail_on: FailOn,
    /// Put back what isn't as it was applied, then look again.
    #[arg(long)]
    repair: bool,
    /// Go on looking, and say what appears and what vanishes.
    ///
    /// Looks again whenever the kernel tells of a change, and every --interval
    /// for what it doesn't tell of. With --json, prints one JSON object a line.
    #[arg(long)]
    watch: bool,
    /// How long at most between two looks.
    #[arg(long, value_name = "DURATION", default_value = "5s", requires = "watch", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    wait: Wait,
}

/// Not so often that it does nothing else.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_secs(1) { Err("at least 1s".into()) } else { Ok(interval) }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FailOn {
    /// Anything worth knowing.
    Info,
    /// What breaks something, and what opens something.
    Warning,
    /// What opens something.
    Critical,
}

impl From<FailOn> for Severity {
    fn from(fail_on: FailOn) -> Self {
        match fail_on {
            FailOn::Info => Self::Info,
            FailOn::Warning => Self::Warning,
            FailOn::Critical => Self::Critical,
        }
    }
}

pub async fn audit(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.watch {
        let host = host(context)?;
        let options = WatchOptions { interval: arguments.interval, repair: arguments.repair };
        let mut tell =
            |news: News| tell(context, &news).map_err(|failure| HostError::Told(format!("{failure:?}")));
        return Ok(host::watch(&host, options, &mut tell).await?);
    }
    let mut audit = host::audit(&context.root).await?;
    if arguments.repair && audit.has_drift() {
        host(context)?.repair(&mut Progress::new(context, arguments.wait)).await?;
        audit = host::audit(&context.root).await?;
    }
    if context.json {
        output::json(&audit)?
    } else {
        print(&audit)?
    }
    let severity = Severity::from(arguments.fail_on);
    match audit.findings.iter().filter(|finding| finding.severity >= severity).count() {
        0 => Ok(()),
        found => Err(Failure::Found(format!(
            "{} at or above {}",
            output::count(found, "finding"),
            severity.word()
        ))),
    }
}

fn print(audit: &Audit) -> Result<(), Failure> {
    let generation =
        audit.generation.map_or_else(|| "no generation".into(), |number| format!("generation {number}"));
    if audit.findings.is_empty() {
        return line(format!("{generation}: nothing found"));
    }
    line(format!("{generation}: {}", output::count(audit.findings.len(), "finding")))?;
    audit.findings.iter().try_for_each(print_finding)
}

fn print_finding(finding: &Finding) -> Result<(), Failure> {
    // Filled up before it is painted.
    line(format!("\n{}  {}", severity(finding, 8), finding.object))?;
    line(format!("{:8}  found:    {}", "", finding.found))?;
    line(format!("{:8}  expected: {}", "", finding.expected))?;
    line(format!("{:8}  remedy:   {}", "", finding.remedy))?;
    finding.commands.iter().try_for_each(|command| line(format!("{:8}            {command}", "")))
}

/// The word, in so many columns.
fn severity(finding: &Finding, columns: usize) -> String {
    let word = finding.severity.word();
    let fill = " ".repeat(columns.saturating_sub(word.len()));
    paint(word, Tone::of(word)) + &fill
}

/// Prints news with its time, as a line.
fn tell(context: &Context, news: &News) -> Result<(), Failure> {
    let at = humantime::format_rfc3339_millis(SystemTime::now());
    if context.json {
        let mut object = json!(news);
        object["at"] = json!(at.to_string());
        return line(object);
    }
    let of = |finding: &Finding| {
        format!(
            "{} {}: {} (expected: {})",
            severity(finding, 0),
            finding.object,
            finding.found,
            finding.expected
        )
    };
    let text = match news {
        News::Watching { generation: Some(number), findings } => {
            format!("watching generation {number}, {}", output::count(*findings, "finding"))
        }
        News::Watching { generation: None, .. } => "watching; nothing was applied".into(),
        News::Appeared { finding } => format!("appeared  {}", of(finding)),
        News::Vanished { finding } => format!("vanished  {}", of(finding)),
        News::Repaired { steps } => format!("repaired  {}", output::count(*steps, "step")),
        News::Paused { repairs, seconds } => {
            format!(
                "paused    something keeps changing the host: repaired {repairs} times in a row; the next repair in {seconds} s"
            )
        }
        News::Failed { error } => format!("failed    {}", error.replace('\n', " ")),
        News::Overrun => "overrun   more changed than the kernel could tell of; looked at everything".into(),
    };
    line(format!("{at} {text}"))
}
