//! The kernel's refusals in people's words.

use nix::unistd::geteuid;

/// A text without the numbers that the standard library puts behind the kernel's
/// words: `Permission denied (os error 13)`.
pub fn without_number(text: &str) -> String {
    const START: &str = " (os error ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(START) {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match after.get(digits..).and_then(|tail| tail.strip_prefix(')')) {
            Some(tail) if digits > 0 => {
                out.push_str(before);
                rest = tail;
            }
            _ => {
                out.push_str(before);
                out.push_str(START);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out.replace("Permission denied", "permission denied")
}

/// Whether a message is about what root may do and this process may not.
pub fn needs_root(message: &str) -> bool {
    let refused = ["permission denied", "Operation not permitted"];
    !geteuid().is_root() && refused.iter().any(|words| message.contains(words)) && !message.contains("root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_goes() {
        let cases = [
            ("can't read /x: Permission denied (os error 13)", "can't read /x: permission denied"),
            ("a (os error 2), b (os error 17): c", "a, b: c"),
            ("(os error 2)", "(os error 2)"),
            ("a (os error x) b", "a (os error x) b"),
            ("a (os error ", "a (os error "),
            ("", ""),
        ];
        for (text, wanted) in cases {
            assert_eq!(without_number(text), wanted);
        }
    }
}
