//! The guard of a TAP with a virtio header: whatever a guest writes there, no
//! frame arrives as another than the one that the firewall saw, and honest ones
//! arrive.

mod faithful;
mod fuzz;
mod guest;
mod headers;
mod host;
mod kinds;
mod object;
mod stage;

use std::time::Duration;

use faithful::faithful;
use hostctl::guard::{self, Attached, Program};
use kinds::{harmless, honest, hostile};
use stage::{Protection, Stage};

#[test]
fn honest_kinds_arrive_whole_and_hostile_ones_not_at_all() {
    every_kind(Program::load().unwrap());
}

fn every_kind(program: Program) {
    let mut stage = Stage::guarded_by(&program);
    let (mut honest_kinds, mut hostile_kinds, mut refused) = (0, 0, 0);
    for kind in honest() {
        let sent = stage.send(&kind.header, &kind.frame);
        assert!(sent, "the kernel takes {}", kind.name);
        let arrived = stage.arrived();
        assert!(!arrived.is_empty(), "{} arrives", kind.name);
        if let Err(error) = faithful(&kind.frame, &kind.header, &arrived, true) {
            panic!("{}: {error}", kind.name);
        }
        honest_kinds += 1;
    }
    for kind in hostile() {
        refused += u32::from(!stage.send(&kind.header, &kind.frame));
        let arrived = stage.arrived();
        assert!(arrived.is_empty(), "{} arrives: {arrived:02x?}", kind.name);
        hostile_kinds += 1;
    }
    for kind in harmless() {
        stage.send(&kind.header, &kind.frame);
        if let Err(error) = faithful(&kind.frame, &kind.header, &stage.arrived(), false) {
            panic!("{}: {error}", kind.name);
        }
    }
    assert_eq!(stage.late(Duration::from_millis(300)), Vec::<Vec<u8>>::new());
    assert!(honest_kinds >= 29 && hostile_kinds >= 295, "{honest_kinds} honest, {hostile_kinds} hostile");
    eprintln!(
        "{honest_kinds} honest kinds, {hostile_kinds} hostile ones; {refused} refused by the kernel itself"
    );
}

/// That they can do harm at all.
#[test]
fn without_a_guard_many_arrive_as_others() {
    let mut stage = Stage::new(Protection::None);
    let mut altered = 0;
    for kind in hostile() {
        stage.send(&kind.header, &kind.frame);
        let arrived = stage.arrived();
        altered += u32::from(faithful(&kind.frame, &kind.header, &arrived, false).is_err());
    }
    assert!(altered >= 60, "{altered} arrive altered");
    eprintln!("{altered} arrive altered");
}

#[test]
fn where_the_guard_is_gone_nothing_passes() {
    let mut stage = Stage::new(Protection::Guard);
    let kinds = honest();
    let index = stage.index();
    assert!(stage.netns().run(|| guard::detach(index)).is_ok());
    assert_eq!(stage.netns().run(|| guard::attached(index)).unwrap(), Attached::Nothing);
    for kind in &kinds {
        stage.send(&kind.header, &kind.frame);
        assert!(stage.arrived().is_empty(), "{} arrives", kind.name);
    }
    let program = Program::load().unwrap();
    stage.netns().run(|| program.attach(index)).unwrap();
    for kind in &kinds {
        stage.send(&kind.header, &kind.frame);
        assert!(!stage.arrived().is_empty(), "{} arrives", kind.name);
    }
}

#[test]
fn another_filter_in_its_place_is_told_and_replaced() {
    let stage = Stage::new(Protection::Guard);
    let (netns, index) = (stage.netns(), stage.index());
    let program = Program::load().unwrap();
    let own = Attached::Program(program.tag());
    assert_eq!(netns.run(|| guard::attached(index)).unwrap(), own);
    // It stays when nobody has it open any more, and is the same program again.
    drop(program);
    let program = Program::load().unwrap();
    assert_eq!(netns.run(|| guard::attached(index)).unwrap(), Attached::Program(program.tag()));
    // One that lets everything by, in its place.
    for protocol in ["all", "ip"] {
        netns.run(|| guard::detach(index)).unwrap();
        stage.tc(&format!(
            "filter add dev guest ingress prio 1 protocol {protocol} u32 match u32 0 0 flowid 1:1"
        ));
        assert_eq!(netns.run(|| guard::attached(index)).unwrap(), Attached::Other);
        netns.run(|| program.attach(index)).unwrap();
        assert_eq!(netns.run(|| guard::attached(index)).unwrap(), own);
    }
    // One that comes later changes nothing.
    stage.tc("filter add dev guest ingress prio 7 protocol ip u32 match u32 0 0 flowid 1:1");
    assert_eq!(netns.run(|| guard::attached(index)).unwrap(), own);
    netns.run(|| program.attach(index)).unwrap();
    assert_eq!(netns.run(|| guard::attached(index)).unwrap(), own);
}
