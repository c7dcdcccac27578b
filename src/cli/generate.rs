//! What packages install beside the program: completions and manual pages,
//! made from the command line's own definition.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::shells;
use clap_mangen::Man;

use super::{Arguments, Context, Failure};

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell that they are for.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub struct Pages {
    /// The directory, which is made where it isn't there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints a shell's completions.
pub fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut command = visible(&Arguments::command());
    let mut text = Vec::new();
    match arguments.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "hostctl", &mut text),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "hostctl", &mut text),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "hostctl", &mut text),
    }
    let text = String::from_utf8_lossy(&text);
    super::line(with_names(arguments.shell, text.trim_end()))
}

/// Without the commands that nobody types.
fn visible(command: &clap::Command) -> clap::Command {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set()).cloned();
    let arguments = command.get_arguments().cloned();
    clap::Command::new("hostctl").args(arguments).subcommands(below)
}

/// A shell's script for commands and options, which first asks the program
/// itself for names: `hostctl complete`.
fn with_names(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => {
            let script = script.replacen("_hostctl() {", "_hostctl_commands_and_options() {", 1);
            // What registers it stands at the end.
            let at = script.rfind("\nif [[").unwrap_or(script.len());
            let (functions, registration) = script.split_at(at);
            format!("{functions}\n{BASH}{registration}")
        }
        Shell::Zsh => {
            let script = script.replacen("\n_hostctl() {", "\n_hostctl_commands_and_options() {", 1);
            let at = script.rfind("\nif [ ").unwrap_or(script.len());
            let (functions, registration) = script.split_at(at);
            format!("{functions}\n{ZSH}{registration}")
        }
        Shell::Fish => {
            let names = format!("-f -a {FISH}");
            // An option's values are nobody's but its own line's.
            let asking = |line: &str| match line.ends_with(" -r") && takes_name(line) {
                true => format!("{line} {names}"),
                false => line.to_string(),
            };
            let lines: Vec<String> = script.lines().map(asking).collect();
            format!("{}\ncomplete -c hostctl {names}", lines.join("\n"))
        }
    }
}

const BASH: &str = r#"_hostctl() {
    local names
    names=$("$1" complete -- "${COMP_WORDS[@]:0:COMP_CWORD+1}" 2>/dev/null)
    if [[ -n $names ]]; then
        mapfile -t COMPREPLY <<<"$names"
    else
        _hostctl_commands_and_options "$@"
    fi
}
"#;

const ZSH: &str = r#"_hostctl() {
    local -a names
    names=("${(@f)$(${(Q)words[1]} complete -- "${(@Q)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$names" ]]; then
        compadd -a names
    else
        _hostctl_commands_and_options "$@"
    fi
}
"#;

/// Whether a line of fish's is about an option whose value is a name.
fn takes_name(line: &str) -> bool {
    ["name", "vpc", "vpc1", "vpc2", "network", "subnet", "from-subnet", "to-subnet"]
        .iter()
        .any(|option| line.contains(&format!(" -l {option} ")))
}

const FISH: &str =
    "'(type -q hostctl; and command hostctl complete -- (commandline -opc) (commandline -ct) 2>/dev/null)'";

/// Writes a manual page for each command.
pub fn pages(context: &Context, arguments: &Pages) -> Result<(), Failure> {
    // They are no files of hostctl's: whoever asks says who reads them.
    rustix::process::umask(context.umask);
    let directory = &arguments.directory;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    std::fs::create_dir_all(directory).and_then(|()| write_pages(&command, directory)).map_err(|error| {
        Failure::other(format!("can't write manual pages to {}: {error}", directory.display()))
    })
}

/// The page of `command`, and of each one below it. Without a date: the same
/// program writes the same pages.
fn write_pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below, directory)?;
    }
    let page = Man::new(command.clone())
        // An empty argument of roff's: the next ones stay at their places.
        .date("\\&")
        .source(concat!("hostctl ", env!("CARGO_PKG_VERSION")))
        .manual("hostctl");
    page.generate_to(directory).map(drop)
}
