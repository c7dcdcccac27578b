//! The order of whole plans, without a kernel.

use crate::firewall::{Difference, Forget, Live, Ruleset};
use crate::topology::Topology;
use crate::topology::test_topology::topology;
use crate::vm;

use super::apply::current::{Current, Guest};
use super::apply::goal::{Goal, Restart};
use super::apply::plan::{left_to_units, plan, removal, waiting};
use super::apply::step::Step;

const SPEC: &str = r#"
    [networks.a]
    cidr = "10.1.0.0/24"
    [vms.x]
    network = "a"
    image = "probe"
    [vms.y]
    network = "a"
    image = "probe"
"#;

/// A firewall that is loaded.
fn loaded() -> Live {
    Live::Known(Box::default())
}

/// The goal where the firewall differs, or doesn't.
fn goal(topology: &Topology, differs: bool) -> Goal<'_> {
    let difference = if differs { Difference::absent() } else { Difference::None };
    Goal {
        topology,
        whole: topology,
        ruleset: Ruleset::default(),
        listing: None,
        listed: Ruleset::default().judgement,
        difference,
        text: String::new(),
        forget: [None, None],
        restart: Restart::No,
    }
}

fn running(topology: &Topology) -> Vec<Guest> {
    let guest = |vm: &crate::topology::Vm| Guest {
        name: vm.name.clone(),
        pending: Vec::new(),
        running: true,
        supervised: true,
    };
    topology.vms.iter().map(guest).collect()
}

/// One word a step.
fn kinds(steps: &[Step]) -> Vec<String> {
    let kind = |step: &Step| match step {
        Step::StopVm { name, .. } => format!("stop {name}"),
        Step::EndStray { name, .. } => format!("end {name}"),
        Step::Link(crate::link::Step::Delete { .. }) => "remove link".into(),
        Step::Link(_) => "link".into(),
        Step::LoadFirewall { .. } | Step::ChangeFirewall(_) => "firewall".into(),
        Step::CutFlows(_) => "cut".into(),
        Step::ForgetMarks(_) => "forget".into(),
        Step::KeepApart(_) => "apart".into(),
        Step::RemoveFirewall => "no firewall".into(),
        Step::StopApp { name, .. } => format!("stop app {name}"),
        Step::Evict { namespace } => format!("empty {namespace}"),
        Step::StartApp { app } => format!("start app {}", app.name),
        Step::StartVm { vm, .. } => format!("start {}", vm.name),
    };
    let mut kinds: Vec<String> = steps.iter().map(kind).collect();
    kinds.dedup();
    kinds
}

#[test]
fn marks_are_taken_back_on_both_sides_of_the_rules_and_only_with_them() {
    let topology = topology(SPEC);
    let forget = [Some(Forget::all(0xf000_0000)), Some(Forget::all(0x1000))];
    let steps = plan(&Goal { forget, ..goal(&topology, true) }, &Current::default());
    assert_eq!(kinds(&steps)[..4], ["forget", "firewall", "forget", "cut"]);
    let steps = plan(&Goal { forget, ..goal(&topology, false) }, &Current::default());
    assert!(!kinds(&steps).contains(&"forget".into()));
}

#[test]
fn the_firewall_comes_first_and_guests_last() {
    let topology = topology(SPEC);
    let steps = plan(&goal(&topology, true), &Current::default());
    assert_eq!(kinds(&steps), ["firewall", "cut", "link", "start x", "start y"]);
}

#[test]
fn what_goes_goes_before_the_firewall_changes() {
    let before = topology(SPEC);
    let after = topology(SPEC.split("[vms.y]").next().unwrap());
    let mut current = Current { firewall: loaded(), guests: running(&before), ..Current::default() };
    let link =
        crate::link::Link { group: crate::ownership::LINK_GROUP, kind: "tun".into(), ..Default::default() };
    current.links.links.insert("vm-y".into(), link);
    let steps = plan(&goal(&after, true), &current);
    assert_eq!(kinds(&steps), ["stop y", "remove link", "firewall", "cut", "link"]);
}

/// Guests of `before` that run, seen by who wants `after`.
fn seen(before: &Topology, after: &Topology) -> Vec<Guest> {
    let mut guests = running(before);
    let launched = |name| before.vm(name).map(vm::VmRecord::from);
    for guest in &mut guests {
        let name = guest.name.as_str();
        guest.pending =
            after.vm(name).map(|wanted| vm::differences(launched(name).as_ref(), wanted)).unwrap_or_default();
    }
    guests
}

