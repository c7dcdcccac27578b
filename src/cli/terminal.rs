//! What the terminal is like: its width, and whether it shows colours.

use std::io::IsTerminal;
use std::os::fd::AsFd;

/// Where it doesn't say, and no narrower.
const WIDTH: usize = 80;
const WIDTH_MIN: usize = 20;

/// What a word means to whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something is or may be open, is dropped, or failed: red.
    Bad,
    /// Something to look at: yellow.
    Doubtful,
    /// As it should be: green.
    Good,
}

impl Tone {
    /// Of a guest's state, or another word that tables have. Most have none.
    pub fn of(word: &str) -> Option<Self> {
        let first = word.split([' ', '(', ':', ',']).next().unwrap_or_default();
        match first {
            "failed" | "missing" | "DIFFERENT" | "critical" | "problem" | "can't" => Some(Self::Bad),
            "paused" | "unconfirmed" | "warning" => Some(Self::Doubtful),
            _ => None,
        }
    }

    /// The numbers of ECMA-48 (SGR).
    const fn code(self) -> &'static str {
        match self {
            Self::Bad => "1;31",
            Self::Doubtful => "33",
            Self::Good => "32",
        }
    }
}

/// The columns of a stream that is a terminal.
pub fn width(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stream.as_fd());
    let width = size.ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
    Some(width.unwrap_or(WIDTH).max(WIDTH_MIN))
}

/// Whether a stream shows colours: never where it isn't a terminal, nor where
/// the user wants none (no-color.org).
pub fn colours(stream: &impl IsTerminal) -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The text in that tone, where standard output shows colours.
pub fn paint(text: impl Into<String>, tone: impl Into<Option<Tone>>) -> String {
    paint_where(colours(&std::io::stdout()), text, tone)
}

/// The text in that tone, where colours are shown.
pub fn paint_where(shown: bool, text: impl Into<String>, tone: impl Into<Option<Tone>>) -> String {
    match tone.into() {
        Some(tone) if shown => format!("\x1b[{}m{}\x1b[0m", tone.code(), text.into()),
        _ => text.into(),
    }
}

/// The start of a text that fits so many columns.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_has_a_tone() {
        for (word, tone) in [
            ("failed(3 restarts)", Some(Tone::Bad)),
            ("failed: no KVM", Some(Tone::Bad)),
            ("unconfirmed, reverts in 5 s", Some(Tone::Doubtful)),
            ("running", None),
            ("failed-over", None),
            ("", None),
        ] {
            assert_eq!(Tone::of(word), tone, "{word}");
        }
        assert_eq!(paint_where(true, "x", Tone::Bad), "\x1b[1;31mx\x1b[0m");
        assert_eq!(paint_where(true, "x", None), "x");
        assert_eq!(paint_where(false, "x", Tone::Bad), "x");
    }

    #[test]
    fn what_is_too_long_ends_in_an_ellipsis() {
        assert_eq!(cut("brücke", 6), "brücke");
        assert_eq!(cut("brücke", 4), "brü…");
        assert_eq!(cut("brücke", 0), "…");
    }
}
