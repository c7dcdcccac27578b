//! Tables for people, JSON for programs.

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use hostctl::shown;
use serde::Serialize;

use super::terminal::{self, Tone};
use super::{Failure, line};

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(json_text(value)?)
}

fn json_text(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::other(error.to_string()))?;
    Ok(shown::json(&text))
}

/// Between two columns.
const GAP: u16 = 2;

/// Prints rows under a header. On a terminal they fit its width, and words for
/// what went wrong have a colour.
pub fn table<R: IntoIterator<Item = String>>(
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
) -> Result<(), Failure> {
    let stdout = std::io::stdout();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if terminal::colours(&stdout) {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(header.iter().copied());
    for row in rows {
        // What a name or a state says may be a guest's word.
        let mut cells = row.into_iter().map(|cell| shown::line(&cell));
        // The first is a name, which may be any word.
        let name = cells.next().map(Cell::new);
        table.add_row(name.into_iter().chain(cells.map(painted)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    let natural = table.column_max_content_widths();
    if let Some(fitted) = terminal::width(&stdout).and_then(|width| fitted(&natural, header, width)) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::MAX);
        let fixed = |width: u16| ColumnConstraint::Absolute(Width::Fixed(width + GAP));
        table.set_constraints(fitted.into_iter().map(fixed));
    }
    for text in table.lines() {
        line(text.trim_end())?;
    }
    Ok(())
}

/// The widths with which columns fit `total`, where they don't by themselves:
/// the widest give way, but no heading does while anything else can.
fn fitted(natural: &[u16], header: &[&str], total: usize) -> Option<Vec<u16>> {
    let mut widths = natural.to_vec();
    // Behind the last column there need be nothing.
    let sum = |widths: &[u16]| widths.iter().map(|width| usize::from(width + GAP)).sum::<usize>();
    let limit = total + usize::from(GAP);
    if sum(&widths) <= limit {
        return None;
    }
    let headings: Vec<u16> =
        header.iter().map(|text| u16::try_from(text.chars().count()).unwrap_or(u16::MAX)).collect();
    for floors in [headings, vec![1; widths.len()]] {
        while sum(&widths) > limit {
            let able = widths.iter_mut().zip(&floors).filter(|(width, floor)| **width > **floor);
            let Some((widest, _)) = able.max_by_key(|(width, _)| **width) else { break };
            *widest -= 1;
        }
    }
    Some(widths)
}

fn painted(text: String) -> Cell {
    let tone = Tone::of(&text);
    let cell = Cell::new(text);
    match tone {
        Some(Tone::Bad) => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        Some(Tone::Doubtful) => cell.fg(Color::Yellow),
        Some(Tone::Good) => cell.fg(Color::Green),
        None => cell,
    }
}

/// `1 step`, `2 steps`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_columns_give_way() {
        let header = ["VM", "INTERFACE", "PID"];
        assert_eq!(fitted(&[10, 12, 3], &header, 29), None);
        assert_eq!(fitted(&[10, 12, 3], &header, 28), Some(vec![10, 11, 3]));
        assert_eq!(fitted(&[40, 12, 3], &header, 20), Some(vec![4, 9, 3]));
        assert_eq!(fitted(&[40, 12, 3], &header, 10), Some(vec![2, 2, 2]));
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|number| count(number, "step")), ["0 steps", "1 step", "2 steps"]);
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_printed() {
        let value = serde_json::json!({ "a\u{202e}": "b\u{1b}[2J\u{9b}1m\u{200b}" });
        let text = json_text(&value).unwrap();
        assert!(!text.chars().any(|c| shown::is_unsafe(c) && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
