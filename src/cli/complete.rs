//! What completions ask while somebody types: the names of guests, networks,
//! policies and generations.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Arg, Args, Command, CommandFactory};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate, complete};
use hostctl::host::generation_numbers;
use hostctl::root_dir::RootDir;
use hostctl::spec::DefinedNames;

use super::{Arguments, Failure, line};

#[derive(Debug, Args)]
pub struct Words {
    /// The words of the command line, up to the one that is to be completed.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Vm,
    App,
    Network,
    Subnet,
    Policy,
    Generation,
    /// Whoever sends or receives.
    End,
}

/// How candidates of ours are known from commands and options, which the
/// shell's own script has.
const OURS: &str = "hostctl ";

/// Prints the names that the last word can become, a line each; nothing where
/// it is no name's place. Nothing is wrong with not being root.
pub fn candidates(arguments: &Words) -> Result<(), Failure> {
    let words = joined(&arguments.words);
    let Some(last) = words.last() else { return Ok(()) };
    let root = root_dir(&words);
    let mut command = offering(Arguments::command(), &[], &root);
    let index = words.len() - 1;
    // What can't be completed isn't.
    let found = complete(&mut command, words.clone(), index, None).unwrap_or_default();
    let ours = found.iter().filter(|one| one.get_id().is_some_and(|id| id.starts_with(OURS)));
    // bash takes `--vpc=sh` for three words, and completes the last.
    let option = last.to_str().filter(|word| word.starts_with("--")).and_then(|word| word.split_once('='));
    let split = option.is_some() && arguments.words.len() != words.len();
    let values: BTreeSet<String> = ours.map(|one| one.get_value().to_string_lossy().into_owned()).collect();
    values.iter().try_for_each(|value| {
        let whole = value.as_str();
        line(match option {
            Some((name, _)) if split => {
                whole.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).unwrap_or(whole)
            }
            _ => whole,
        })
    })
}

/// With each `--option`, `=`, `value` as one word again.
fn joined(words: &[OsString]) -> Vec<OsString> {
    let mut found: Vec<OsString> = Vec::new();
    let mut open = false;
    for word in words {
        match found.last_mut() {
            Some(last) if open => {
                last.push(word);
                open = false;
            }
            Some(last) if word == "=" && last.to_str().is_some_and(|last| last.starts_with("--")) => {
                last.push(word);
                open = true;
            }
            _ => found.push(word.clone()),
        }
    }
    found
}

/// What `--root-dir` says among the words.
fn root_dir(words: &[OsString]) -> RootDir {
    const OPTION: &str = "--root-dir";
    let mut words = words.iter().skip(1);
    let mut found = PathBuf::from("/");
    while let Some(word) = words.next() {
        let word = word.to_string_lossy();
        if word == OPTION {
            found = words.next().map(PathBuf::from).unwrap_or(found);
        } else if let Some(dir) = word.strip_prefix(OPTION).and_then(|rest| rest.strip_prefix('=')) {
            found = PathBuf::from(dir);
        }
    }
    RootDir::new(found)
}

/// The command, and those below it, with candidates for the arguments that are
/// names.
fn offering(command: Command, path: &[String], root: &RootDir) -> Command {
    let command = command.mut_args(|argument| match names(path, &argument) {
        Some(names) => {
            let root = root.clone();
            argument.add(ArgValueCandidates::new(move || offered(names, &root)))
        }
        None => argument,
    });
    command.mut_subcommands(|below| {
        let path = [path, &[below.get_name().to_string()]].concat();
        offering(below, &path, root)
    })
}

