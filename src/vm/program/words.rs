//! The text that runs a program on a terminal in the guest.

use std::fmt::Write;

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its lines.
    pub rows: u16,
    /// Its columns.
    pub columns: u16,
}

/// `word` as a POSIX shell reads it back, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What `guest.sh` runs on the terminal. The shell stays, to write the exit code
/// down; what is typed to interrupt the program is the program's.
pub(super) fn on_terminal(command: &[String], term: &str, size: Size) -> String {
    let mut text = String::from("d=$HOSTCTL_DIRECTORY; unset HOSTCTL_DIRECTORY HOSTCTL_RUN; ");
    // Writing to a text can't fail.
    let _ = write!(
        text,
        "stty rows {} cols {} 2>/dev/null; tty >\"$d/tty\"; echo \"-$$\" >\"$d/pid\"; \
         trap : INT QUIT TERM HUP; TERM={} ",
        size.rows,
        size.columns,
        quoted(term)
    );
    for word in command {
        let _ = write!(text, "{} ", quoted(word));
    }
    text.push_str("; echo $? >\"$d/code\"");
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_word_is_read_back_as_it_was(word in "[^\0]{0,40}") {
            let script = format!("printf %s {}", quoted(&word));
            let output = Command::new("/bin/sh").arg("-c").arg(script).output().unwrap();
            prop_assert_eq!(output.stdout, word.into_bytes());
        }
    }
}
