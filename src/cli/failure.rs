//! How a failed command ends.

use std::process::ExitCode;

use hostctl::app::AppError;
use hostctl::host::HostError;
use hostctl::os_error;
use hostctl::prove::Answer;
use hostctl::shown;
use hostctl::spec::{Checked, EditError, SpecError, SpecPath};
use hostctl::topology::Topology;
use hostctl::vm::VmError;
use serde_json::{Value, json};

use super::prove::different_lines;
use super::spec::{SpecFile, load_quietly};
use super::terminal::{self, Tone, paint_where};
use super::{Context, output};

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The spec is refused: exit code 3.
    Spec(SpecError),
    /// A change of the spec is refused: exit code 3.
    Edit(EditError),
    /// A change is refused as the host and the spec's files are: exit code 3.
    Refused(String),
    /// Another hostctl holds the lock, or a change waits for its confirmation:
    /// exit code 4.
    Locked(String),
    /// The spec is one that wasn't confirmed: exit code 5.
    Rejected(String),
    /// Something was found, by an audit or a proof: exit code 6.
    Found(String),
    /// Anything else: exit code 1.
    Other(String),
}

impl Failure {
    /// A failure with a message.
    pub fn other(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }

    /// Prints what clap says of a command line: help and version as they are, the
    /// rest as a failure.
    pub fn usage(error: &clap::Error) -> ExitCode {
        let json = std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
        if !json || !error.use_stderr() {
            // Nobody may be listening any more.
            _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()) * 2);
        }
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n");
        let message = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
        let usage = paragraphs.find_map(|text| text.trim().strip_prefix("Usage: "));
        let hint = usage.map(|usage| format!("usage: {usage}"));
        Told { kind: "usage", code: 2, message: message.into(), hint, problems: Vec::new() }.print_json()
    }

    /// Prints the failure; gives the exit code.
    pub fn report(self, json: bool) -> ExitCode {
        match self {
            Self::Spec(error) if !json => {
                let stderr = std::io::stderr();
                let text = match terminal::width(&stderr) {
                    Some(width) => error.render(width, terminal::colours(&stderr)),
                    None => error.to_string(),
                };
                eprintln!("{}", os_error::without_number(&text));
                ExitCode::from(3)
            }
            failure => {
                let told = failure.told();
                if json { told.print_json() } else { told.print() }
            }
        }
    }

    fn told(self) -> Told {
        let (kind, code, message) = match self {
            Self::Spec(error) => return Told::of_spec(&error),
            Self::Edit(error) => ("refused", 3, error.to_string()),
            Self::Refused(message) => ("refused", 3, message),
            Self::Locked(message) => ("locked", 4, message),
            Self::Rejected(message) => ("unconfirmed", 5, message),
            Self::Found(message) => ("found", 6, message),
            Self::Other(message) => ("failed", 1, message),
        };
        let message = shown::text(&os_error::without_number(&message));
        let (message, hint) = match message.split_once("\n  hint: ") {
            Some((message, hint)) => (message.to_string(), Some(hint.to_string())),
            None => {
                let hint = os_error::needs_root(&message).then(|| "run it as root".to_string());
                (message, hint)
            }
        };
        Told { kind, code, message, hint, problems: Vec::new() }
    }
}

/// A failure as it is told.
struct Told {
    kind: &'static str,
    code: u8,
    message: String,
    hint: Option<String>,
    /// What is wrong with a spec, one by one.
    problems: Vec<Value>,
}

impl Told {
    fn of_spec(error: &SpecError) -> Self {
        let problems: Vec<Value> = error
            .problems()
            .iter()
            .map(|problem| {
                json!({
                    "file": problem.file,
                    "line": problem.place.as_ref().map(|place| place.line),
                    "column": problem.place.as_ref().map(|place| place.column),
                    "message": problem.message,
                    "hint": problem.hint,
                })
            })
            .collect();
        let count = problems.len() + error.more();
        let message = format!("the spec is refused: {}", output::count(count, "problem"));
        Self { kind: "spec", code: 3, message, hint: None, problems }
    }