/// What an argument of the command at `path` names.
fn names(path: &[String], argument: &Arg) -> Option<Names> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (path.as_slice(), argument.get_id().as_str()) {
        (["vpc", "create"] | ["subnet", "add"], "name") => None,
        (["vm", ..], "name" | "vm") => Some(Names::Vm),
        (["app", ..], "name" | "app") => Some(Names::App),
        (["vpc", ..], "name") | (_, "vpc" | "vpc1" | "vpc2" | "network") => Some(Names::Network),
        (["subnet", ..], "name") | (_, "subnet" | "from_subnet" | "to_subnet") => Some(Names::Subnet),
        (["rollback"], "number") | (["diff"] | ["prove", "diff"], "old" | "new") => Some(Names::Generation),
        (["explain"], "from" | "to") | (["prove"], "why") | (["prove", "reaches"], "target") => {
            Some(Names::End)
        }
        // A file's place is the shell's to complete.
        (_, "policy") if !is_file(argument) => Some(Names::Policy),
        _ => None,
    }
}

fn is_file(argument: &Arg) -> bool {
    argument.get_value_names().into_iter().flatten().any(|name| name.as_str() == "FILE")
}

fn offered(names: Names, root: &RootDir) -> Vec<CompletionCandidate> {
    let defined = || DefinedNames::read(root);
    let found: Vec<String> = match names {
        Names::Vm => defined().vms.into_iter().collect(),
        Names::App => defined().apps.into_iter().collect(),
        Names::Network => defined().networks.into_iter().collect(),
        Names::Subnet => defined().subnets.into_iter().collect(),
        Names::Policy => defined().policies.into_iter().collect(),
        Names::Generation => {
            let numbers = generation_numbers(root).unwrap_or_default();
            numbers.iter().map(ToString::to_string).collect()
        }
        Names::End => {
            let defined = defined();
            let others = ["internet", "host"].map(String::from);
            [defined.vms, defined.networks].into_iter().flatten().chain(others).collect()
        }
    };
    let candidate =
        |name: &String| CompletionCandidate::new(OsStr::new(name)).id(Some(format!("{OURS}{name}")));
    found.iter().map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn words_that_bash_took_apart_are_one() {
        assert_eq!(
            joined(&words(&["hostctl", "nat", "--vpc", "=", "sh"])),
            words(&["hostctl", "nat", "--vpc=sh"])
        );
        assert_eq!(joined(&words(&["hostctl", "--vpc", "="])), words(&["hostctl", "--vpc="]));
        assert_eq!(joined(&words(&["=", "x", "=", "y"])), words(&["=", "x", "=", "y"]));
    }

    #[test]
    fn the_root_directory_is_among_the_words() {
        let path = |list: &[&str]| root_dir(&words(list)).path().to_path_buf();
        assert_eq!(path(&["hostctl", "vm", "up", ""]), PathBuf::from("/"));
        assert_eq!(path(&["hostctl", "--root-dir", "/x", "vm"]), PathBuf::from("/x"));
        assert_eq!(path(&["hostctl", "--root-dir=/x", "vm"]), PathBuf::from("/x"));
    }

    /// Every place of a name is known as one: who adds a command thinks of it.
    #[test]
    fn places_of_names_have_candidates() {
        fn walk(command: &Command, path: &[String], found: &mut Vec<String>) {
            for argument in command.get_arguments() {
                if names(path, argument).is_some() {
                    found.push(format!("{} {}", path.join(" "), argument.get_id()));
                }
            }
            for below in command.get_subcommands() {
                walk(below, &[path, &[below.get_name().to_string()]].concat(), found);
            }
        }
        let mut found = Vec::new();
        walk(&Arguments::command(), &[], &mut found);
        for place in [
            "vm up name",
            "vm down name",
            "vm console name",
            "vpc show name",
            "vpc delete name",
            "vpc exec vpc",
            "vpc exec subnet",
            "subnet add vpc",
            "subnet delete name",
            "nat enable vpc",
            "peer create vpc2",
            "firewall apply subnet",
            "rollback number",
            "diff old",
            "explain from",
            "prove why",
            "prove diff new",
            "prove reaches target",
            "app stop name",
            "test connectivity from_subnet",
        ] {
            assert!(found.iter().any(|other| other == place), "{place}: {found:#?}");
        }
    }
}
