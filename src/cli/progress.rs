//! How far a change of the host is: a line that is written again and again on a
//! terminal, a line for each step elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use hostctl::host::{HostError, Loss, Step, Watch};
use hostctl::prove::Extent;
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use super::wait::Wait;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Nothing.
    Quiet,
    /// A line for each step.
    Lines,
    /// The step that is being done, on one line.
    OneLine,
}

/// Whether everything may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consent {
    Given,
    /// There is somebody to be asked.
    Asked,
    Missing,
}

/// Shows each step as it is done.
pub struct Progress {
    style: Style,
    patience: Duration,
    consent: Consent,
    proves: bool,
    all: bool,
    /// The line, while there is one.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of a command that waits so long for another one.
    pub fn new(context: &Context, wait: Wait) -> Self {
        let style = match is_one_line(context) {
            _ if context.json => Style::Quiet,
            true => Style::OneLine,
            false => Style::Lines,
        };
        Self {
            style,
            patience: wait.patience(),
            consent: Consent::Missing,
            proves: false,
            all: false,
            bar: None,
        }
    }

    /// Of an apply, which may take everything away where `yes` or somebody at
    /// the terminal says so.
    pub fn of_apply(context: &Context, yes: bool, wait: Wait) -> Self {
        let asked = context.interactive() && std::io::stdin().is_terminal();
        let mut progress = Self::new(context, wait);
        progress.consent = match yes {
            true => Consent::Given,
            false if asked => Consent::Asked,
            false => Consent::Missing,
        };
        progress
    }

    /// Which loads rules only where they are proved, if `proves`.
    pub fn proving(mut self, proves: bool) -> Self {
        self.proves = proves;
        self
    }

    /// Which looks at the whole host, if `all`.
    pub fn looking_at_all(mut self, all: bool) -> Self {
        self.all = all;
        self
    }

    /// Removes the line, so that something else can be said.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn say(&mut self, text: &str) {
        self.clear();
        if self.style != Style::Quiet {
            write(text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether progress is shown as one line: on a terminal, unless the commands
/// are asked for.
pub fn is_one_line(context: &Context) -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !context.json && !context.verbose && !dumb && std::io::stderr().is_terminal()
}

/// Writes a line. Nobody may be listening any more; the steps are done all the
/// same.
fn write(text: &str) {
    // In one write: standard error has no buffer, and there may be many.
    _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn bar(total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("[{pos}/{len}] {wide_msg}");
    ProgressBar::new(total as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Watch for Progress {
    fn before(&mut self, number: usize, total: usize, step: &Step) -> Result<(), HostError> {
        // Of thousands of steps every few are enough to follow.
        let shown = number == total || number.is_multiple_of((total / 500).max(1));
        match self.style {
            Style::Lines if shown => {
                let width = total.to_string().len();
                write(&format!("[{number:width$}/{total}] {}", first_line(step)));
            }
            Style::OneLine if shown => {
                let bar = self.bar.get_or_insert_with(|| bar(total));
                bar.set_length(total as u64);
                bar.set_position(number as u64);
                bar.set_message(first_line(step));
            }
            _ => {}
        }
        Ok(())
    }

    fn rolling_back(&mut self, to: u64) {
        self.say(&format!("failed; returning to generation {to}"));
    }

    fn consents(&mut self, to: &Loss) -> bool {
        self.clear();
        match self.consent {
            Consent::Given => true,
            Consent::Missing => false,
            Consent::Asked => {
                eprint!("{to}. Go on? [y/N] ");
                let mut answer = String::new();
                _ = std::io::stdin().read_line(&mut answer);
                matches!(answer.trim(), "y" | "yes")
            }
        }
    }

    fn proves(&self) -> bool {
        self.proves
    }

    fn looks_at_all(&self) -> bool {
        self.all
    }

    fn proved(&mut self, extent: &Extent, time: Duration) {
        let rules = extent.rules.len();
        self.say(&format!("proved: equal for every packet, {rules} rules decide ({time:.2?})"));
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn waiting(&mut self, holder: &str) {
        self.say(&format!("waiting for {holder}"));
    }
}

fn first_line(step: &Step) -> String {
    let text = step.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_string();
    match lines.count() {
        0 => first,
        more => format!("{first} … and {more} more"),
    }
}
