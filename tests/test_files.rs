//! No test is forgotten: with one program, a file that no `mod` names would
//! not be compiled, and its tests would never fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The Rust files below a directory.
fn rust_files(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
}

/// The modules that a file names on lines of their own, always: neither by
/// another path nor under a condition. One outside of `tests` is none of them.
fn modules(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut before = "";
    for line in text.lines() {
        let declared = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ");
        if let Some(name) = declared.and_then(|rest| rest.strip_suffix(';')) {
            if before.starts_with("#[path = \"../benches/") {
                continue;
            }
            assert!(!before.starts_with("#["), "mod {name} has an attribute: {before}");
            found.push(name);
        }
        before = line;
    }
    found
}

/// Follows the `mod`s of a file, whose own modules are in `directory`.
fn follow(file: PathBuf, directory: &Path, reached: &mut BTreeSet<PathBuf>) {
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for name in modules(&text) {
        let below = directory.join(name);
        let plain = directory.join(format!("{name}.rs"));
        follow(if plain.exists() { plain } else { below.join("mod.rs") }, &below, reached);
    }
    reached.insert(file);
}

/// The files below `tests` that its main.rs doesn't lead to.
fn forgotten(tests: &Path) -> Vec<PathBuf> {
    let (mut all, mut reached) = (BTreeSet::new(), BTreeSet::new());
    rust_files(tests, &mut all);
    follow(tests.join("main.rs"), tests, &mut reached);
    all.difference(&reached).cloned().collect()
}

#[test]
fn every_file_of_tests_is_a_module() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let forgotten = forgotten(&tests);
    assert!(
        forgotten.is_empty(),
        "no mod names {forgotten:?}: name it in tests/main.rs, or in its folder's mod.rs"
    );
}

#[test]
fn a_file_that_no_mod_names_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    write("main.rs", "//! All.\n\nmod apply;\npub mod nested;\n// mod lost;\n");
    write("apply.rs", "fn no_module() {}\n");
    write("nested/mod.rs", "mod deep;\n");
    write("nested/deep.rs", "");
    assert_eq!(forgotten(directory.path()), [] as [PathBuf; 0]);
    let lost = [write("lost.rs", ""), write("nested/deep/lost.rs", ""), write("unnamed/main.rs", "")];
    assert_eq!(forgotten(directory.path()), lost);
}
