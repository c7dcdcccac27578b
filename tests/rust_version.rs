//! The oldest Rust that builds hostctl is the one that Cargo.toml and the
//! documents name. That the source asks nothing newer of the standard library
//! is clippy's to say (`incompatible_msrv`, by the same `rust-version`).

use std::path::Path;
use std::process::Command;

use crate::support::docs_support::page;

/// `1.89` and `1.89.0` as numbers that compare.
fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn no_dependency_asks_for_a_newer_rust() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--offline", "--locked", "--all-features"];
    // The compiler beside it, wherever PATH leads: cargo asks it for the platform.
    let rustc = Path::new(&cargo).with_file_name("rustc");
    let output = Command::new(&cargo)
        .env("RUSTC", rustc)
        .args(arguments)
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "{}", packages.len());
    let newer: Vec<String> = packages
        .iter()
        .filter_map(|package| Some((package, package["rust_version"].as_str()?)))
        .filter(|(_, wanted)| version(wanted) > version(env!("CARGO_PKG_RUST_VERSION")))
        .map(|(package, wanted)| format!("{} wants {wanted}", package["id"]))
        .collect();
    assert!(newer.is_empty(), "{newer:?}");
}

#[test]
fn the_documents_name_it() {
    for path in ["README.md", "docs/getting-started.md"] {
        let wanted = format!("Rust {}", env!("CARGO_PKG_RUST_VERSION"));
        let words = page(path).text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&wanted), "{path} doesn't say {wanted}");
    }
}
