//! What others wrote (a guest, an app, QEMU, a file) as it may be shown on a
//! terminal: nothing in it steers the terminal, and nothing hides what it says.
//! The one place that decides so.

/// Whether a character could steer a terminal or hide what a text says:
/// controls, bidirectional and other format characters (Unicode, Cc and Cf),
/// line and paragraph separators, fillers without a width, tags.
pub fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{34f}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A control is replaced; what has no place on the screen is named by its number.
fn push(out: &mut String, char: char) {
    if char.is_control() {
        out.push(char::REPLACEMENT_CHARACTER);
    } else if is_unsafe(char) {
        out.push_str(&format!("<U+{:04X}>", u32::from(char)));
    } else {
        out.push(char);
    }
}

/// Several lines: line ends and tabs stay, a return before a line's end goes.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\r' => {}
            '\n' | '\t' => out.push(char),
            char => push(&mut out, char),
        }
    }
    out
}

/// One line: whatever would end it, and every other control, is a space.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { out.push(' ') } else { push(&mut out, char) }
    }
    out
}

/// JSON with whatever a terminal would take for more than a character escaped: it
/// means the same.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_unsafe(char) && char != '\n' {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(char);
        }
    }
    out
}

/// Bytes that come in pieces, of which one may end within a character.
#[derive(Debug, Default)]
pub struct Stream {
    /// The start of a character whose end hasn't come.
    rest: Vec<u8>,
}

impl Stream {
    /// What is shown of `bytes` and of what was left before.
    pub fn add(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut cut = all.len();
        // A character has four bytes at most: only the last three can lack one.
        for back in 1..=all.len().min(3) {
            let start = all.len() - back;
            let tail = all.get(start..).unwrap_or_default();
            if std::str::from_utf8(tail)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
            {
                cut = start;
            }
        }
        self.rest = all.split_off(cut);
        text(&String::from_utf8_lossy(&all))
    }

    /// What is shown of the rest, where no more comes.
    pub fn finish(&mut self) -> String {
        text(&String::from_utf8_lossy(&std::mem::take(&mut self.rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_steers_a_terminal_or_hides_is_made_visible() {
        assert_eq!(text("a\x1b[2J\tb\r\nc\x07"), "a\u{fffd}[2J\tb\nc\u{fffd}");
        assert_eq!(text("x\u{202e}y\u{200b}z\u{feff}"), "x<U+202E>y<U+200B>z<U+FEFF>");
        assert_eq!(line("a\nb\x1b[1m\u{2066}"), "a b [1m<U+2066>");
        assert_eq!(text("äöü 名 🦀 naïve"), "äöü 名 🦀 naïve");
        let value = serde_json::json!({ "a": "x\u{202e}\u{9b}\u{e0041}y" });
        let shown = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!shown.chars().any(|char| is_unsafe(char) && char != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    fn hostile() -> impl Strategy<Value = String> {
        let odd = prop_oneof![
            any::<char>(),
            proptest::char::range('\0', '\u{9f}'),
            proptest::char::range('\u{2000}', '\u{206f}'),
            proptest::char::range('\u{e0000}', '\u{e00ff}'),
            Just('\u{fe0f}'),
        ];
        proptest::collection::vec(odd, 0..60).prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_shown(wild in hostile(), bytes: Vec<u8>) {
            let wild = wild + &String::from_utf8_lossy(&bytes);
            let stays = |c: char| matches!(c, '\n' | '\t');
            prop_assert!(!text(&wild).chars().any(|c| is_unsafe(c) && !stays(c)));
            prop_assert!(!line(&wild).chars().any(is_unsafe));
            let value = serde_json::json!({ wild.clone(): [wild.clone()] });
            let shown = json(&serde_json::to_string_pretty(&value).unwrap());
            prop_assert!(!shown.chars().any(|c| is_unsafe(c) && c != '\n'));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }

        #[test]
        fn pieces_are_shown_as_the_whole_is(wild in hostile(), bytes: Vec<u8>, cuts: Vec<proptest::sample::Index>) {
            let all = [wild.as_bytes(), &bytes].concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
            at.push(all.len());
            at.sort_unstable();
            let (mut stream, mut shown, mut from) = (Stream::default(), String::new(), 0);
            for to in at {
                shown += &stream.add(&all[from..to]);
                from = to;
            }
            shown += &stream.finish();
            prop_assert_eq!(shown, text(&String::from_utf8_lossy(&all)));
        }
    }
}
