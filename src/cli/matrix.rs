//! `hostctl matrix`.

use hostctl::reach::{self, Endpoint, Matrix, Reach};

use super::spec::{SpecFile, load};
use super::terminal::{Tone, paint_where};
use super::{Context, Failure, line, output, terminal};

/// Between two columns.
const GAP: usize = 2;

/// The corner.
const CORNER: &str = "from \\ to";

pub fn matrix(context: &Context, file: &SpecFile) -> Result<(), Failure> {
    let topology = load(context, file)?.compiled;
    let matrix = reach::matrix(&topology);
    if context.json {
        return output::json(&matrix);
    }
    let stdout = std::io::stdout();
    let width = terminal::width(&stdout);
    lines(&matrix, width, terminal::colours(&stdout)).into_iter().try_for_each(line)
}

/// What one cell shows.
struct Shown {
    text: String,
    reach: Reach,
}

/// The matrix as lines of at most `width` columns: with the names over the
/// columns where they fit, else with their numbers, and else in parts.
fn lines(matrix: &Matrix, width: Option<usize>, colours: bool) -> Vec<String> {
    let mut notes: Vec<&str> = Vec::new();
    for cell in matrix.cells.iter().filter(|cell| cell.reach == Reach::Part) {
        if !notes.contains(&cell.why.as_str()) {
            notes.push(&cell.why);
        }
    }
    let note = |why: &str| notes.iter().position(|note| *note == why).map_or(0, |position| position + 1);
    let shown = |from: &Endpoint, to: &Endpoint, short: bool| {
        let Some(cell) = matrix.get(from, to) else {
            return Shown { text: String::new(), reach: Reach::Untouched };
        };
        let text = match (cell.reach, short) {
            (Reach::Allow, false) => "allow".into(),
            (Reach::Allow, true) => "+".into(),
            (Reach::Deny, _) => "-".into(),
            (Reach::Untouched, _) => ".".into(),
            (Reach::Part, false) => format!("part [{}]", note(&cell.why)),
            (Reach::Part, true) => format!("[{}]", note(&cell.why)),
        };
        Shown { text, reach: cell.reach }
    };
    let grid = |short: bool| -> Vec<Vec<Shown>> {
        let row = |from| matrix.to.iter().map(|to| shown(from, to, short)).collect();
        matrix.from.iter().map(row).collect()
    };
    let names: Vec<String> = matrix.to.iter().map(ToString::to_string).collect();
    let rows: Vec<String> = matrix.from.iter().map(ToString::to_string).collect();
    let limit = width.unwrap_or(usize::MAX);
    let mut text = Vec::new();
    let mut legend = "allow: may open flows   -: dropped   .: hostctl has no say";
    let full = Part { rows, columns: names, cells: grid(false) };
    if full.width() <= limit {
        text.extend(full.lines(0..matrix.to.len(), colours));
    } else {
        legend = "+: may open flows   -: dropped   .: hostctl has no say";
        let number = |endpoint: &Endpoint| matrix.to.iter().position(|to| to == endpoint).map(|at| at + 1);
        let named = |endpoint: &Endpoint| match number(endpoint) {
            Some(number) => format!("{number:2} {endpoint}"),
            None => format!("   {endpoint}"),
        };
        let short = Part {
            rows: matrix.from.iter().map(|from| terminal::cut(&named(from), limit / 2)).collect(),
            columns: (1..=matrix.to.len()).map(|number| number.to_string()).collect(),
            cells: grid(true),
        };
        for columns in short.parts(limit) {
            if !text.is_empty() {
                text.push(String::new());
            }
            text.extend(short.lines(columns, colours));
        }
        let unnamed = matrix.to.iter().filter(|to| !matrix.from.contains(to));
        let unnamed: Vec<String> = unnamed.map(|to| named(to).trim().to_string()).collect();
        if !unnamed.is_empty() {
            text.extend([String::new(), unnamed.join("   ")]);
        }
    }
    text.push(String::new());
    text.extend(wrap(legend, limit, ""));
    for (index, note) in notes.iter().enumerate() {
        text.extend(wrap(&format!("[{}] {note}", index + 1), limit, "    "));
    }
    text
}

/// A text's lines, each after the first with this before it.
pub fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > indent.len() && last + word.trim_end().chars().count() > width {
            lines.push(indent.into());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    lines.iter().map(|line| line.trim_end().to_string()).collect()
}

struct Part {
    rows: Vec<String>,
    columns: Vec<String>,
    cells: Vec<Vec<Shown>>,
}

