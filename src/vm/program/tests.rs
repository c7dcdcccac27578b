//! Programs against an agent that is this machine itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Does what qemu-ga does, here.
#[derive(Default)]
struct Here {
    programs: BTreeMap<i64, Child>,
    files: BTreeMap<i64, File>,
    next: i64,
}

fn refused(error: std::io::Error) -> VmError {
    VmError::Refused { peer: PEER, message: error.to_string() }
}

impl Agent for Here {
    fn call(&mut self, call: &GuestCall) -> Result<Value, VmError> {
        self.next += 1;
        let gone = || VmError::Refused { peer: PEER, message: "no such handle".into() };
        Ok(match call {
            GuestCall::Start { path, args, capture } => {
                let out = if *capture { Stdio::piped() } else { Stdio::null() };
                let mut command = Command::new(path);
                command.args(args).stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
                self.programs.insert(self.next, command.spawn().map_err(refused)?);
                json!({ "pid": self.next })
            }
            GuestCall::Status { pid } => {
                let child = self.programs.get_mut(pid).ok_or_else(gone)?;
                match child.try_wait().map_err(refused)? {
                    None => json!({ "exited": false }),
                    Some(status) => {
                        let mut text = Vec::new();
                        if let Some(mut out) = child.stdout.take() {
                            out.read_to_end(&mut text).map_err(refused)?;
                        }
                        json!({ "exited": true, "exitcode": status.code(), "out-data": BASE64.encode(text) })
                    }
                }
            }
            GuestCall::Open { path, write } => {
                let file = if *write { File::create(path) } else { File::open(path) };
                self.files.insert(self.next, file.map_err(refused)?);
                json!(self.next)
            }
            GuestCall::Read { handle, count } => {
                let mut bytes = vec![0; *count as usize];
                let file = self.files.get_mut(handle).ok_or_else(gone)?;
                let length = file.read(&mut bytes).map_err(refused)?;
                bytes.truncate(length);
                json!({ "count": length, "buf-b64": BASE64.encode(&bytes), "eof": length < *count as usize })
            }
            GuestCall::Write { handle, data } => {
                let bytes = BASE64.decode(data).unwrap();
                self.files.get_mut(handle).ok_or_else(gone)?.write_all(&bytes).map_err(refused)?;
                json!({ "count": bytes.len(), "eof": false })
            }
            GuestCall::Close { handle } => {
                self.files.remove(handle).ok_or_else(gone)?;
                json!({})
            }
        })
    }
}

struct Ran {
    code: u8,
    out: Vec<u8>,
    err: Vec<u8>,
    directory: String,
}

