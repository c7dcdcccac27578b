//! What the demo prints.

use std::io::Write;

/// Prints a line. Kept running in the background, nobody may be there to read.
pub fn say(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Prints a headline.
pub fn headline(text: &str) {
    say(&format!("\n\x1b[1m== {text}\x1b[0m"));
}

/// A matrix as text: who, to whom, what.
pub fn matrix(rows: &[String], columns: &[String], cell: impl Fn(&str, &str) -> String) -> String {
    let width = |column: &String| {
        rows.iter().map(|row| cell(row, column).chars().count()).chain([column.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let first = rows.iter().map(String::len).chain(["from \\ to".len()]).max().unwrap_or(0);
    let line = |name: &str, cells: Vec<String>| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("  {name:first$}  {}", cells.join("  ")).trim_end().to_string()
    };
    let mut lines = vec![line("from \\ to", columns.to_vec())];
    lines.extend(rows.iter().map(|row| line(row, columns.iter().map(|column| cell(row, column)).collect())));
    lines.join("\n")
}
