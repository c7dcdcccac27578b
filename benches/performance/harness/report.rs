//! What a question found, as data.

use serde::{Deserialize, Serialize};

/// A question's answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// What was to be reached, and whether it was.
    pub aims: Vec<Aim>,
    pub tables: Vec<Table>,
    pub plots: Vec<Plot>,
}

/// Something that was to be reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Aim {
    /// What should be so.
    pub wanted: String,
    /// What is so.
    pub measured: String,
    pub reached: bool,
}

impl Aim {
    pub fn new(wanted: &str, measured: impl Into<String>, reached: bool) -> Self {
        Self { wanted: wanted.into(), measured: measured.into(), reached }
    }
}

/// Figures, in words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: &str, header: &[&str]) -> Self {
        let header = header.iter().map(ToString::to_string).collect();
        Self { title: title.into(), header, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        eprintln!("   {}", cells.join("  |  "));
        self.rows.push(cells);
    }
}

/// A picture; both axes are logarithmic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plot {
    /// Its file's name, without `.svg`.
    pub file: String,
    pub title: String,
    pub x: String,
    pub y: String,
    pub series: Vec<Series>,
}

/// A line of a picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A duration, with a fitting unit.
pub fn seconds(value: f64) -> String {
    match value {
        value if value >= 10.0 => format!("{value:.0} s"),
        value if value >= 1.0 => format!("{value:.2} s"),
        value if value >= 0.1 => format!("{:.0} ms", value * 1e3),
        value if value >= 0.001 => format!("{:.1} ms", value * 1e3),
        value => format!("{:.0} µs", value * 1e6),
    }
}

/// An amount of memory, from KiB.
pub fn bytes(kib: f64) -> String {
    if kib >= 1_048_576.0 {
        format!("{:.1} GiB", kib / 1_048_576.0)
    } else {
        format!("{:.1} MiB", kib / 1024.0)
    }
}
