//! Holds the source to ARCHITECTURE.md: the order of the rooms, siblings that
//! don't know each other, leaves that know no room, decisions without effects.

use crate::support::docs_support::top;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hostctl::firewall::Set;
use strum::IntoEnumIterator;

/// The rooms, in the order in which a spec travels through them. Those of one
/// row are siblings. What makes TAPs is beside reach: it takes the names of
/// interfaces as the spec types them.
const ROOMS: [&[&str]; 6] = [
    &["spec"],
    &["topology"],
    &["reach", "tap"],
    &["app", "firewall", "link", "prove", "vm", "webserver"],
    &["host"],
    &["cli"],
];

/// Files that decide: no process, no file, no socket, no clock.
const PURE: [&str; 23] = [
    "ownership.rs",
    "packet.rs",
    "packet",
    "topology",
    "reach",
    "spec/model",
    "firewall/desired",
    "firewall/tracked/flows.rs",
    "firewall/live/difference.rs",
    "link/desired.rs",
    "link/neighbours.rs",
    "link/plan.rs",
    "vm/state.rs",
    "vm/pending.rs",
    "supervise/backoff.rs",
    "supervise/lifecycle.rs",
    "app/record.rs",
    "host/apply/changes.rs",
    "host/apply/current.rs",
    "host/apply/plan.rs",
    "host/apply/surroundings.rs",
    "host/audit/drift.rs",
    "host/audit/link_drift.rs",
];

