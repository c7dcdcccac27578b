//! `make soak`: all comparisons with one seed after another, for as long as
//! one likes.

use std::time::{Duration, Instant};

use super::packets::{self, CHANGING, LARGE, SMALL};
use super::rules;
use crate::support::random_hosts::seed;

/// `HOSTCTL_MINUTES`, 10 by default. The first seed is tried in any case.
fn minutes() -> Duration {
    let minutes = std::env::var("HOSTCTL_MINUTES").map_or(10.0, |text| {
        text.trim().parse::<f64>().unwrap_or_else(|error| panic!("HOSTCTL_MINUTES={text}: {error}"))
    });
    Duration::from_secs_f64(minutes * 60.0)
}

#[test]
#[ignore = "takes as long as one likes: make soak"]
fn for_minutes() {
    let (first, lab, start, wanted) = (seed(), packets::lab(), Instant::now(), minutes());
    let (mut probed, mut asked, mut cases, mut seeds) = (0, 0, 0, 0);
    while seeds == 0 || start.elapsed() < wanted {
        let seed = first.wrapping_add(seeds);
        asked += rules::hold_random(seed, 1);
        cases += rules::prove_random(seed, 1);
        for plan in [SMALL, LARGE, CHANGING] {
            probed += packets::hold_random(&lab, seed, plan);
        }
        seeds += 1;
        if seeds.is_multiple_of(10) {
            println!("{seeds} seeds, {cases} cases proved, {asked} flows by the rules, {probed} by packets");
        }
    }
    println!(
        "{seeds} seeds from {first} in {:.0?}: {cases} cases proved, {asked} flows by the rules, {probed} by packets",
        start.elapsed()
    );
}
