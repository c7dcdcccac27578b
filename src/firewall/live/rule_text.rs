//! A rule in nft's JSON (libnftables-json(5)) → a line for people. What has
//! no short form is shown as its JSON; all of it is bounded and printable.

use serde_json::Value;

/// Longer lines are cut off.
const MAX: usize = 200;

/// The line of a rule's statements.
pub(in crate::firewall) fn rule(statements: &[Value]) -> String {
    let words: Vec<String> = statements.iter().map(statement).collect();
    bounded(&words.join(" "))
}

/// A value, such as an element of a set, as nft writes it.
pub(in crate::firewall) fn value(value: &Value) -> String {
    bounded(&expression(value))
}

fn bounded(text: &str) -> String {
    let start: String = text.chars().take(MAX).collect();
    let mut kept = crate::shown::text(&start).replace(['\n', '\t'], "\u{fffd}");
    if text.chars().nth(MAX).is_some() {
        kept.push('…');
    }
    kept
}

/// The one key of an object, with its value.
pub(in crate::firewall) fn only(value: &Value) -> Option<(&str, &Value)> {
    let mut fields = value.as_object()?.iter();
    let (key, inner) = fields.next()?;
    fields.next().is_none().then_some((key.as_str(), inner))
}

fn statement(statement: &Value) -> String {
    let Some((kind, body)) = only(statement) else { return expression(statement) };
    let field = |name: &str| body.get(name).map(expression).unwrap_or_default();
    match kind {
        "match" => {
            let op = body.get("op").and_then(Value::as_str).unwrap_or("==");
            let masked =
                body.get("left").and_then(only).is_some_and(|(key, _)| matches!(key, "&" | "|" | "^"));
            match op {
                "in" => format!("{} {}", field("left"), field("right")),
                "==" if !masked => format!("{} {}", field("left"), field("right")),
                op => format!("{} {op} {}", field("left"), field("right")),
            }
        }
        "counter" | "accept" | "drop" | "return" | "continue" | "notrack" => kind.into(),
        "jump" | "goto" => format!("{kind} {}", field("target")),
        "reject" => match body.get("expr") {
            Some(with) => format!("reject with {} {}", field("type"), expression(with)),
            None => "reject".into(),
        },
        "vmap" => format!("{} vmap {}", field("key"), field("data")),
        "limit" => format!("limit rate {}/{}", field("rate"), field("per")),
        "log" => match body.get("prefix") {
            Some(prefix) => format!("log prefix {prefix}"),
            None => "log".into(),
        },
        "mangle" => format!("{} set {}", field("key"), field("value")),
        "masquerade" | "redirect" | "snat" | "dnat" => {
            let to = [
                body.get("addr").map(expression),
                body.get("port").map(|port| format!(":{}", expression(port))),
            ];
            let to: String = to.into_iter().flatten().collect();
            if to.is_empty() { kind.into() } else { format!("{kind} to {to}") }
        }
        "flow" => format!("flow {} {}", field("op"), field("flowtable")),
        "fwd" | "dup" => format!("{kind} to {}", field("dev")),
        "xt" => format!("{} {}", field("type"), field("name")),
        _ => statement.to_string(),
    }
}

fn list(values: &[Value], between: &str) -> String {
    values.iter().map(expression).collect::<Vec<_>>().join(between)
}

fn expression(value: &Value) -> String {
    match value {
        Value::String(text) => return text.clone(),
        Value::Number(number) => return number.to_string(),
        Value::Bool(found) => return if *found { "exists" } else { "missing" }.into(),
        // An element of a map: its key and its value.
        Value::Array(values) if values.len() == 2 && values.iter().any(is_verdict) => {
            return list(values, " : ");
        }
        Value::Array(values) => return list(values, ","),
        Value::Null => return String::new(),
        Value::Object(_) => {}
    }
    let Some((kind, body)) = only(value) else { return value.to_string() };
    let field = |name: &str| body.get(name).map(expression).unwrap_or_default();
    let items = body.as_array().map(Vec::as_slice).unwrap_or_default();
    match kind {
        "meta" => match field("key") {
            key if matches!(key.as_str(), "mark" | "l4proto" | "nfproto" | "protocol") => {
                format!("meta {key}")
            }
            key => key,
        },
        "ct" => {
            let direction = body.get("dir").map(|dir| format!("{} ", expression(dir))).unwrap_or_default();
            format!("ct {direction}{}", field("key"))
        }
        "payload" if body.get("protocol").is_some() => format!("{} {}", field("protocol"), field("field")),
        "payload" => format!("@{},{},{}", field("base"), field("offset"), field("len")),
        "fib" => format!(
            "fib {} {}",
            list(body.get("flags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default(), " . "),
            field("result")
        ),
        "exthdr" => format!("exthdr {}", field("name")),
        "&" | "|" | "^" | "<<" | ">>" => list(items, &format!(" {kind} ")),
        "concat" => list(items, " . "),
        "set" => format!("{{ {} }}", list(items, ", ")),
        "prefix" => format!("{}/{}", field("addr"), field("len")),
        "range" => list(items, "-"),
        "elem" => field("val"),
        _ if is_verdict(value) => statement(value),
        _ => value.to_string(),
    }
}

fn is_verdict(value: &Value) -> bool {
    only(value)
        .is_some_and(|(kind, _)| matches!(kind, "accept" | "drop" | "continue" | "return" | "jump" | "goto"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        rule(&serde_json::from_str::<Vec<Value>>(json).unwrap())
    }

    #[test]
    fn rules_read_as_nft_writes_them() {
        for (json, line) in [
            (
                r#"[{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": {"set": ["br-a", "x*"]}}}, {"counter": null}, {"accept": null}]"#,
                "iifname { br-a, x* } counter accept",
            ),
            (
                r#"[{"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, 16711680]}, "right": 262144}}, {"drop": null}]"#,
                "meta mark & 16711680 == 262144 drop",
            ),
            (
                r#"[{"match": {"op": "==", "left": {"fib": {"result": "oif", "flags": ["saddr", "mark", "iif"]}}, "right": false}}, {"drop": null}]"#,
                "fib saddr . mark . iif oif missing drop",
            ),
            (
                r#"[{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", {"drop": null}], ["new", {"jump": {"target": "d"}}]]}}}]"#,
                "ct state vmap { invalid : drop, new : jump d }",
            ),
            (
                r#"[{"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}}, {"masquerade": null}]"#,
                "ip saddr != 10.0.0.0/8 masquerade",
            ),
            (r#"[{"dnat": {"family": "ip", "addr": "10.0.0.1", "port": 80}}]"#, "dnat to 10.0.0.1:80"),
            (
                r#"[{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]"#,
                "reject with icmpx admin-prohibited",
            ),
            (r#"[{"unheard": {"of": 1}}]"#, r#"{"unheard":{"of":1}}"#),
        ] {
            assert_eq!(text(json), line);
        }
    }

    #[test]
    fn a_line_is_bounded_and_printable() {
        let long = text(&format!(r#"[{{"log": {{"prefix": "{}"}}}}]"#, "x".repeat(1000)));
        assert_eq!(long.chars().count(), MAX + 1);
        assert!(!value(&Value::String("a\u{1b}[2J".into())).contains('\u{1b}'));
    }
}
