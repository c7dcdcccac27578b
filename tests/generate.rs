//! Completions and manual pages: there is one for each command, and the same
//! program always makes the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::docs_support::cli;

fn hostctl(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hostctl")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn pages(directory: &Path) -> BTreeMap<String, String> {
    hostctl(&["man", directory.to_str().unwrap()]);
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let page = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(page).collect()
}

#[test]
fn every_command_has_a_manual_page_and_nothing_else_has() {
    let directory = tempfile::tempdir().unwrap();
    // A directory that isn't there yet is made.
    let written = pages(&directory.path().join("man/man1"));
    let name = |help: &cli::Help| format!("{}.1", help.name().replace(' ', "-"));
    let mut wanted: Vec<String> = cli::commands().iter().map(name).collect();
    wanted.sort();
    assert_eq!(written.keys().cloned().collect::<Vec<_>>(), wanted);
    let create = &written["hostctl-vpc-create.1"];
    let version = env!("CARGO_PKG_VERSION");
    let title = format!(".TH hostctl-vpc-create 1 \\& \"hostctl {version}\" hostctl\n");
    assert!(create.contains(&title), "{create}");
    assert!(create.contains("\\fBhostctl vpc create\\fR") && create.contains("\\-\\-cidr6"), "{create}");
    for (name, page) in &written {
        // See-also entries are pages that exist; there is none for `help`.
        for line in page.lines().filter(|line| line.ends_with("(1)")) {
            let other = line.replace('\\', "").replace("(1)", ".1");
            assert!(written.contains_key(&other), "{name} names {other}");
        }
    }
    assert_eq!(pages(&directory.path().join("again")), written);
}

#[test]
fn bash_completes_commands_and_options() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hostctl");
    fs::write(&file, hostctl(&["completions", "bash"])).unwrap();
    let complete = |words: &[&str]| {
        // As bash calls it: command, the word, the one before it.
        let script = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _hostctl hostctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", script, "bash"]).arg(&file).args(words);
        let output = bash.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let mut found: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_string).collect();
        found.sort();
        found
    };
    assert_eq!(complete(&["hostctl", "vp"]), ["vpc"]);
    assert_eq!(complete(&["hostctl", "vpc", "s"]), ["show"]);
    assert_eq!(complete(&["hostctl", "vpc", "create", "--c"]), ["--cidr", "--cidr6"]);
}

/// A host's files, with names in each of them.
fn named() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let file = directory.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    // Not a spec that could be applied: somebody is at work on it.
    write(
        "etc/hostctl/host.toml",
        "[networks.shop]\ncidr = \"10.1\"\n[networks.shop.subnets.db]\n[vms.web]\n[vms.worker]\n[policies.shut]\n\
         [apps.hello]\n",
    );
    write("var/lib/hostctl/host.d/commands.json", "{\"networks\": {\"lab\": {}}}");
    write("var/lib/hostctl/host.d/broken.toml", "[networks");
    write("var/lib/hostctl/generations/7.json", "{}");
    write("var/lib/hostctl/generations/12.json", "");
    directory
}

/// What the program offers for the last of these words.
fn offered(root: &Path, words: &[&str]) -> Vec<String> {
    let root = format!("--root-dir={}", root.display());
    let words: Vec<&str> = [&["complete", "--", "hostctl", &root], words].concat();
    hostctl(&words).lines().map(str::to_string).collect()
}

#[test]
fn names_are_completed() {
    let directory = named();
    let offered = |words: &[&str]| offered(directory.path(), words);
    assert_eq!(offered(&["vm", "up", ""]), ["web", "worker"]);
    assert_eq!(offered(&["vm", "logs", "wo"]), ["worker"]);
    assert_eq!(offered(&["vpc", "delete", "--name", ""]), ["lab", "shop"]);
    assert_eq!(offered(&["vpc", "delete", "--name=s"]), ["--name=shop"]);
    assert_eq!(offered(&["vpc", "delete", "--name", "=", "s"]), ["shop"], "as bash takes it apart");
    assert_eq!(offered(&["subnet", "delete", "--vpc", "shop", "--name", ""]), ["db"]);
    assert_eq!(offered(&["peer", "create", "--vpc1", "lab", "--vpc2", "s"]), ["shop"]);
    assert_eq!(offered(&["app", "stop", ""]), ["hello"]);
    assert_eq!(offered(&["rollback", ""]), ["12", "7"]);
    assert_eq!(offered(&["diff", "7", "1"]), ["12"]);
    assert_eq!(offered(&["explain", "w"]), ["web", "worker"]);
    // A new thing's name is nobody's to know, and what isn't a name is the shell's.
    for words in [
        &["vpc", "create", "--name", ""][..],
        &["vp"],
        &["vm", "up", "--"],
        &["apply", ""],
        &["firewall", "apply", "--policy", ""],
        &["nonsense", ""],
        &[],
    ] {
        assert_eq!(offered(words), [""; 0], "{words:?}");
    }
}

/// Somebody who isn't root gets what they may read, and never an error.
#[test]
fn completing_needs_no_root() {
    use std::os::unix::fs::PermissionsExt;
    let directory = named();
    let chmod = |path: &str, mode: u32| {
        fs::set_permissions(directory.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod("", 0o755);
    chmod("var/lib/hostctl", 0o700);
    // Where everybody may enter, wherever the clone lies.
    let program = directory.path().join("hostctl");
    fs::copy(env!("CARGO_BIN_EXE_hostctl"), &program).unwrap();
    chmod("hostctl", 0o755);
    let as_nobody = |words: &[&str]| {
        let root = format!("--root-dir={}", directory.path().display());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args(["complete", "--", "hostctl", &root]).args(words);
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(as_nobody(&["vpc", "delete", "--name", ""]), "shop\n");
    assert_eq!(as_nobody(&["rollback", ""]), "");
}

/// bash asks the program, and does without where there is none.
#[test]
fn bash_completes_names() {
    let directory = named();
    let root = format!("--root-dir={}", directory.path().display());
    let script = directory.path().join("script");
    fs::write(&script, hostctl(&["completions", "bash"])).unwrap();
    let complete = |program: &str, words: &[&str]| {
        let call = r#"source "$1"; program=$2; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _hostctl "$program" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", call, "bash"]).arg(&script).args([program, program]).args(words);
        let output = bash.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap()
    };
    let program = env!("CARGO_BIN_EXE_hostctl");
    assert_eq!(complete(program, &[&root, "vm", "up", ""]), "web\nworker\n");
    assert_eq!(complete(program, &["vp"]), "vpc\n");
    assert_eq!(complete("/nowhere/hostctl", &["vp"]), "vpc\n");
    assert_eq!(complete(program, &["co"]), "confirm\ncompletions\n", "and nothing that nobody types");
}

#[test]
fn every_shell_knows_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let text = hostctl(&["completions", shell]);
        for help in cli::commands() {
            for name in &help.path {
                assert!(text.contains(name.as_str()), "{shell}: no {name}");
            }
        }
        assert_eq!(text, hostctl(&["completions", shell]));
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_hostctl")).args(["completions", "sh"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn pages_that_cant_be_written_are_a_failure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hostctl")).arg("man").arg(file.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't write manual pages to"));
}