#[test]
fn a_guest_is_restarted_only_where_its_machine_changed_and_by_consent() {
    let before = topology(SPEC);
    let guests = |spec: &str, restart: &Restart| {
        let after = topology(spec);
        let current = Current { firewall: loaded(), guests: seen(&before, &after), ..Current::default() };
        let goal = Goal { restart: restart.clone(), ..goal(&after, false) };
        let steps = plan(&goal, &current);
        let waits = waiting(&after, &current, &steps).len();
        (kinds(&steps).into_iter().filter(|kind| kind != "link").collect::<Vec<_>>(), waits)
    };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let none = || words(&[]);
    assert_eq!(guests(SPEC, &Restart::All), (none(), 0));
    let bigger = SPEC.replacen("image", "memory = \"1G\"\n image", 1);
    assert_eq!(guests(&bigger, &Restart::No), (none(), 1));
    assert_eq!(guests(&bigger, &Restart::All), (words(&["stop x", "start x"]), 0));
    let named = |name: &str| Restart::Named([name.to_string().try_into().unwrap()].into());
    assert_eq!(guests(&bigger, &named("x")), (words(&["stop x", "start x"]), 0));
    assert_eq!(guests(&bigger, &named("y")), (none(), 1));
    let supervisors = SPEC.replacen("image", "restart = false\nautostart = false\n image", 1);
    assert_eq!(guests(&supervisors, &Restart::All), (none(), 0));
    let resolver = SPEC.replacen("[vms.x]", "[host]\ndns = [\"9.9.9.9\"]\n[vms.x]", 1);
    assert_eq!(guests(&resolver, &Restart::No), (none(), 2));
    assert_eq!(guests(&resolver, &Restart::All).0.len(), 4);
    // Who leaves the spec needs no consent.
    let without = SPEC.split("[vms.y]").next().unwrap();
    assert_eq!(guests(without, &Restart::No), (words(&["stop y"]), 0));
}

#[test]
fn a_guest_of_a_unit_is_stopped_by_apply_and_never_started() {
    let of_units = SPEC.replace("image", "supervisor = \"unit\"\n image");
    let before = topology(&of_units);
    let guests = |spec: &str, current: &Current| {
        let after = topology(spec);
        let mut current = current.clone();
        if !current.guests.is_empty() {
            let supervised = current.guests[0].supervised;
            current.guests = seen(&before, &after);
            current.guests.iter_mut().for_each(|guest| guest.supervised = supervised);
        }
        let current = &current;
        let steps = plan(&Goal { restart: Restart::All, ..goal(&after, false) }, current);
        let left: Vec<String> =
            left_to_units(&after, current, &steps).iter().map(ToString::to_string).collect();
        let steps: Vec<String> = kinds(&steps).into_iter().filter(|kind| kind.contains(['x', 'y'])).collect();
        (steps, left.join(" "))
    };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let nothing = Current { firewall: loaded(), ..Current::default() };
    assert_eq!(guests(&of_units, &nothing), (words(&[]), "x y".into()));
    let by_hand = of_units.replacen("supervisor", "autostart = false\n supervisor", 1);
    assert_eq!(guests(&by_hand, &nothing), (words(&[]), "y".into()));

    let current = Current { guests: running(&before), ..nothing };
    assert_eq!(guests(&of_units, &current), (words(&[]), String::new()));
    let bigger = of_units.replacen("image", "memory = \"1G\"\n image", 1);
    assert_eq!(guests(&bigger, &current), (words(&["stop x"]), "x".into()));
    let without = of_units.split("[vms.y]").next().unwrap();
    assert_eq!(guests(without, &current), (words(&["stop y"]), String::new()));
    // Who watches it isn't what it is; a unit's own supervisor comes again.
    assert_eq!(guests(SPEC, &current), (words(&[]), String::new()));
    let mut alone = current;
    alone.guests.iter_mut().for_each(|guest| guest.supervised = false);
    assert_eq!(guests(&of_units, &alone), (words(&[]), "x y".into()));
}

#[test]
fn a_guest_without_a_supervisor_gets_one_and_one_without_a_name_is_ended() {
    let topology = topology(SPEC);
    let mut guests = running(&topology);
    guests[0].supervised = false;
    let strays = vec![(7, "z".to_string())];
    let current = Current { firewall: loaded(), guests, strays, ..Current::default() };
    let steps = plan(&goal(&topology, false), &current);
    let kinds: Vec<String> = kinds(&steps).into_iter().filter(|kind| kind != "link").collect();
    assert_eq!(kinds, ["end z", "start x"]);
}

#[test]
fn down_ends_guests_then_links_then_the_firewall() {
    let topology = topology(SPEC);
    let mut current = Current { firewall: loaded(), guests: running(&topology), ..Current::default() };
    for (name, kind, group) in [
        ("br-a", "bridge", crate::ownership::LINK_GROUP),
        ("vm-x", "tun", crate::ownership::LINK_GROUP),
        ("br-0", "bridge", 0),
    ] {
        let link = crate::link::Link { group, kind: kind.into(), ..Default::default() };
        current.links.links.insert(name.into(), link);
    }
    let steps = removal(&current);
    assert_eq!(kinds(&steps), ["stop x", "stop y", "remove link", "no firewall"]);
    let links: Vec<String> =
        steps.iter().flat_map(Step::commands).filter(|c| c.starts_with("ip link")).collect();
    assert_eq!(links, ["ip link del vm-x", "ip link del br-a"]);
}
