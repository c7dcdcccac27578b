//! The model against the rules that the kernel lists.

use std::cell::Cell;

use hostctl::reach::Model;
use proptest::test_runner::{TestCaseError, TestError};

use super::every_packet;
use super::flows::flows;
use super::scene::Scene;
use crate::support::oracle::Tables;
use crate::support::random_hosts::{RandomHost, Size, hosts, runner, seed};

/// Large enough that policies meet, small enough to be read when it fails.
pub const SIZE: Size = Size { networks: 5, vms: 2, rules: 4 };

/// Asks about every flow of a host; how many there were.
pub fn hold(scene: &Scene) -> Result<u64, String> {
    let tables = Tables::parse(&scene.listing()).map_err(|error| error.to_string())?;
    let (model, host) = (Model::new(&scene.topology, &scene.vicinity), scene.host());
    let flows = flows(scene);
    for flow in &flows {
        scene.compare(&model, &host, &tables, flow)?;
    }
    Ok(flows.len() as u64)
}

/// Asks about random hosts, each with and without the host's own forwarding;
/// how many flows there were.
///
/// # Panics
/// Where model and rules differ, with the smallest host that was found.
pub fn hold_random(seed: u64, cases: u32) -> u64 {
    let total = Cell::new(0);
    on_random_hosts(seed, cases, |scene| {
        total.set(total.get() + hold(scene)?);
        Ok(())
    });
    total.get()
}

/// Proves the rules of random hosts, each with and without the host's own
/// forwarding; in how many cases.
///
/// # Panics
/// Where there is a packet, with the smallest host that has one.
pub fn prove_random(seed: u64, cases: u32) -> usize {
    let total = Cell::new(0);
    on_random_hosts(seed, cases, |scene| {
        let listing = serde_json::from_str(&scene.listing()).map_err(|error| error.to_string())?;
        total.set(total.get() + every_packet::held(scene, &listing)?.cases);
        Ok(())
    });
    total.get()
}

fn on_random_hosts(seed: u64, cases: u32, ask: impl Fn(&Scene) -> Result<(), String>) {
    let result = runner(seed, cases, 200).run(&hosts(SIZE), |random: RandomHost| {
        let spec = random.spec();
        for scene in [Scene::new(&spec), Scene::new(&spec).forwarding()] {
            ask(&scene).map_err(TestCaseError::fail)?;
        }
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, random)) => panic!("HOSTCTL_SEED={seed}\n{}\n{reason}", random.spec()),
        Err(TestError::Abort(reason)) => panic!("HOSTCTL_SEED={seed}: {reason}"),
    }
}

#[test]
fn the_rules_of_random_hosts_are_proved() {
    let cases = prove_random(seed(), 8);
    println!("{cases} cases");
    assert!(cases > 1000, "{cases}");
}

/// The interpreter is an account of its own: it shares no line with the proof.
#[test]
fn the_kernels_rules_say_what_the_model_says() {
    let first = seed();
    let (mut flows, mut count) = (0, 0);
    while flows < 60_000 {
        flows += hold_random(first.wrapping_add(count), 1);
        count += 1;
    }
    println!("{flows} flows on {count} hosts");
}
