//! What is wrong with a spec's files, where, and what would be right.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::os_error::without_number;
use crate::shown::is_unsafe;

/// Most problems that are reported at once; what lies beyond is counted.
pub(in crate::spec) const MOST_PROBLEMS: usize = 100;

/// Longest message or hint, in characters: it may quote a hostile value.
const LONGEST_TEXT: usize = 400;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Where in it; none where the file as a whole is meant.
    pub place: Option<Place>,
    /// What is wrong: one line of printable text.
    pub message: String,
    /// What would be right: one line of printable text.
    pub hint: Option<String>,
}

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The bytes of `text` that are meant.
    pub span: Range<usize>,
    /// The file's text.
    pub text: Arc<str>,
}

/// Everything that is wrong with the spec's files, by file and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    problems: Vec<Problem>,
    more: usize,
}

impl Problem {
    /// A mistake; what the texts quote is made printable and shortened.
    pub fn new(file: &Path, place: Option<Place>, message: &str, hint: Option<&str>) -> Self {
        Self { file: file.into(), place, message: tidy(message), hint: hint.map(tidy) }
    }

    fn order(&self, other: &Self) -> Ordering {
        let start = |problem: &Self| problem.place.as_ref().map(|place| place.span.start);
        self.file.cmp(&other.file).then_with(|| start(self).cmp(&start(other)))
    }
}

impl SpecError {
    /// The problems in the order of files and places, each once; the first
    /// hundred are kept.
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(Problem::order);
        problems.dedup();
        let more = problems.len().saturating_sub(MOST_PROBLEMS);
        problems.truncate(MOST_PROBLEMS);
        Self { problems, more }
    }

    /// The problems, in the order of files and places.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many problems were found beyond [`SpecError::problems`]; the search
    /// ends soon after the first hundred, so there may be more.
    pub fn more(&self) -> usize {
        self.more
    }
}

/// `FILE:LINE:COLUMN: error: MESSAGE`, and the hint on a line of its own.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", printable(&self.file.to_string_lossy()))?;
        if let Some(place) = &self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        write!(f, " error: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            let end = if position == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        if self.more > 0 {
            write!(f, "\n… and at least {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecError {}

/// Shortened, and with nothing that could steer a terminal.
fn tidy(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_TEXT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    printable(&without_number(&short))
}

/// With control, bidirectional and invisible characters escaped.
pub(in crate::spec) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_unsafe(char) {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_steer_a_terminal_is_escaped() {
        let problem = Problem::new(Path::new("a\x1b[2J"), None, "\x1b]0;x\x07 \u{202e}", Some("a\nb"));
        assert_eq!(problem.to_string(), "a\\u{1b}[2J: error: \\u{1b}]0;x\\u{7} \\u{202e}\n  hint: a\\nb");
    }

    #[test]
    fn only_the_first_hundred_are_kept() {
        let problems = (0..150).map(|n| Problem::new(Path::new("f"), None, &format!("{n}"), None)).collect();
        let error = SpecError::new(problems);
        assert_eq!((error.problems().len(), error.more()), (100, 50));
        assert!(error.to_string().ends_with("\n… and at least 50 more"));
    }

    proptest! {
        #[test]
        fn a_message_is_one_short_printable_line(text in any::<String>()) {
            let message = Problem::new(Path::new("f"), None, &text, None).message;
            prop_assert!(!message.chars().any(is_unsafe));
            prop_assert!(message.len() <= 12 * (LONGEST_TEXT + 1));
        }
    }
}
