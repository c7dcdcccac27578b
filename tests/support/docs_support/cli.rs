//! The command line reference, from what the program says of itself.

use std::process::{Command, Stdio};

use super::anchor;

/// A command and what `--help` prints for it.
pub struct Help {
    /// `[]` for the program itself, `["vm", "up"]`.
    pub path: Vec<String>,
    pub text: String,
}

impl Help {
    /// As it is typed.
    pub fn name(&self) -> String {
        std::iter::once("hostctl").chain(self.path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    }

    /// The commands that it lists.
    pub fn children(&self) -> Vec<String> {
        let lines = self.text.lines().skip_while(|line| *line != "Commands:").skip(1);
        let lines = lines.take_while(|line| !line.is_empty());
        // A deeper indentation goes on with a description.
        let named = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = named.filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(str::to_string).collect()
    }

    /// Whether it does nothing itself: some have commands below, and take arguments
    /// too.
    pub fn is_group(&self) -> bool {
        !self.children().is_empty() && !self.text.contains("\nArguments:\n")
    }

    /// Whether it takes an option.
    pub fn takes(&self, option: &str) -> bool {
        self.text.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == option)
    }
}

/// Every command, in the order of the help.
pub fn commands() -> Vec<Help> {
    let mut found = Vec::new();
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let help = Help { text: help(&path), path };
        let children = help.children().into_iter().rev();
        pending.extend(children.map(|child| [help.path.clone(), vec![child]].concat()));
        found.push(help);
    }
    found
}

fn help(path: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
    // No terminal on any side, so that the width is always the same.
    command.args(path).arg("--help").env_remove("COLUMNS").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{path:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// `docs/reference/cli.md`.
pub fn reference() -> String {
    let commands = commands();
    let mut text = String::from(
        "# Command line\n\n\
         What each command's `--help` says. This file is generated from the program:\n\
         `UPDATE_DOCS=1 cargo test --features testbed --test all docs::` writes it.\n\n",
    );
    for help in commands.iter().filter(|help| !help.path.is_empty() && !help.is_group()) {
        let about = help.text.lines().next().unwrap_or_default().trim_end_matches('.');
        text.push_str(&format!("- [`{}`](#{}): {about}\n", help.name(), anchor(&help.name())));
    }
    for help in &commands {
        let lines: Vec<&str> = help.text.trim_end().lines().map(str::trim_end).collect();
        text.push_str(&format!("\n## {}\n\n```text\n{}\n```\n", help.name(), lines.join("\n")));
    }
    text
}
