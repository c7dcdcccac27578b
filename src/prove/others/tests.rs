//! Marks and flags, bit by bit.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::diagram::{Diagram, Diagrams};
use super::mark::{Computed, Marks, Whose};
use super::question::Questions;
use super::tcp;

type Operation = fn(u32, u32) -> u32;

/// A computation, and what it comes to where the flow's mark is `flow`.
fn computed() -> impl Strategy<Value = (Value, Operation, u32)> {
    let operations: [(&str, Operation); 5] = [
        ("&", |a, b| a & b),
        ("|", |a, b| a | b),
        ("^", |a, b| a ^ b),
        ("<<", |a, b| a.checked_shl(b % 32).unwrap_or(0)),
        (">>", |a, b| a.checked_shr(b % 32).unwrap_or(0)),
    ];
    (proptest::sample::select(operations.to_vec()), any::<u32>()).prop_map(|((name, does), number)| {
        let number = if name.len() == 2 { number % 32 } else { number };
        (json!({ name: [{"meta": {"key": "mark"}}, number] }), does, number)
    })
}

proptest! {
    #[test]
    fn marks_are_computed_as_numbers_are(start in any::<u32>(), steps in proptest::collection::vec(computed(), 0..4), mask in any::<u32>(), range in any::<(u32, u32)>()) {
        let (mut diagrams, mut questions) = (Diagrams::default(), Questions::default());
        let mut marks = Marks::new(&mut diagrams, Diagram::NEVER, &mut questions);
        let mut expected = start;
        let first = Computed::parse(&json!(start), &mut questions);
        let bits = marks.computed(&mut diagrams, &first);
        marks.set(&mut diagrams, Whose::Packet, Diagram::ALWAYS, &bits);
        for (value, does, number) in steps {
            let value = Computed::parse(&value, &mut questions);
            let bits = marks.computed(&mut diagrams, &value);
            marks.set(&mut diagrams, Whose::Packet, Diagram::ALWAYS, &bits);
            expected = does(expected, number);
        }
        let within = marks.within(&mut diagrams, (Whose::Packet, mask), range);
        let is = (range.0..=range.1).contains(&(expected & mask));
        prop_assert_eq!(within, if is { Diagram::ALWAYS } else { Diagram::NEVER });
        let flow = marks.within(&mut diagrams, (Whose::Flow, u32::MAX), (0, 0));
        prop_assert_eq!(flow, Diagram::ALWAYS, "nobody marked the flow");
    }
}

#[test]
fn what_is_computed_otherwise_is_anything() {
    let (mut diagrams, mut questions) = (Diagrams::default(), Questions::default());
    let marks = Marks::new(&mut diagrams, Diagram::NEVER, &mut questions);
    let value = Computed::parse(&json!({"jhash": {}}), &mut questions);
    let bits = marks.computed(&mut diagrams, &value);
    assert!(bits.iter().all(|bit| ![Diagram::ALWAYS, Diagram::NEVER].contains(bit)));
}

#[test]
fn first_packets_have_syn_alone() {
    let flags = json!({"payload": {"protocol": "tcp", "field": "flags"}});
    let masked = |mask: Value| json!({"&": [flags, mask]});
    for (left, operator, right, holds) in [
        (flags.clone(), "==", json!("syn"), Some(true)),
        (flags.clone(), "in", json!("ack"), Some(false)),
        (flags.clone(), "in", json!(["syn", "ack"]), Some(true)),
        (masked(json!(["fin", "syn", "rst", "ack"])), "==", json!("syn"), Some(true)),
        (masked(json!(["fin", "syn", "rst", "ack"])), "!=", json!("syn"), Some(false)),
        (masked(json!({"|": ["fin", "syn"]})), "==", json!({"|": ["fin", "syn"]}), Some(false)),
        (masked(json!(["rst", "ack"])), "==", json!(0), Some(true)),
        (flags.clone(), "==", json!("nonsense"), None),
        (flags.clone(), "<", json!("syn"), None),
        (json!({"payload": {"protocol": "tcp", "field": "window"}}), "==", json!(2), None),
    ] {
        assert_eq!(tcp::of_first(&left, operator, &right), holds, "{left} {operator} {right}");
    }
}
