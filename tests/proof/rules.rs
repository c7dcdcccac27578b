//! The model against the rules that the kernel lists.

use std::cell::Cell;

use hostctl::reach::Model;
use proptest::test_runner::{TestCaseError, TestError};

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
    let result = runner(seed, cases, 200).run(&hosts(SIZE), |random: RandomHost| {
        let spec = random.spec();
        for scene in [Scene::new(&spec), Scene::new(&spec).forwarding()] {
            let flows = hold(&scene).map_err(TestCaseError::fail)?;
            total.set(total.get() + flows);
        }
        Ok(())
    });
    match result {
        Ok(()) => total.get(),
        Err(TestError::Fail(reason, random)) => panic!("HOSTCTL_SEED={seed}\n{}\n{reason}", random.spec()),
        Err(TestError::Abort(reason)) => panic!("HOSTCTL_SEED={seed}: {reason}"),
    }
}

#[test]
fn the_kernels_rules_say_what_the_model_says() {
    let first = seed();
    let (mut flows, mut count) = (0, 0);
    while flows < 300_000 {
        flows += hold_random(first.wrapping_add(count), 1);
        count += 1;
    }
    println!("{flows} flows on {count} hosts");
}
