//! Who may reach what: expected, measured, compared.

use std::fmt;

use comfy_table::{Table, presets};

use super::probe::Verdict;

/// What should become of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedVerdict {
    /// Answered.
    Allowed,
    /// Lost without a word.
    Dropped,
    /// Refused with a reset or an ICMP error.
    Rejected,
    /// Either dropped or rejected.
    Denied,
}

impl ExpectedVerdict {
    /// Whether a measured verdict is the expected one. A probe that was never
    /// sent is never.
    pub fn matches(self, measured: &Verdict) -> bool {
        match measured {
            Verdict::Allowed { .. } => self == Self::Allowed,
            Verdict::Dropped => matches!(self, Self::Dropped | Self::Denied),
            Verdict::Rejected { .. } => matches!(self, Self::Rejected | Self::Denied),
            Verdict::Unsent { .. } => false,
        }
    }
}

impl fmt::Display for ExpectedVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
        })
    }
}

/// One cell of the isolation matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Who tries.
    pub from: String,
    /// Whom it tries to reach.
    pub to: String,
    /// How: `tcp 80`, `ping`.
    pub what: String,
    /// What should become of it.
    pub expected: ExpectedVerdict,
}

/// An expectation and what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What should be.
    pub expectation: Expectation,
    /// What is.
    pub measured: Verdict,
}

impl Row {
    /// Whether it is as it should be.
    pub fn is_ok(&self) -> bool {
        self.expectation.expected.matches(&self.measured)
    }
}

/// Whether there are rows and all of them are as they should be: nothing
/// measured is nothing proved.
pub fn all_ok(rows: &[Row]) -> bool {
    !rows.is_empty() && rows.iter().all(Row::is_ok)
}

/// The rows as a table: from, to, what, expected, measured, ok.
pub fn render(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["from", "to", "what", "expected", "measured", "ok"]);
    for row in rows {
        let Expectation { from, to, what, expected } = &row.expectation;
        let ok = if row.is_ok() { "ok" } else { "WRONG" };
        table.add_row([from, to, what, &expected.to_string(), &row.measured.to_string(), ok]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(expected: ExpectedVerdict, measured: Verdict) -> Row {
        let expectation = Expectation { from: "vm1".into(), to: "vm2".into(), what: "ping".into(), expected };
        Row { expectation, measured }
    }

    #[test]
    fn a_probe_that_was_never_sent_meets_no_expectation() {
        let unsent = || Verdict::Unsent { why: "no route".into() };
        for expected in [
            ExpectedVerdict::Allowed,
            ExpectedVerdict::Dropped,
            ExpectedVerdict::Rejected,
            ExpectedVerdict::Denied,
        ] {
            assert!(!row(expected, unsent()).is_ok(), "{expected}");
        }
    }

    #[test]
    fn nothing_measured_is_nothing_proved() {
        assert!(!all_ok(&[]));
        assert!(all_ok(&[row(ExpectedVerdict::Denied, Verdict::Dropped)]));
        assert!(!all_ok(&[
            row(ExpectedVerdict::Denied, Verdict::Dropped),
            row(ExpectedVerdict::Rejected, Verdict::Dropped)
        ]));
    }

    #[test]
    fn the_table_shows_what_is_wrong() {
        let text = render(&[row(ExpectedVerdict::Allowed, Verdict::Dropped)]);
        assert!(text.contains("allowed") && text.contains("dropped") && text.contains("WRONG"), "{text}");
    }
}
