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
    let mut command = Arguments::command();
    let mut text = Vec::new();
    match arguments.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "hostctl", &mut text),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "hostctl", &mut text),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "hostctl", &mut text),
    }
    super::line(String::from_utf8_lossy(&text).trim_end())
}

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
