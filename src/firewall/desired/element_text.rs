//! An element as nft lists it (libnftables-json(5)) → as nft(8) reads it.

use serde_json::Value;

use crate::firewall::live::rule_text;

/// The element with what it limits, as it is written where it is added.
pub(in crate::firewall) fn added(element: &Value) -> String {
    let limits = stated(element).into_iter().flatten();
    std::iter::once(deleted(element)).chain(limits).collect::<Vec<_>>().join(" ")
}

/// What the element is found by, as it is written where it is deleted.
pub(in crate::firewall) fn deleted(element: &Value) -> String {
    let key = element.get("elem").and_then(|element| element.get("val")).unwrap_or(element);
    match key {
        Value::String(text) => format!("\"{text}\""),
        Value::Array(pair) => pair.iter().map(deleted).collect::<Vec<_>>().join(" : "),
        Value::Object(fields) if fields.contains_key("concat") => {
            let parts = fields.get("concat").and_then(Value::as_array);
            parts.into_iter().flatten().map(deleted).collect::<Vec<_>>().join(" . ")
        }
        other => rule_text::value(other),
    }
}

/// Whether an element limits something, which nft's JSON can't add.
pub(in crate::firewall) fn is_stateful(element: &Value) -> bool {
    stated(element).is_some_and(|limits| !limits.is_empty())
}

fn stated(element: &Value) -> Option<Vec<String>> {
    let fields = element.get("elem")?.as_object()?;
    let number = |body: &Value, key: &str| body.get(key).map(Value::to_string).unwrap_or_default();
    let over = |body: &Value| if body.get("inv") == Some(&Value::Bool(true)) { "over " } else { "" };
    let limit = fields.get("limit").map(|limit| {
        let per = limit.get("per").and_then(Value::as_str).unwrap_or("second");
        let (rate, burst) = (number(limit, "rate"), number(limit, "burst"));
        format!("limit rate {}{rate}/{per} burst {burst} packets", over(limit))
    });
    let count =
        fields.get("ct count").map(|count| format!("ct count {}{}", over(count), number(count, "val")));
    Some(limit.into_iter().chain(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_written_as_nft_reads_them() {
        for (json, key, whole) in [
            (r#""br-a""#, r#""br-a""#, r#""br-a""#),
            (
                r#"{"concat": ["br-a", "7", {"prefix": {"addr": "10.0.0.0", "len": 8}}]}"#,
                r#""br-a" . "7" . 10.0.0.0/8"#,
                r#""br-a" . "7" . 10.0.0.0/8"#,
            ),
            (
                r#"["10.1.0.2", {"jump": {"target": "port_share_1"}}]"#,
                r#""10.1.0.2" : jump port_share_1"#,
                r#""10.1.0.2" : jump port_share_1"#,
            ),
            (
                r#"{"elem": {"val": {"concat": ["br-a", "02:00:00:00:00:01"]}, "ct count": {"val": 64}}}"#,
                r#""br-a" . "02:00:00:00:00:01""#,
                r#""br-a" . "02:00:00:00:00:01" ct count 64"#,
            ),
            (
                r#"{"elem": {"val": "vm-a", "limit": {"rate": 5, "burst": 7, "per": "second", "inv": true}}}"#,
                r#""vm-a""#,
                r#""vm-a" limit rate over 5/second burst 7 packets"#,
            ),
        ] {
            let element: Value = serde_json::from_str(json).unwrap();
            assert_eq!((deleted(&element).as_str(), added(&element).as_str()), (key, whole));
            assert_eq!(is_stateful(&element), json.contains("\"elem\""), "{json}");
        }
    }
}
