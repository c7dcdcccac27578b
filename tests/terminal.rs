//! What somebody at a terminal sees: tables that fit, colour for what matters,
//! progress on one line, help in groups. Through a real pseudo-terminal.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::lab::Lab;
use crate::support::spec_parts::{idle_vms, network4};
use hostctl::testbed::Options;
use rustix::termios::Winsize;

const ERASE: &str = "\x1b[2K";

/// Runs hostctl at a terminal of so many columns.
struct Terminal<'a> {
    root: &'a Path,
    columns: u16,
    environment: Vec<(&'a str, &'a str)>,
}

impl<'a> Terminal<'a> {
    fn new(root: &'a Path, columns: u16) -> Self {
        Self { root, columns, environment: vec![("TERM", "xterm-256color")] }
    }

    fn with(mut self, key: &'a str, value: &'a str) -> Self {
        self.environment.push((key, value));
        self
    }

    /// What the terminal got, and the exit code.
    fn run(&self, arguments: &[&str]) -> (String, Option<i32>) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        let size = Winsize { ws_row: 24, ws_col: self.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command
            .arg("--root-dir")
            .arg(self.root)
            .args(arguments)
            .env_remove("NO_COLOR")
            .env_remove("COLUMNS")
            .envs(self.environment.iter().copied())
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave));
        let mut child = command.spawn().unwrap();
        // Its ends of the terminal are the child's alone from here on.
        drop(command);
        let mut bytes = Vec::new();
        // Linux says EIO once nobody has the other end.
        _ = File::from(master).read_to_end(&mut bytes);
        (String::from_utf8(bytes).unwrap().replace("\r\n", "\n"), child.wait().unwrap().code())
    }
}

/// Without what a terminal takes for itself.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

fn networks(count: usize) -> String {
    (1..=count)
        .map(|number| format!("[networks.tenant-{number:02}]\ncidr = \"10.{number}.0.0/24\"\n"))
        .collect()
}

fn fits(text: &str, columns: usize) {
    for line in plain(text).lines() {
        assert!(line.chars().count() <= columns, "{columns} columns: {line:?}\n{text}");
    }
}

#[test]
fn a_matrix_fits_the_terminal() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("host.toml");
    let file = file.to_str().unwrap();
    for (count, columns) in [(2, 80), (12, 80), (40, 80), (12, 40)] {
        std::fs::write(file, networks(count)).unwrap();
        let (text, code) = Terminal::new(root.path(), columns).run(&["matrix", file]);
        assert_eq!(code, Some(0), "{text}");
        fits(&text, columns.into());
        for number in 1..=count {
            assert!(text.contains(&format!("tenant-{number:02}")), "{text}");
        }
        // Twelve are one look.
        let tables = plain(&text).lines().filter(|line| line.starts_with("from \\ to")).count();
        assert!(tables == 1 || count > 12 || columns < 80, "{text}");
    }
    // Elsewhere it is what programs read, whatever the width.
    let output = Command::new(env!("CARGO_BIN_EXE_hostctl")).args(["matrix", file]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().next().unwrap().ends_with("tenant-12  internet  host      imds"), "{text}");
}

#[test]
fn colours_are_for_terminals_and_whoever_wants_them() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("host.toml");
    let file = file.to_str().unwrap();
    let wider = root.path().join("wider.toml");
    let wider = wider.to_str().unwrap();
    let guests: String = ["01", "02"]
        .map(|at| format!("[vms.g{at}]\nnetwork = \"tenant-{at}\"\nimage = \"probe\"\n"))
        .concat();
    let spec = networks(2) + &guests;
    std::fs::write(file, &spec).unwrap();
    let peering = "[[peerings]]\nbetween = [\"tenant-01\", \"tenant-02\"]\n";
    std::fs::write(wider, spec + peering).unwrap();
    let commands: [(&[&str], &str); 4] = [
        (&["matrix", file], "\x1b[1;31m-\x1b[0m"),
        (&["diff", file, wider], "\x1b[1;31m+ OPENS \x1b[0m"),
        (&["explain", "g01", "g02", "--port", "80", file], "\x1b[1;31mDROP\x1b[0m"),
        (&["check", "nowhere.toml"], "\x1b["),
    ];
    for (arguments, painted) in commands {
        let coloured = Terminal::new(root.path(), 80).run(arguments).0;
        assert!(coloured.contains(painted), "{arguments:?}: {coloured:?}");
        for (key, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let text = Terminal::new(root.path(), 80).with(key, value).run(arguments).0;
            assert!(!text.contains("\x1b["), "{key}: {arguments:?}: {text:?}");
        }
        let output = Command::new(env!("CARGO_BIN_EXE_hostctl")).args(arguments).output().unwrap();
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{arguments:?}");
    }
}

const SPEC: &str = concat!(network4!("shop" 1), network4!("lab" 2), idle_vms!("web" in "shop"),);

