//! The template against the model, for every host: what its sets hold is left
//! open. And the sets of hosts against what the proof says that they hold.

use hostctl::firewall::{Ruleset, Surroundings, nft, render};
use hostctl::prove::Extent;
use hostctl::prove::template::{Answer, Parts, Schematic, Sets, sets, template};
use hostctl::reach::Model;
use proptest::test_runner::{TestCaseError, TestError};
use serde_json::{Value, json};

use super::full_host::FULL;
use super::rules::SIZE;
use super::scene::Scene;
use crate::support::random_hosts::{RandomHost, hosts, runner, seed};

/// What nft makes of the template with these parts.
pub fn template_of(host: &Schematic) -> Value {
    let surroundings = Surroundings {
        uplinks: host.vicinity.uplinks.clone(),
        indices: host.indices.clone(),
        ..Surroundings::default()
    };
    let text = render(&Ruleset::new(&host.topology, &surroundings).unwrap()).unwrap();
    serde_json::from_str(&nft::rehearse_json(&text).unwrap()).unwrap()
}

/// Every way in which the rules of a listing aren't what the model says on some
/// host.
fn proved(host: &Schematic, listing: &Value) -> Result<Extent, String> {
    match template(host, listing) {
        Answer::Equal(extent) => Ok(extent),
        Answer::Different(found) => Err(found.iter().map(|found| format!("{found}\n")).collect()),
        Answer::Misfits(found) => Err(found.iter().map(|found| format!("{found}\n")).collect()),
        Answer::Unknown(unknown) => Err(unknown.to_string()),
    }
}

/// With all of its parts.
pub const WHOLE: Parts = Parts { full: true, policies: true };

fn objects(listing: &mut Value) -> &mut Vec<Value> {
    listing["nftables"].as_array_mut().unwrap()
}

/// A rule's place, by its chain and the beginning of its comment.
fn rule(listing: &Value, chain: &str, comment: &str) -> usize {
    let is = |object: &Value| {
        let rule = &object["rule"];
        rule["chain"] == chain && rule["comment"].as_str().is_some_and(|text| text.starts_with(comment))
    };
    listing["nftables"].as_array().unwrap().iter().position(is).unwrap()
}

#[test]
fn the_template_is_proved_for_every_host() {
    for parts in Parts::ALL {
        let host = Schematic::new(parts).unwrap();
        let extent = proved(&host, &template_of(&host)).unwrap_or_else(|found| panic!("{parts:?}\n{found}"));
        assert!(extent.slices == 50 && extent.rules.len() > 70, "{parts:?}: {extent:?}");
        // No rule is there for nothing: what passes early is judged by another one later.
        let dead: Vec<_> = extent.dead.iter().map(|rule| rule.comment.as_str()).collect();
        let mut expected = vec!["duplicate address detection; judged at the port"];
        expected.extend((!parts.policies).then_some("a guest's policy denies it"));
        assert_eq!(dead, expected, "{parts:?}");
    }
}

