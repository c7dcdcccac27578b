//! The proof can fail: elements of each set are widened. Each time a packet is
//! found, or it is proved that nothing changes for any packet, and said here
//! why. Elements are taken away in `template`, rules in `template_losses`.

use std::net::IpAddr;

use hostctl::packet::{Family, number};
use hostctl::prove::{Answer, Side, difference, refute};
use hostctl::reach::Model;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::full_host::FULL;
use super::scene::Scene;

/// What changes nothing for any packet, by the reason: how it begins. What isn't
/// here has to be found, so a new set is found or explained.
const EQUIVALENT: &[(&str, &[&str])] = &[
    (
        "what is added is there already: the next guest's address, the next network's prefix",
        &[
            r#"wider inet guest4 {"concat":["br-a","10.1.0.2"]}"#,
            r#"wider inet guest4 {"concat":["br-b","10.2.0.2"]}"#,
            r#"wider inet guest6 {"concat":["br-a","fd00:0:0:1::2"]}"#,
            r#"wider inet guest6 {"concat":["br-b","fd00:0:0:2::2"]}"#,
            r#"wider inet net6 {"prefix":{"addr":"fd00:0:0:2::","len":64}}"#,
        ],
    ),
    (
        "no guest has what is added, and what isn't a guest's passes no earlier rule",
        &[
            r#"wider inet public4 {"concat":["br-b""#,
            r#"wider inet public6 {"concat":["br-b""#,
            "wider inet new_flows",
            "wider inet flows",
        ],
    ),
    (
        "what is added is the public internet, of which `closed4` and `closed6` ask first",
        &[
            r#"wider inet denied4 {"prefix":{"addr":"203.0.114.0","len":24}}"#,
            r#"wider inet denied6 {"prefix":{"addr":"2001:db8:9::","len":48}}"#,
            r#"wider inet lan4 {"concat":["br-a",{"prefix":{"addr":"192.168.0.0","len":16}}]}"#,
            r#"wider inet metadata4 "168.63.129.16""#,
            r#"wider inet metadata6 {"prefix":{"addr":"::","len":64}}"#,
        ],
    ),
];

/// A change of a listing, in words.
struct Mutation {
    what: String,
    listing: Value,
}

fn objects(listing: &Value) -> &Vec<Value> {
    listing["nftables"].as_array().unwrap()
}

fn with(listing: &Value, what: String, change: impl FnOnce(&mut Vec<Value>)) -> Mutation {
    let mut objects = objects(listing).clone();
    change(&mut objects);
    Mutation { what, listing: json!({ "nftables": objects }) }
}

/// A value that covers more: a prefix a bit shorter, an address and its
/// neighbour.
fn wider(value: &Value) -> Option<Value> {
    let mut value = value.clone();
    widen(&mut value).then_some(value)
}

fn widen(value: &mut Value) -> bool {
    match value {
        Value::Object(object) if object.contains_key("range") => false,
        Value::Object(object) if object.contains_key("prefix") => {
            let length = object["prefix"]["len"].as_u64().unwrap();
            let Some(shorter) = length.checked_sub(1) else { return false };
            let net = format!("{}/{shorter}", object["prefix"]["addr"].as_str().unwrap());
            let net: IpNet = net.parse().unwrap();
            object["prefix"] = json!({ "addr": net.network(), "len": shorter });
            true
        }
        // What an element limits isn't what it is found by.
        Value::Object(object) if object.contains_key("val") => widen(&mut object["val"]),
        Value::Object(object) => object.values_mut().any(widen),
        Value::Array(parts) => parts.iter_mut().rev().any(widen),
        Value::String(text) => match text.parse::<IpAddr>() {
            Ok(address) => {
                let family = Family::of(address);
                let next = family.address(number(address).saturating_add(1));
                *value = json!({ "range": [address, next] });
                true
            }
            Err(_) => match next_mac(text) {
                Some(next) => {
                    *value = json!({ "range": [text, next] });
                    true
                }
                None => false,
            },
        },
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            *value = json!({ "range": [number, number + 1] });
            true
        }
        _ => false,
    }
}

fn next_mac(text: &str) -> Option<String> {
    let (front, last) = text.rsplit_once(':').filter(|_| text.len() == 17)?;
    Some(format!("{front}:{:02x}", u8::from_str_radix(last, 16).ok()?.checked_add(1)?))
}

/// The first elements of each set are widened.
fn of_elements(listing: &Value) -> Vec<Mutation> {
    const FIRST: usize = 2;
    let mut found = Vec::new();
    for (index, object) in objects(listing).iter().enumerate() {
        for kind in ["set", "map"] {
            let Some(set) = object.get(kind) else { continue };
            let name = format!("{} {}", set["family"].as_str().unwrap(), set["name"].as_str().unwrap());
            for (place, element) in set["elem"].as_array().into_iter().flatten().enumerate().take(FIRST) {
                let key = if kind == "map" { &element[0] } else { element };
                let Some(wide) = wider(key) else { continue };
                found.push(with(listing, format!("wider {name} {key}"), |objects| {
                    let element = &mut objects[index][kind]["elem"][place];
                    if kind == "map" { element[0] = wide } else { *element = wide }
                }));
            }
        }
    }
    found
}

/// Whether a change is found by the proof, or by holding the two listings
/// against each other, as what is beyond a limit is; not where they are the same
/// for every packet.
fn is_found(scene: &Scene, model: &Model<'_>, listing: &Value, changed: &Value) -> Result<bool, String> {
    match refute(model, changed, &scene.indices()) {
        Answer::Different(_) => return Ok(true),
        Answer::Unknown(unknown) => return Err(unknown.to_string()),
        Answer::Equal(_) => {}
    }
    let side = |listing| Side { model: Some(model), listing };
    let other = difference((side(listing), side(changed)), &scene.indices());
    Ok(!other.map_err(|unknown| unknown.to_string())?.is_empty())
}

#[test]
fn every_wider_element_is_found_or_explained() {
    let scene = Scene::new(FULL);
    let listing: Value = serde_json::from_str(&scene.listing()).unwrap();
    let model = Model::new(&scene.topology, &scene.vicinity);
    let (mut quiet, mut count) = (Vec::new(), 0);
    for Mutation { what, listing: changed } in of_elements(&listing) {
        count += 1;
        match is_found(&scene, &model, &listing, &changed) {
            Ok(true) => {}
            Ok(false) => quiet.push(what),
            Err(unknown) => quiet.push(format!("{what}: {unknown}")),
        }
    }
    println!("{count} elements, {} of them change nothing", quiet.len());
    let expected: Vec<&str> = EQUIVALENT.iter().flat_map(|(_, changes)| *changes).copied().collect();
    let is_of = |what: &str, expected: &&&str| what.starts_with(**expected);
    let stale: Vec<_> =
        expected.iter().filter(|expected| !quiet.iter().any(|what| is_of(what, expected))).collect();
    assert!(stale.is_empty(), "found after all: {stale:#?}");
    quiet.retain(|what| !expected.iter().any(|expected| is_of(what, &expected)));
    assert!(quiet.is_empty(), "{quiet:#?}");
}
