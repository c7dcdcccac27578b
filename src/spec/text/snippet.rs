//! Problems as a terminal shows them: with the line that is meant.

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};
use std::fmt;

use crate::shown::is_unsafe;

use super::problem::{Place, Problem, SpecError, printable};

/// Most of a line that is shown, in characters to each side of the place.
const AROUND: usize = 60;

impl SpecError {
    /// The problems with the lines that they are in, for a terminal of
    /// `width` columns. For anything else there is the [`fmt::Display`] form.
    pub fn render(&self, width: usize, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
        let mut out = String::new();
        for problem in self.problems() {
            let report = Report::new(problem);
            if handler.render_report(&mut out, &report).is_err() {
                out.push_str(&format!("{problem}\n"));
            }
        }
        if self.more() > 0 {
            out.push_str(&format!("… and at least {} more\n", self.more()));
        }
        out
    }
}

/// A problem as miette wants it.
#[derive(Debug)]
struct Report<'p> {
    problem: &'p Problem,
    line: Option<Line>,
}

/// The line of a place, shortened around it, with nothing in it that could
/// steer the terminal.
#[derive(Debug)]
struct Line {
    file: String,
    text: String,
    span: SourceSpan,
    line: usize,
    column: usize,
}

impl<'p> Report<'p> {
    fn new(problem: &'p Problem) -> Self {
        let file = printable(&problem.file.to_string_lossy());
        Self { problem, line: problem.place.as_ref().map(|place| Line::new(file, place)) }
    }
}

impl Line {
    fn new(file: String, place: &Place) -> Self {
        let (before, after) = place.text.split_at_checked(place.span.start).unwrap_or((&place.text, ""));
        let before = before.rsplit('\n').next().unwrap_or_default();
        let after = after.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let meant = after.get(..place.span.len().min(after.len())).unwrap_or(after);
        let before: Vec<char> = before.chars().rev().take(AROUND).collect();
        let before: String = before.into_iter().rev().map(shown).collect();
        let meant: String = meant.chars().take(AROUND).map(shown).collect();
        let rest: String = after.chars().skip(meant.chars().count()).take(AROUND).map(shown).collect();
        let span = (before.len(), meant.len()).into();
        let text = format!("{before}{meant}{rest}");
        Self { file, text, span, line: place.line, column: place.column }
    }
}

fn shown(char: char) -> char {
    match char {
        '\t' => ' ',
        char if is_unsafe(char) => '\u{fffd}',
        char => char,
    }
}

impl SourceCode for Line {
    fn read_span<'a>(
        &'a self,
        _: &SourceSpan,
        _: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.clone(),
            self.text.as_bytes(),
            (0, self.text.len()).into(),
            self.line.saturating_sub(1),
            self.column.saturating_sub(1),
            1,
        )))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line.is_none() {
            write!(f, "{}: ", printable(&self.problem.file.to_string_lossy()))?;
        }
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.line.as_ref().map(|line| line as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let line = self.line.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, line.span))))
    }
}