/// Every Rust file of src/ that isn't tests alone, by its path below it.
fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![top().join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.to_str().unwrap().ends_with("tests.rs")
            {
                let below = path.strip_prefix(top().join("src")).unwrap().to_owned();
                found.insert(below, code(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 200, "{} files", found.len());
    found
}

/// The text without comments and tests of its own.
fn code(text: &str) -> String {
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text.get(..tests).unwrap().lines();
    lines.map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The first word of a file's path: its room, or the leaf that it is.
fn room(path: &Path) -> String {
    path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").into()
}

/// The modules of the crate's root that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "hostctl::"] {
        for (at, _) in text.match_indices(root) {
            let word = text.get(..at).unwrap();
            if word.ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':') {
                continue;
            }
            let rest = text.get(at + root.len()..).unwrap();
            match rest.strip_prefix('{') {
                None => found.extend(first_word(rest)),
                Some(group) => found.extend(parts(group).iter().filter_map(|part| first_word(part))),
            }
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let word: String =
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// What a group of imports lists, up to its end, whatever is nested in it.
fn parts(group: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in group.chars() {
        match letter {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(letter),
        }
    }
    parts
}

fn place(room: &str) -> Option<usize> {
    ROOMS.iter().position(|row| row.contains(&room))
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::spec::Name; use crate::{link::{self, vm}, shown}; hostctl::vm::x(); mycrate::no(); \
                super::crate_::no()";
    assert_eq!(named(text).into_iter().collect::<Vec<_>>(), ["link", "shown", "spec", "vm"]);
    assert_eq!(named(&code("// crate::host::x\n#[cfg(test)]\nmod tests { crate::host }")), BTreeSet::new());
}

#[test]
fn no_room_imports_one_that_comes_later_and_no_leaf_a_room() {
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for (path, text) in sources() {
        let from = room(&path);
        if ["main", "lib", "testbed"].contains(&from.as_str()) {
            continue;
        }
        for to in named(&text).into_iter().filter(|to| *to != from) {
            let Some(later) = place(&to) else { continue };
            arrows += 1;
            match place(&from) {
                Some(here) if later < here => {}
                Some(_) => wrong.push(format!("{}: {from} comes before, or beside, {to}", path.display())),
                None => wrong.push(format!("{}: {from} is a leaf and imports {to}", path.display())),
            }
        }
    }
    assert!(arrows > 100, "{arrows} imports were found");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn what_decides_touches_nothing() {
    const EFFECTS: [&str; 11] = [
        "std::fs",
        "std::net::Tcp",
        "std::os::unix::net",
        "std::process",
        "std::thread",
        "tokio::",
        "rustix::",
        "Instant::now",
        "SystemTime::now",
        "std::env",
        "nft::",
    ];
    let sources = sources();
    let mut wrong = Vec::new();
    for pure in PURE {
        let mut files = sources.iter().filter(|(path, _)| path.starts_with(pure)).peekable();
        assert!(files.peek().is_some(), "{pure} isn't there");
        for (path, text) in files {
            let effects = EFFECTS.iter().filter(|effect| text.contains(*effect));
            wrong.extend(effects.map(|effect| format!("{}: {effect}", path.display())));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// A mark that is written in two places is one that a rename leaves behind.
#[test]
fn what_marks_hostctls_own_is_written_in_one_place() {
    let marks = [
        "0x686f",
        "26735",
        "0x7000_0000",
        "0x0100_0000",
        "0x0400_0000",
        "\"HOSTCTL_APP\"",
        "\"br-\"",
        "\"vm-\"",
        "\"ns-\"",
        "hostctl:network:",
        "hostctl:vm:",
        "hostctl:namespace:",
        "guest=hostctl:",
        "hostctl-vm@",
        "inet hostctl",
        "bridge hostctl",
        "} hostctl {",
        "table == \"hostctl\"",
        "== b\"hostctl\"",
        "b\"hostctl\\0",
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| room(path) != "testbed") {
        let found = marks.iter().filter(|mark| text.contains(**mark));
        let found: Vec<_> = found.map(|mark| format!("{}: {mark}", path.display())).collect();
        match room(path).as_str() {
            "ownership" => assert!(found.len() >= 10, "{found:?}"),
            _ => wrong.extend(found),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn sets_of_the_ruleset_are_named_in_one_place() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // What the template says of a part of the ports is called so too.
        let others = ["firewall/desired/set.rs", "firewall/desired/ports.rs"];
        let asks = ["firewall", "host", "link"].contains(&room(&path).as_str());
        if !asks || others.iter().any(|other| path == Path::new(other)) {
            continue;
        }
        for set in Set::iter() {
            let literals = [format!("\"{}\"", set.name()), format!("@{}", set.name())];
            let found = literals.iter().filter(|literal| text.contains(*literal));
            wrong.extend(found.map(|literal| format!("{}: {literal}", path.display())));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// What is written otherwise than by whole_file, and why that is right there.
const OTHER_WRITERS: [(&str, &str); 14] = [
    ("app/cgroup.rs", "the kernel's files: a value each"),
    ("bounded/log.rs", "logs: what can't be written is lost"),
    ("bounded/mod.rs", "logs: what can't be written is lost"),
    ("confine/room.rs", "what is mounted over, in a room that ends with its program"),
    ("guarded_file.rs", "opens disks for QEMU, makes none"),
    ("host/kept/drop_in.rs", "a second name, for one that whole_file moves back"),
    ("host/kept/lock.rs", "a lock: it has to be the file that the last one locked"),
    ("host/look/doctor.rs", "a device"),
    ("link/namespace.rs", "what a namespace is mounted over"),
    ("link/sysctl.rs", "the kernel's files: a value each"),
    ("supervise/runtime_dir.rs", "a lock: it has to be the file that the last one locked"),
    ("tap.rs", "a device"),
    ("vm/qemu/accel.rs", "a device"),
    ("vm/qemu/card.rs", "a device"),
];

#[test]
fn files_that_somebody_reads_later_are_written_in_one_way() {
    const WAYS: [&str; 14] = [
        "fs::write",
        "fs::rename",
        "fs::copy",
        "fs::hard_link",
        "renameat",
        "File::create",
        ".write(true)",
        ".append(true)",
        ".create(true)",
        ".create_new(",
        "O_CREAT",
        "OFlags::CREATE",
        "OFlags::WRONLY",
        "OFlags::RDWR",
    ];
    let sources = sources();
    let writes = |path: &Path| sources[path].split_whitespace().collect::<String>();
    let writers: BTreeSet<&Path> = sources
        .keys()
        .map(PathBuf::as_path)
        .filter(|path| room(path) != "testbed" && WAYS.iter().any(|way| writes(path).contains(way)))
        .collect();
    let mut known: BTreeSet<&Path> = OTHER_WRITERS.iter().map(|(path, _)| Path::new(*path)).collect();
    known.insert(Path::new("whole_file.rs"));
    assert_eq!(writers, known);
}

#[test]
fn the_architecture_names_every_room_and_leaf() {
    let text = fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    let rooms: BTreeSet<String> = sources().keys().map(|path| room(path)).collect();
    for row in ROOMS.iter().flat_map(|row| row.iter()) {
        assert!(rooms.contains(*row), "src/{row} isn't there");
    }
    let missing: Vec<_> = rooms
        .iter()
        .filter(|room| !["main", "lib"].contains(&room.as_str()))
        .filter(|room| !text.contains(&format!("(src/{room}")))
        .collect();
    assert_eq!(missing, Vec::<&String>::new(), "ARCHITECTURE.md has a link to each");
}

#[test]
fn the_topology_is_no_file_format() {
    let serialized =
        sources().into_iter().filter(|(path, text)| room(path) == "topology" && text.contains("serde"));
    let found: Vec<_> = serialized.map(|(path, _)| path).collect();
    assert_eq!(
        found,
        Vec::<PathBuf>::new(),
        "what is written to disk has records of its own, what is printed a view"
    );
}