#[test]
fn a_change_of_the_template_is_judged_for_hosts_that_nobody_has() {
    let host = Schematic::new(WHOLE).unwrap();
    let before = template_of(&host);
    let mut without = before.clone();
    objects(&mut without).remove(rule(&before, "not_public", "host.deny"));
    let found = proved(&host, &without).unwrap_err();
    assert!(found.contains("yes: its destination is in host.deny"), "{found}");
    assert!(found.contains("by the model dropped"), "{found}");

    // Who is asked first makes no difference where both say the same.
    let mut swapped = before.clone();
    let place = rule(&before, "to_guest", "a guest's address from elsewhere");
    objects(&mut swapped).swap(place, place + 1);
    proved(&host, &swapped).unwrap_or_else(|found| panic!("{found}"));

    // A look-up more that says what is known already.
    let mut asked_twice = before.clone();
    let place = rule(&before, "from_guest", "public subnet to the internet");
    let guest = json!({ "match": { "op": "==", "right": "@guest4", "left": { "concat": [
        { "meta": { "key": "iifname" } }, { "payload": { "protocol": "ip", "field": "saddr" } },
    ] } } });
    objects(&mut asked_twice)[place]["rule"]["expr"].as_array_mut().unwrap().insert(0, guest);
    proved(&host, &asked_twice).unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn what_the_template_puts_into_its_sets_is_part_of_it() {
    let host = Schematic::new(WHOLE).unwrap();
    let mut changed = template_of(&host);
    let set = objects(&mut changed).iter_mut().find(|object| object["set"]["name"] == "metadata4").unwrap();
    set["set"]["elem"].as_array_mut().unwrap().retain(|element| *element != "168.63.129.16");
    let found = proved(&host, &changed).unwrap_err();
    assert!(found.contains("set metadata4 has no element for"), "{found}");
    assert!(found.contains("168.63.129.16"), "{found}");
}

#[test]
fn what_nobody_says_the_meaning_of_is_never_equal() {
    let host = Schematic::new(WHOLE).unwrap();
    let mut changed = template_of(&host);
    let place = rule(&changed, "from_guest", "public subnet to the internet");
    let other = json!({ "match": { "op": "==", "right": "@guest4", "left": { "concat": [
        { "meta": { "key": "iifname" } }, { "payload": { "protocol": "ip", "field": "daddr" } },
    ] } } });
    objects(&mut changed)[place]["rule"]["expr"].as_array_mut().unwrap().insert(0, other);
    let found = proved(&host, &changed).unwrap_err();
    assert!(found.contains("what it means that guest4 has an element for [In, Destination]"), "{found}");
}

/// Every way in which a host's sets don't hold what the proof says.
fn held(scene: &Scene, listing: &Value) -> Result<usize, String> {
    let model = Model::new(&scene.topology, &scene.vicinity);
    match sets(&model, listing, &scene.indices()) {
        Sets::Equal(looked) => Ok(looked),
        Sets::Different(found) => Err(found.iter().map(|found| format!("{found}\n")).collect()),
        Sets::Unknown(unknown) => Err(unknown.to_string()),
    }
}

fn listed(scene: &Scene) -> Value {
    serde_json::from_str(&scene.listing()).unwrap()
}

#[test]
fn the_sets_of_a_host_with_everything_hold_what_they_mean() {
    for scene in [Scene::new(FULL), Scene::new(FULL).forwarding()] {
        let looked = held(&scene, &listed(&scene)).unwrap_or_else(|found| panic!("{found}"));
        assert!(looked > 800, "{looked}");
    }
}

#[test]
fn the_sets_of_random_hosts_hold_what_they_mean() {
    let seed = seed();
    let result = runner(seed, 12, 200).run(&hosts(SIZE), |random: RandomHost| {
        let spec = random.spec();
        for scene in [Scene::new(&spec), Scene::new(&spec).forwarding()] {
            held(&scene, &listed(&scene)).map_err(TestCaseError::fail)?;
        }
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, random)) => panic!("HOSTCTL_SEED={seed}\n{}\n{reason}", random.spec()),
        Err(TestError::Abort(reason)) => panic!("HOSTCTL_SEED={seed}: {reason}"),
    }
}

/// Sets of which an element less is another matter: parts of ports are given by
/// limits, which the model doesn't know; packets are followed from behind guards.
const NOT_HELD: [&str; 3] = ["port_share", "port_share6", "guarded"];

#[test]
fn an_element_less_of_any_set_is_noticed() {
    let scene = Scene::new(FULL);
    let listing = listed(&scene);
    let (mut tried, mut missed) = (0, Vec::new());
    for (place, object) in listing["nftables"].as_array().unwrap().iter().enumerate() {
        for kind in ["set", "map"] {
            let name = object[kind]["name"].as_str().unwrap_or_default();
            let elements = object[kind]["elem"].as_array().map_or(0, Vec::len);
            if elements == 0 || NOT_HELD.contains(&name) {
                continue;
            }
            let mut without = listing.clone();
            objects(&mut without)[place][kind]["elem"].as_array_mut().unwrap().remove(elements / 2);
            tried += 1;
            missed.extend(held(&scene, &without).is_ok().then(|| name.to_string()));
        }
    }
    assert!(tried > 60, "{tried}");
    assert_eq!(missed, Vec::<String>::new());
}
