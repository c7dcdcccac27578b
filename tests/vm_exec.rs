//! Programs in a real guest by `vm exec`: codes, streams, signals, a terminal; and
//! logs as they are shown. The guest's agent is QEMU's own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::commands::{done, json, refused, write};
use crate::support::lab::Lab;
use hostctl::testbed::Options;
use rustix::process::{Pid, Signal, kill_process};

const SPEC: &str = "[networks.a]\ncidr = \"10.1.0.0/24\"\n[vms.My_VM]\nnetwork = \"a\"\nimage = \"probe\"\n\
                    memory = \"128M\"\naccel = \"tcg\"\n";

fn guest() -> Lab {
    let lab = Lab::new(Options::default()).with_images();
    write(&lab, SPEC);
    done(&lab, &["apply"]);
    done(&lab, &["vm", "up", "My_VM"]);
    lab
}

fn command(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
    command.arg("--root-dir").arg(lab.root_dir()).args(arguments);
    command
}

/// Runs a program in the guest, with that input.
fn exec(lab: &Lab, options: &[&str], program: &[&str], input: &[u8]) -> Output {
    let arguments = [&["vm", "exec"], options, &["My_VM", "--"], program].concat();
    let mut child = command(lab, &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // One that ends without reading has no more to read.
    _ = writer.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_program_in_a_guest_is_as_one_here() {
    let lab = guest();
    // The name as a host's.
    assert_eq!(text(&exec(&lab, &[], &["hostname"], b"").stdout), "my-vm\n");
    let output = exec(&lab, &[], &["sh", "-c", "echo out; echo err >&2; exit 7"], b"");
    let said = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(said, (Some(7), "out\n".into(), "err\n".into()));
    assert_eq!(exec(&lab, &[], &["no-such-program"], b"").status.code(), Some(127));
    assert_eq!(exec(&lab, &[], &["sh", "-c", "kill -KILL $$"], b"").status.code(), Some(137));
    // Bytes are bytes where no terminal is, and as many as there are.
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let begun = Instant::now();
    let output = exec(&lab, &[], &["cat"], &bytes);
    assert!(
        output.status.success() && output.stdout == bytes,
        "{} {}",
        output.stdout.len(),
        text(&output.stderr)
    );
    eprintln!("300 kB there and back in {:?}", begun.elapsed());
    let output = exec(&lab, &["-n"], &["sh", "-c", "cat; seq 1 100000"], b"not read");
    let lines = text(&output.stdout);
    assert!(output.status.success() && lines.lines().count() == 100_000 && lines.ends_with("\n100000\n"));
    // As JSON, with the same exit code.
    let output =
        command(&lab, &["--json", "vm", "exec", "My_VM", "--", "sh", "-c", "echo hi; exit 3"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(3));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["exit_code"], &value["stdout"]), (&3.into(), &"aGkK".into()));
    // Out of time: ended there, too.
    let output = exec(&lab, &["--timeout", "2"], &["sleep", "1234"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("sleep in My_VM took longer than 2.0 s"),
        "{}",
        text(&output.stderr)
    );
    let left = text(
        &exec(&lab, &[], &["sh", "-c", "ps | grep '[s]leep 1234'; ls -d /run/hostctl-exec-* | wc -l"], b"")
            .stdout,
    );
    // The directory is this command's own.
    assert_eq!(left, "1\n");
    refused(&lab, &["vm", "exec", "nobody", "--", "true"], 1, "no supervisor answers for VM nobody");
}

/// A shell that a child's end interrupts while it opens a fifo (busybox's) never
/// started the program, and nobody was told: here the child that gives input ends
/// just then.
#[test]
fn a_program_starts_whose_input_ends_at_once() {
    let lab = guest();
    let script = include_str!("../src/vm/program/guest.sh");
    let script = script
        .replace("pump out <\"$d/o\" &", "{ sleep 2; pump out <\"$d/o\"; } &")
        .replace("feed >\"$d/i\" &", "{ sleep 1; } >\"$d/i\" &");
    assert!(script.contains("{ sleep 2; pump") && script.contains("{ sleep 1; } >"), "{script}");
    let around = "mkdir /tmp/x && touch /tmp/x/alive && timeout 15 sh -c \"$1\" hostctl /tmp/x pipes sh -c 'cat; exit 7' >/dev/null 2>&1";
    let output = exec(&lab, &[], &["sh", "-c", around, "sh", &script], b"");
    assert_eq!(output.status.code(), Some(7));
}

fn signalled(child: &mut Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn ends(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    panic!("it doesn't end");
}

/// A terminal: the end that a person has, and the program's.
fn terminal() -> (File, OwnedFd) {
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let ours = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&ours).unwrap();
    rustix::pty::unlockpt(&ours).unwrap();
    let name = rustix::pty::ptsname(&ours, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let theirs = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    let size = rustix::termios::Winsize { ws_row: 40, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&ours, size).unwrap();
    (ours.into(), theirs)
}

/// Reads a terminal until it said `wanted` after what was seen already.
fn until(screen: &mut File, seen: &mut String, wanted: &str) {
    let begun = Instant::now();
    let mut buffer = [0; 4096];
    let before = seen.len();
    while !seen[before..].contains(wanted) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no {wanted:?} in {seen:?}");
        let polled = rustix::event::PollFd::new(screen, rustix::event::PollFlags::IN);
        let limit = rustix::time::Timespec { tv_sec: 1, tv_nsec: 0 };
        if rustix::event::poll(&mut [polled], Some(&limit)).unwrap() > 0 {
            let length = screen.read(&mut buffer).unwrap();
            seen.push_str(&text(&buffer[..length]));
        }
    }
}

#[test]
fn signals_and_terminals_reach_into_the_guest() {
    let lab = guest();
    let waits =
        ["vm", "exec", "My_VM", "--", "sh", "-c", "trap 'echo term; exit 9' TERM; echo ready; sleep 1000"];
    let mut child = command(&lab, &waits).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; 6];
    stdout.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"ready\n");
    signalled(&mut child, Signal::TERM);
    assert_eq!(ends(&mut child), Some(9));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "term\n");
    let waits = ["vm", "exec", "My_VM", "--", "sh", "-c", "echo ready; exec sleep 1000"];
    let mut child = command(&lab, &waits).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut line).unwrap();
    signalled(&mut child, Signal::INT);
    assert_eq!(ends(&mut child), Some(130));

    // A shell on a terminal, which has the size of ours, and gets Ctrl-C.
    let (mut screen, theirs) = terminal();
    let copy = || Stdio::from(theirs.try_clone().unwrap());
    let mut child =
        command(&lab, &["vm", "shell", "My_VM"]).stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
    let mut seen = String::new();
    let mut typed = |line: &[u8], wanted: &str| {
        screen.write_all(line).unwrap();
        until(&mut screen, &mut seen, wanted);
    };
    typed(b"stty size; tty\r", "/dev/pts/");
    typed(b"echo a$((1+1))b\r", "a2b");
    typed(b"echo b$((1+1))c; sleep 1000\r", "b2c");
    // Whether it is shown as ^C depends on who is faster: the shell's next prompt
    // turns that off.
    typed(b"\x03", "# ");
    typed(b"echo back $((40+2))\r", "back 42");
    typed(b"exit 4\r", "exit 4");
    assert!(seen.contains("40 101"), "{seen}");
    assert_eq!(ends(&mut child), Some(4), "{seen}");
    // The terminal is as it was: what is typed is shown.
    let modes = rustix::termios::tcgetattr(&theirs).unwrap();
    assert!(
        modes.local_modes.contains(rustix::termios::LocalModes::ECHO | rustix::termios::LocalModes::ICANON)
    );
    // Without one: a script.
    let mut child = command(&lab, &["vm", "shell", "My_VM"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"echo in $(hostname)\nexit 6\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(6), "in my-vm\n".into()));
}

#[test]
fn nothing_of_a_guests_steers_a_terminal() {
    let lab = guest();
    let hostile = "printf 'one\\033[2J\\033]0;x\\007 \\302\\2331m \\342\\200\\256evil\\342\\200\\213\\n'";
    exec(&lab, &[], &["sh", "-c", &format!("{hostile} >/dev/ttyS0")], b"");
    let begun = Instant::now();
    let shown = loop {
        let shown = done(&lab, &["vm", "logs", "My_VM", "--tail", "3"]);
        if shown.contains("evil") || begun.elapsed() > Duration::from_secs(20) {
            break shown;
        }
    };
    assert!(
        shown.contains("one\u{fffd}[2J\u{fffd}]0;x\u{fffd} \u{fffd}1m <U+202E>evil<U+200B>\n"),
        "{shown:?}"
    );
    assert!(shown.lines().count() <= 3, "{shown}");
    let raw = done(&lab, &["vm", "logs", "My_VM", "--raw"]);
    assert!(raw.contains("one\u{1b}[2J\u{1b}]0;x\u{7} \u{9b}1m \u{202e}evil\u{200b}"), "{raw:?}");
    // What came since, and not what was there before.
    std::thread::sleep(Duration::from_secs(3));
    exec(&lab, &[], &["sh", "-c", "echo fresh >/dev/ttyS0"], b"");
    std::thread::sleep(Duration::from_secs(1));
    let since = done(&lab, &["vm", "logs", "My_VM", "--since", "3s"]);
    assert!(since.contains("fresh") && !since.contains("evil"), "{since:?}");
    assert!(done(&lab, &["vm", "logs", "My_VM", "--since", "1h"]).contains("evil"));
    assert!(done(&lab, &["vm", "logs", "My_VM", "--of", "supervisor", "--since", "1h"]).contains("My_VM"));
    refused(&lab, &["vm", "logs", "My_VM", "--of", "qemu", "--since", "1h"], 1, "no times");
    refused(&lab, &["vm", "logs", "My_VM", "--since", "yesterday"], 2, "10m");
    // On a terminal, output of a program is shown so, too; not with a terminal of
    // its own, and not into a pipe.
    let (mut screen, theirs) = terminal();
    let copy = || Stdio::from(theirs.try_clone().unwrap());
    let arguments = ["vm", "exec", "My_VM", "--", "sh", "-c", hostile];
    let mut child =
        command(&lab, &arguments).stdin(Stdio::null()).stdout(copy()).stderr(copy()).spawn().unwrap();
    let mut seen = String::new();
    until(&mut screen, &mut seen, "evil");
    assert_eq!(ends(&mut child), Some(0));
    assert!(!seen.contains('\u{1b}') && seen.contains("<U+202E>evil"), "{seen:?}");
    let piped = exec(&lab, &[], &["sh", "-c", hostile], b"");
    assert!(text(&piped.stdout).contains("\u{1b}[2J"));
    // JSON has the bytes, and no character that a terminal would take for more.
    let value = json(&lab, &arguments);
    assert!(value["stdout"].as_str().is_some_and(|text| text.starts_with("b25l")));
}
