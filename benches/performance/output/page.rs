//! Reports → `target/bench/*.json` → `docs/performance.md`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plot;
use crate::questions::harness::Report;

/// A report, and where it was measured.
#[derive(Serialize, Deserialize)]
struct Kept {
    machine: String,
    report: Report,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench")
}

/// Keeps what a question found.
pub fn keep(name: &str, report: &Report, machine: &str) {
    fs::create_dir_all(directory()).unwrap();
    let kept = Kept { machine: machine.into(), report: report.clone() };
    let text = serde_json::to_string_pretty(&kept).unwrap();
    fs::write(directory().join(format!("{name}.json")), text).unwrap();
}

/// Writes what is known of each question between its two markers; what
/// stands around them is written by people.
pub fn write(names: &[&str]) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let page = docs.join("performance.md");
    let mut text = fs::read_to_string(&page).unwrap();
    fs::create_dir_all(docs.join("performance")).unwrap();
    for name in names {
        let Ok(kept) = fs::read(directory().join(format!("{name}.json"))) else { continue };
        let Kept { machine, report } = serde_json::from_slice(&kept).unwrap();
        for picture in &report.plots {
            plot::draw(picture, &docs.join(format!("performance/{}.svg", picture.file)));
        }
        text = replaced(&text, name, &section(&report));
        text = replaced(&text, "machine", &format!("{machine}.\n"));
    }
    fs::write(page, text).unwrap();
}

fn replaced(text: &str, name: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- bench: {name} -->\n"), format!("<!-- end: {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin} in the page"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end} in the page"));
    format!("{before}{begin}\n{section}\n{end}{after}")
}

fn section(report: &Report) -> String {
    let mut text = String::new();
    if !report.aims.is_empty() {
        text.push_str("| aim | measured | |\n|---|---|---|\n");
        for aim in &report.aims {
            let reached = if aim.reached { "reached" } else { "**missed**" };
            writeln!(text, "| {} | {} | {reached} |", aim.wanted, aim.measured).unwrap();
        }
    }
    for table in &report.tables {
        writeln!(text, "\n{}\n\n| {} |", table.title, table.header.join(" | ")).unwrap();
        writeln!(text, "|{}", "---|".repeat(table.header.len())).unwrap();
        for row in &table.rows {
            writeln!(text, "| {} |", row.join(" | ")).unwrap();
        }
    }
    for plot in &report.plots {
        writeln!(text, "\n![{}](performance/{}.svg)", plot.title, plot.file).unwrap();
    }
    text
}
