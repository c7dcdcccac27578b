//! TCP's flags, as far as they are known: a flow's first packet has SYN alone
//! (RFC 9293, 3.5).

use serde_json::Value;

use super::super::rules::only;

/// By their bits.
const FLAGS: [(&str, u64); 8] =
    [("fin", 1), ("syn", 2), ("rst", 4), ("psh", 8), ("ack", 16), ("urg", 32), ("ecn", 64), ("cwr", 128)];

/// Whether a comparison of flags holds of a first packet; none where it is one
/// of something else.
pub fn of_first(left: &Value, operator: &str, right: &Value) -> Option<bool> {
    let (kind, body) = only(left).ok()?;
    let (field, mask) = match (kind, body.as_array().map(Vec::as_slice)) {
        ("&", Some([field, mask])) => (field, flags(mask)?),
        _ => (left, u64::MAX),
    };
    let (kind, body) = only(field).ok()?;
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    if (kind, text("protocol"), text("field")) != ("payload", Some("tcp"), Some("flags")) {
        return None;
    }
    let (_, syn) = FLAGS.get(1)?;
    let (is, wanted) = (syn & mask, flags(right)?);
    match operator {
        "==" => Some(is == wanted),
        "!=" => Some(is != wanted),
        "in" => Some(is & wanted != 0),
        _ => None,
    }
}

fn flags(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(word) => FLAGS.iter().find(|(name, _)| name == word).map(|(_, bit)| *bit),
        Value::Array(words) => words.iter().try_fold(0, |sum, word| Some(sum | flags(word)?)),
        Value::Object(_) => match only(value).ok()? {
            ("|" | "set", words) => flags(words),
            _ => None,
        },
        _ => None,
    }
}