    fn print(self) -> ExitCode {
        let colours = terminal::colours(&std::io::stderr());
        eprintln!("{} {}", paint_where(colours, "error:", Tone::Bad), self.message);
        if let Some(hint) = self.hint {
            eprintln!("  hint: {hint}");
        }
        ExitCode::from(self.code)
    }

    /// In one line, as what else is on standard error is.
    fn print_json(self) -> ExitCode {
        let error = json!({
            "kind": self.kind,
            "exit_code": self.code,
            "message": self.message,
            "hint": self.hint,
            "problems": self.problems,
        });
        eprintln!("{}", json!({ "error": error }));
        ExitCode::from(self.code)
    }
}

/// A failure of the host's, with the lines of the spec that it is about: those of
/// `file`, or else of the host's own.
pub fn placed(context: &Context, file: Option<&SpecFile>, error: HostError) -> Failure {
    if !matches!(error, HostError::Unbootable(_) | HostError::Unstartable(_) | HostError::Unproved(_)) {
        return error.into();
    }
    let own = SpecFile::default();
    let Ok(checked) = load_quietly(context, file.unwrap_or(&own)) else { return error.into() };
    let at = |place: Option<String>| place.map(|place| format!("{place}: ")).unwrap_or_default();
    let lines: Vec<String> = match &error {
        HostError::Unbootable(guests) => guests
            .iter()
            .map(|(name, why)| format!("{}VM {name}: {why}", at(place_of_image(&checked, name.as_str()))))
            .collect(),
        HostError::Unproved(answer) => return unproved(&checked, answer, &error),
        HostError::Unstartable(apps) => apps
            .iter()
            .map(|(name, why)| {
                let line = checked.sources.line(&SpecPath::keys(["apps", name.as_str(), "user"]));
                format!("{}{why}", at(line.map(|(file, line)| format!("{}:{line}", file.display()))))
            })
            .collect(),
        _ => return error.into(),
    };
    Failure::other(format!("nothing was changed:\n  {}", lines.join("\n  ")))
}

/// With a packet for each way in which rules and spec differ, and the spec's lines.
fn unproved(checked: &Checked<Topology>, answer: &Answer, error: &HostError) -> Failure {
    /// More aren't told: `hostctl prove` does.
    const MOST: usize = 3;
    let Answer::Different(found) = answer else { return Failure::Refused(error.to_string()) };
    let lines: Vec<String> =
        found.iter().take(MOST).flat_map(|one| different_lines(Some(checked), one)).collect();
    let more = if found.len() > MOST { "\n  hint: hostctl prove shows the other packets" } else { "" };
    Failure::Refused(format!(
        "nothing was changed: the rules that would be loaded don't do with every packet what the spec says:\n  {}{more}",
        lines.join("\n  ")
    ))
}

/// Where a spec says what a VM boots, as `FILE:LINE`.
pub fn place_of_image<T>(checked: &Checked<T>, name: &str) -> Option<String> {
    let vm = checked.spec.vms.get(name)?;
    let key = match (&vm.image, &vm.kernel) {
        (Some(_), _) => "image",
        (None, Some(_)) => "kernel",
        (None, None) => "disk",
    };
    let (file, line) = checked.sources.line(&SpecPath::keys(["vms", name, key]))?;
    Some(format!("{}:{line}", file.display()))
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Spec(error) => Self::Spec(error),
            HostError::Edit(error) => Self::Edit(error),
            HostError::FilesDiffer { .. } | HostError::Unconsented(_) | HostError::Unproved(_) => {
                Self::Refused(error.to_string())
            }
            HostError::Rejected { .. } => Self::Rejected(error.to_string()),
            HostError::Unconfirmed { .. } | HostError::Locked(_) => Self::Locked(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

impl From<VmError> for Failure {
    fn from(error: VmError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        Self::Other(error.to_string())
    }
}
