//! `hostctl audit`.

use clap::{Args, ValueEnum};
use hostctl::firewall::Severity;
use hostctl::host::{self, Audit, Finding};

use super::apply::{Progress, host};
use super::{Context, Failure, line, output};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Exit with 6 if something at least as bad is found.
    #[arg(long, value_name = "SEVERITY", default_value = "warning")]
    fail_on: FailOn,
    /// Put back what isn't as it was applied, then look again.
    #[arg(long)]
    repair: bool,
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
    let mut audit = host::audit(&context.root).await?;
    if arguments.repair && audit.has_drift() {
        host(context)?.repair(&mut Progress { quiet: context.json }).await?;
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
    line(format!("\n{:8}  {}", finding.severity.word(), finding.object))?;
    line(format!("{:8}  found:    {}", "", finding.found))?;
    line(format!("{:8}  expected: {}", "", finding.expected))?;
    line(format!("{:8}  remedy:   {}", "", finding.remedy))?;
    finding.commands.iter().try_for_each(|command| line(format!("{:8}            {command}", "")))
}