#[test]
fn an_apply_is_one_line_and_a_summary() {
    let lab = Lab::new(Options::default());
    let file = lab.root_dir().join("host.toml");
    std::fs::write(&file, SPEC).unwrap();
    let file = file.to_str().unwrap();
    let run =
        |terminal: Terminal<'_>, arguments: &[&str]| lab.world.hypervisor.run(|| terminal.run(arguments));
    let terminal = || Terminal::new(lab.root_dir(), 72);

    let (text, code) = run(terminal(), &["apply", file]);
    assert_eq!(code, Some(0), "{text}");
    // What stays to be read once the line is gone.
    let left: Vec<String> = plain(text.rsplit('\r').next().unwrap()).lines().map(str::to_string).collect();
    assert_eq!(left[0], "  firewall    loaded", "{text:?}");
    assert!(left.contains(&"  bridges     added br-lab, br-shop".to_string()), "{left:#?}");
    assert!(left.contains(&"  ports       added vm-web".to_string()), "{left:#?}");
    assert!(left.last().unwrap().starts_with("done: "), "{left:#?}");
    assert!(text.contains(ERASE) || text.contains("\r"), "{text:?}");
    for part in plain(&text).split(['\n', '\r']) {
        assert!(part.chars().count() <= 72, "{part:?}");
    }

    // An unchanged host has nothing to sum up.
    let (text, _) = run(terminal(), &["apply", file]);
    assert_eq!(plain(&text).trim(), "nothing to do");
    // Who wants the commands gets them.
    let (text, code) = run(terminal(), &["down", "-v"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("] ip link del br-shop\n") && !text.contains("  bridges "), "{text}");
    let (text, _) = run(terminal().with("NO_COLOR", "1"), &["apply", "--verbose", file]);
    assert!(text.contains("\n[ 2/") && !text.contains('\x1b'), "{text:?}");

    // Elsewhere nothing is different.
    let output = lab.world.hypervisor.run(|| {
        Command::new(env!("CARGO_BIN_EXE_hostctl"))
            .arg("--root-dir")
            .arg(lab.root_dir())
            .arg("down")
            .output()
            .unwrap()
    });
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(out.starts_with("done: ") && out.lines().count() == 1, "{out}");
    assert!(err.starts_with("[1/") && !err.contains('\r') && !err.contains('\x1b'), "{err}");
}

#[test]
fn a_failed_apply_leaves_its_error_on_a_line_of_its_own() {
    let lab = Lab::new(Options::default());
    let file = lab.root_dir().join("host.toml");
    std::fs::write(&file, SPEC).unwrap();
    lab.output("ip", &["link", "add", "br-lab", "type", "bridge"]);
    let (text, code) = lab
        .world
        .hypervisor
        .run(|| Terminal::new(lab.root_dir(), 72).run(&["apply", file.to_str().unwrap()]));
    assert_eq!(code, Some(1), "{text}");
    let last = text.rsplit('\r').next().unwrap();
    assert!(plain(last).lines().any(|line| line.starts_with("error: ")), "{text:?}");
    assert!(last.contains("\x1b[1;31merror:\x1b[0m"), "{text:?}");
    lab.output("ip", &["link", "del", "br-lab"]);
}

#[test]
fn tables_and_findings_fit_and_say_what_is_bad() {
    let lab = Lab::new(Options::default());
    let spec =
        format!("{SPEC}[vms.{}]\nnetwork = \"shop\"\nimage = \"probe\"\nautostart = false\n", "w".repeat(40));
    lab.apply(&spec);
    let run = |columns, arguments: &[&str]| {
        lab.world.hypervisor.run(|| Terminal::new(lab.root_dir(), columns).run(arguments)).0
    };
    fits(&run(60, &["vm", "list"]), 60);
    for columns in [80, 200] {
        fits(&run(columns, &["vm", "list"]), columns.into());
        fits(&run(columns, &["status"]), columns.into());
        fits(&run(columns, &["generations"]), columns.into());
    }
    lab.output("ip", &["link", "set", "br-lab", "down"]);
    lab.output("nft", &["delete", "table", "bridge", "hostctl"]);
    let text = run(80, &["audit"]);
    assert!(
        text.contains("\x1b[1;31mcritical\x1b[0m") && text.contains("\x1b[33mwarning\x1b[0m"),
        "{text:?}"
    );
    let text = run(80, &["status"]);
    assert!(text.contains("\x1b[33mdrift:\x1b[0m"), "{text:?}");
}

#[test]
fn help_is_in_groups() {
    let root = tempfile::tempdir().unwrap();
    for columns in [60, 80, 200] {
        let (text, _) = Terminal::new(root.path(), columns).run(&["-h"]);
        fits(&text, columns.into());
        let text = plain(&text);
        let groups: Vec<&str> =
            text.lines().filter(|line| line.starts_with(' ') && !line.starts_with("  ")).collect();
        assert!(groups.len() > 3, "{text}");
        for command in ["check", "apply", "audit", "vpc", "vm", "completions", "help"] {
            let times = text.lines().filter(|line| line.starts_with(&format!("  {command} "))).count();
            assert_eq!(times, 1, "{command}: {text}");
        }
    }
}
