//! What `make bench` measures is measured seldom: here the stage of each
//! question is set up once, on the smallest hosts, and every answer is got, so
//! that a question doesn't stop to work without anybody noticing. What is found
//! says nothing about speed.

#![allow(clippy::expect_used)]

#[path = "../benches/performance/questions.rs"]
mod questions;

use questions::QUESTIONS;
use questions::harness::Extent;

fn answered(name: &str) {
    let (_, ask) = QUESTIONS.iter().find(|(known, _)| *known == name).expect("a question of that name");
    let report = ask(&Extent::stage());
    assert!(!report.aims.is_empty(), "{name} has no aim");
    assert!(report.tables.iter().any(|table| !table.rows.is_empty()), "{name} has found nothing");
    for table in &report.tables {
        for row in &table.rows {
            assert!(row.iter().all(|cell| !cell.contains("NaN")), "{name}: {row:?}");
        }
    }
}

macro_rules! questions {
    ($($test:ident $name:literal)*) => {
        const TESTED: &[&str] = &[$($name),*];
        $(
            #[test]
            fn $test() {
                answered($name);
            }
        )*
    };
}

questions! {
    setup_commands "setup-commands"
    ruleset_load "ruleset-load"
    packets "packets"
    growth "growth"
    full_apply "full-apply"
    planning "planning"
    proof "proof"
    guests "guests"
    offload "offload"
}

#[test]
fn none_is_forgotten() {
    assert_eq!(QUESTIONS.map(|(name, _)| name).as_slice(), TESTED);
}