/// Runs a program to its end, with that input.
fn run(command: &[&str], mut input: &[u8], terminal: Option<&Terminal>) -> Ran {
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let mut program = Program::start(Here::default(), &command, terminal).unwrap().ok().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut over = false;
    let begun = Instant::now();
    loop {
        while !over && program.takes_input().unwrap() {
            let (piece, rest) = input.split_at(input.len().min(INPUT_MAX));
            program.give(piece).unwrap();
            (input, over) = (rest, piece.is_empty());
        }
        let any = program
            .read(&mut |output, bytes| {
                match output {
                    Output::Stdout => out.extend_from_slice(bytes),
                    Output::Stderr => err.extend_from_slice(bytes),
                }
                Ok(())
            })
            .unwrap();
        if let Some(code) = program.ended().unwrap() {
            return Ran { code, out, err, directory: program.directory };
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{command:?}");
        if !any {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn streams_codes_and_arguments_are_the_programs() {
    let ran = run(&["sh", "-c", "echo out; echo err >&2; exit 7"], b"", None);
    assert_eq!((ran.code, &*ran.out, &*ran.err), (7, &b"out\n"[..], &b"err\n"[..]));
    assert!(!std::path::Path::new(&ran.directory).exists(), "{}", ran.directory);
    assert_eq!(run(&["cat"], b"\0\xff\r\n\x1b", None).out, b"\0\xff\r\n\x1b");
    let odd = ["printf", "%s.", "a b", "$(reboot)", "'\"\\", "", "-n", "*"];
    assert_eq!(run(&odd, b"", None).out, b"a b.$(reboot).'\"\\..-n.*.");
    assert_eq!(run(&["no-such-program-anywhere"], b"", None).code, 127);
    assert_eq!(run(&["sh", "-c", "kill -KILL $$"], b"", None).code, 137);
    assert_eq!(run(&["true"], &vec![b'x'; 200_000], None).code, 0);
}

#[test]
fn streams_are_as_long_as_they_are() {
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let ran = run(&["sh", "-c", "tee /dev/stderr"], &input, None);
    assert!(ran.code == 0 && ran.out == input && ran.err == input);
}

#[test]
fn who_isnt_read_waits_and_fills_nothing() {
    let command = ["sh", "-c", "yes | head -c 20000000"].map(str::to_owned);
    let mut program = Program::start(Here::default(), &command, None).unwrap().ok().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let lying: u64 = std::fs::read_dir(&program.directory)
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .sum();
    assert!(lying <= 18 * PIECE_MAX as u64, "{lying}");
    let mut total = 0;
    while program.ended().unwrap().is_none() {
        program
            .read(&mut |_, bytes| {
                total += bytes.len();
                Ok(())
            })
            .unwrap();
    }
    assert_eq!(total, 20_000_000);
}

/// Reads until the program has ended, and calls `once` as soon as it said `word`.
fn after(mut program: Program<Here>, word: &str, once: impl FnOnce(&mut Program<Here>)) -> (u8, String) {
    let (mut out, mut once, begun) = (Vec::new(), Some(once), Instant::now());
    loop {
        program
            .read(&mut |_, bytes| {
                out.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
        let said = String::from_utf8_lossy(&out).into_owned();
        if said.contains(word)
            && let Some(once) = once.take()
        {
            once(&mut program);
        }
        if let Some(code) = program.ended().unwrap() {
            return (code, said);
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{said:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn start_here(command: &[&str], terminal: Option<&Terminal>) -> Program<Here> {
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    Program::start(Here::default(), &command, terminal).unwrap().ok().unwrap()
}

/// A shell's script that says `ready` and then waits to be interrupted. The shell
/// runs its trap once its child, which hears of it too, is gone; one that it
/// starts after the signal came would hear of nothing, so the child says it.
fn trapping(trap: &str) -> String {
    format!("trap '{trap}' INT; sh -c 'echo ready; exec sleep 100'")
}

#[test]
fn signals_reach_the_program_and_what_it_started() {
    let program = start_here(&["sh", "-c", &trapping("echo int; exit 5")], None);
    let (code, said) = after(program, "ready", |program| program.signal("INT").unwrap());
    assert!(code == 5 && said.ends_with("int\n"), "{code} {said:?}");
    let program = start_here(&["sh", "-c", "echo ready; exec sleep 100"], None);
    assert_eq!(after(program, "ready", |program| program.signal("TERM").unwrap()).0, 143);
}

#[test]
fn a_terminal_is_one() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: there is no program `script` to make a terminal with");
        return;
    }
    let terminal = Terminal { term: "vt100".into(), size: Some(Size { rows: 33, columns: 77 }) };
    let script = "test -t 0 && test -t 1 && stty size; echo $TERM; read x; echo got $x; exit 3";
    let ran = run(&["sh", "-c", script], b"it's\n", Some(&terminal));
    let text = String::from_utf8_lossy(&ran.out).into_owned();
    assert!(text.contains("33 77\r\n") && text.contains("vt100\r\n"), "{text:?} {:?}", ran.err);
    assert!(text.contains("got it's\r\n") && ran.code == 3, "{text:?} {}", ran.code);
    // Ctrl-C interrupts the program and not the shell that it is in.
    let program = start_here(&["sh", "-c", &trapping("echo caught; exit 9")], Some(&terminal));
    let (code, said) = after(program, "ready", |program| program.give(b"\x03").unwrap());
    assert!(said.contains("caught") && code == 9, "{said:?} {code}");
    let program = start_here(&["sh", "-c", "echo ready; read x; stty size"], Some(&terminal));
    let (_, said) = after(program, "ready", |program| {
        program.resize(Size { rows: 11, columns: 99 }).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        program.give(b"\n").unwrap();
    });
    assert!(said.contains("11 99"), "{said:?}");
}

#[test]
fn where_there_is_no_shell_nothing_is_started() {
    struct Bare;
    impl Agent for Bare {
        fn call(&mut self, _: &GuestCall) -> Result<Value, VmError> {
            Err(VmError::Refused { peer: PEER, message: "no such file".into() })
        }
    }
    assert!(Program::start(Bare, &["x".into()], None).unwrap().is_err());
}

/// Says whatever it likes.
struct Liar(Vec<Value>);

impl Agent for Liar {
    fn call(&mut self, call: &GuestCall) -> Result<Value, VmError> {
        match (call, self.0.pop()) {
            (_, None) => Err(VmError::Refused { peer: PEER, message: "no more".into() }),
            (_, Some(value)) => Ok(value),
        }
    }
}

fn lie() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(|pid| json!({ "pid": pid })),
        any::<i64>().prop_map(|code| json!({ "exited": true, "exitcode": code, "signal": code })),
        any::<Vec<u8>>().prop_map(|bytes| json!({ "buf-b64": BASE64.encode(bytes), "eof": true })),
        "[0-9]{0,20}".prop_map(|text| json!({ "buf-b64": BASE64.encode(text), "eof": true })),
        Just(json!({ "buf-b64": "%", "eof": false })),
        Just(Value::Null),
    ]
}

proptest! {
    #[test]
    fn a_lying_guest_ends_nothing_but_its_own_program(lies in proptest::collection::vec(lie(), 0..60)) {
        let mut program = Program {
            agent: Liar(lies),
            directory: "/run/x".into(),
            pid: 1,
            taken: [0; 2],
            given: 0,
            oldest: 0,
            ended: false,
            heartbeat: Instant::now(),
        };
        for _ in 0..10 {
            let mut longest = 0;
            let _ = program.read(&mut |_, bytes| { longest = longest.max(bytes.len()); Ok(()) });
            prop_assert!(longest <= 2 * PIECE_MAX);
            let _ = program.takes_input();
            let _ = program.give(b"x");
            let _ = program.ended();
        }
    }
}