impl Part {
    fn label_width(&self) -> usize {
        let corner = CORNER.chars().count();
        self.rows.iter().map(|row| row.chars().count()).max().unwrap_or_default().max(corner)
    }

    fn column_width(&self, column: usize) -> usize {
        let cells = self.cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        let header = self.columns.get(column).map_or(0, |name| name.chars().count());
        cells.max().unwrap_or_default().max(header)
    }

    fn width(&self) -> usize {
        let columns = (0..self.columns.len()).map(|column| GAP + self.column_width(column));
        self.label_width() + columns.sum::<usize>()
    }

    /// The columns that fit beside each other.
    fn parts(&self, width: usize) -> Vec<std::ops::Range<usize>> {
        let mut parts = Vec::new();
        let (mut start, mut used) = (0, self.label_width());
        for column in 0..self.columns.len() {
            let wanted = GAP + self.column_width(column);
            if used + wanted > width && column > start {
                parts.push(start..column);
                (start, used) = (column, self.label_width());
            }
            used += wanted;
        }
        parts.push(start..self.columns.len());
        parts
    }

    fn lines(&self, columns: std::ops::Range<usize>, colours: bool) -> Vec<String> {
        let label = self.label_width();
        let mut lines = Vec::new();
        let mut header = format!("{CORNER:label$}");
        for column in columns.clone() {
            let name = self.columns.get(column).map_or("", String::as_str);
            header.push_str(&format!("{:GAP$}{name:width$}", "", width = self.column_width(column)));
        }
        lines.push(header.trim_end().to_string());
        for (row, cells) in self.rows.iter().zip(&self.cells) {
            let mut text = format!("{row:label$}");
            for column in columns.clone() {
                let Some(cell) = cells.get(column) else { continue };
                let tone = match cell.reach {
                    Reach::Allow => Some(Tone::Good),
                    Reach::Deny => Some(Tone::Bad),
                    Reach::Part => Some(Tone::Doubtful),
                    Reach::Untouched => None,
                };
                let fill = self.column_width(column).saturating_sub(cell.text.chars().count());
                let cell = paint_where(colours, cell.text.clone(), tone);
                text.push_str(&format!("{:GAP$}{cell}{:fill$}", "", ""));
            }
            lines.push(text.trim_end().to_string());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use hostctl::topology;

    use super::*;

    fn matrix_of(networks: usize) -> Matrix {
        let networks: serde_json::Map<String, serde_json::Value> = (1..=networks)
            .map(|number| {
                (format!("network-{number:02}"), serde_json::json!({ "cidr": format!("10.{number}.0.0/24") }))
            })
            .collect();
        let spec = serde_json::from_value(serde_json::json!({ "networks": networks })).unwrap();
        reach::matrix(&topology::compile(&spec).unwrap())
    }

    #[test]
    fn a_matrix_fits_any_width() {
        for networks in [1, 5, 12, 40] {
            let matrix = matrix_of(networks);
            for width in [30, 60, 80, 200] {
                let lines = lines(&matrix, Some(width), false);
                for line in &lines {
                    assert!(line.chars().count() <= width, "{networks} networks, {width} columns: {line}");
                }
                let text = lines.join("\n");
                for from in &matrix.from {
                    assert!(
                        text.contains(&from.to_string()[..8.min(from.to_string().len())]),
                        "{from}: {text}"
                    );
                }
            }
        }
    }

    #[test]
    fn twelve_networks_are_one_table_of_eighty_columns() {
        let matrix = matrix_of(12);
        let lines = lines(&matrix, Some(80), false);
        assert_eq!(lines[0], "from \\ to      1  2  3  4  5  6  7  8  9  10  11  12  13  14   15");
        assert!(lines[1].starts_with(" 1 network-01  +  -  "), "{}", lines[1]);
        assert_eq!(lines.iter().filter(|line| line.starts_with(CORNER)).count(), 1, "{lines:#?}");
        assert!(lines.contains(&"15 imds".to_string()), "{lines:#?}");
    }

    #[test]
    fn without_a_terminal_it_is_as_wide_as_it_is() {
        let plain = lines(&matrix_of(12), None, false);
        assert!(plain[0].contains("network-12"));
        assert!(plain.iter().all(|line| !line.contains('\x1b')));
        let coloured = lines(&matrix_of(2), Some(80), true);
        assert!(coloured[1].contains("\x1b[1;31m-\x1b[0m"), "{coloured:#?}");
    }
}
