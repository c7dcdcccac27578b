//! The object that is committed is what its source compiles to.

use std::process::Command;

use hostctl::guard::Program;

use crate::support::docs_support::top;

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn build(clang: &str, strip: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("guard.bpf.o");
    let built = Command::new(top().join("bpf/build.sh"))
        .arg(&to)
        .envs([("CLANG", clang), ("LLVM_STRIP", strip)])
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    std::fs::read(to).unwrap()
}

/// With the compiler that it was made with, it is the same to the last byte.
/// Another makes other instructions of the source; they have to give the same verdicts.
#[test]
fn the_object_is_its_sources() {
    if has("clang-14") && has("llvm-strip-14") {
        let committed = std::fs::read(top().join("bpf/guard.bpf.o")).unwrap();
        assert!(
            build("clang-14", "llvm-strip-14") == committed,
            "run `make guard` and commit bpf/guard.bpf.o"
        );
        return;
    }
    eprintln!("not compared: there is no clang 14 (Debian 12), with which bpf/guard.bpf.o was made");
    super::every_kind(Program::load_object(&build("clang", "llvm-strip")).unwrap());
}

/// The source can't read it from Rust's.
#[test]
fn the_source_and_the_rules_mean_the_same_bit() {
    let source = std::fs::read_to_string(top().join("bpf/guard.bpf.c")).unwrap();
    let bit = format!("#define GUARDED {:#010x}\n", hostctl::ownership::GUARDED);
    assert!(source.contains(&bit), "{bit}");
}
