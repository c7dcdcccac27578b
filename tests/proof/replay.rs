//! What a proof finds, held against the interpreter and against the kernel: each
//! packet that it shows fares there as it says.

use std::collections::BTreeMap;

use hostctl::firewall::nft;
use hostctl::prove::{Answer, Counterexample, Outcome, Packet, Stop, prove};
use hostctl::reach::Model;
use hostctl::testbed::{Unreplayed, replay};
use serde_json::Value;

use super::scene::Scene;
use crate::support::oracle::{Hook, Packet as Asked, Tables, Trace, name};
use crate::support::spec_parts::{network, peering};

/// What rules are for: two networks that are peered, a policy, a host that is
/// guarded too.
const SPEC: &str = concat!(
    "[host]\nfirewall = \"full\"\nallow_input = [{ protocol = \"tcp\", port = 22 }]\ndeny = [\"203.0.114.0/24\"]\n",
    network!("a" 1),
    network!("b" 2),
    peering!("a" and "b"),
    "[vms.a1]\nnetwork = \"a\"\nimage = \"probe\"\npolicy = \"p\"\n",
    "[vms.b1]\nnetwork = \"b\"\nimage = \"probe\"\n",
    "[policies.p]\ningress = [{ protocol = \"tcp\", port = 80 }]\n",
);

/// What the interpreter says of a packet; none where it knows no such packet.
fn interpreted(tables: &Tables, packet: &Packet) -> Option<Outcome> {
    let (link, out) = (packet.link.as_deref().map(name), packet.out.as_deref().map(name));
    if [link, out].contains(&Some(None)) {
        return None;
    }
    let asked = Asked::of_proof(packet, link.flatten(), out.flatten())?;
    let mut trace = Trace::default();
    let mut pass = |family, hook| tables.pass(Hook { family, hook }, &asked, &mut trace).ok();
    let hooks: &[(&str, &str)] = match (packet.stop, &packet.link) {
        (Stop::Port, _) => &[("bridge", "prerouting")],
        (Stop::PastPort, _) => &[("bridge", "input")],
        (Stop::Host, _) => &[("inet", "prerouting"), ("inet", "input")],
        (Stop::Out, Some(_)) => &[("inet", "prerouting"), ("inet", "forward"), ("inet", "postrouting")],
        (Stop::Out, None) => &[("inet", "output"), ("inet", "postrouting")],
    };
    let mut masqueraded = false;
    for (family, hook) in hooks {
        let family = if *family == "inet" { "inet" } else { "bridge" };
        let hook = ["prerouting", "input", "forward", "output", "postrouting"]
            .into_iter()
            .find(|one| one == hook)?;
        let (passes, changed) = pass(family, hook)?;
        if !passes {
            return Some(Outcome::Dropped);
        }
        masqueraded |= changed;
    }
    Some(if masqueraded { Outcome::Masqueraded } else { Outcome::Passed })
}

/// Whether somebody saw what a proof says. Of what passes a hook the proof says
/// apart whether its source address is changed where it leaves.
fn is_so(seen: Outcome, said: Outcome) -> bool {
    match said {
        Outcome::Dropped | Outcome::Masqueraded => seen == said,
        Outcome::Passed => seen != Outcome::Dropped,
    }
}

/// The rules without one of them: the lines of the text that are it.
fn without(text: &str, line: usize) -> String {
    text.lines().enumerate().filter(|(at, _)| *at != line).map(|(_, line)| format!("{line}\n")).collect()
}

/// The lines that are rules with a verdict.
fn rules(text: &str) -> Vec<(usize, &str)> {
    let verdicts = ["accept", "drop", "return", "masquerade"];
    let is_rule = |line: &str| {
        let words: Vec<&str> = line.split(" comment ").next().unwrap_or_default().split(' ').collect();
        line.starts_with("        ")
            && words.iter().any(|word| verdicts.contains(word) || ["jump", "goto", "vmap"].contains(word))
            && !line.contains("log prefix")
    };
    text.lines().enumerate().filter(|(_, line)| is_rule(line)).map(|(at, line)| (at, line.trim())).collect()
}

/// What a proof of these rules finds.
fn found(scene: &Scene, text: &str) -> Result<Vec<Counterexample>, String> {
    let listing = nft::rehearse_json(text).map_err(|error| error.to_string())?;
    let listing: Value = serde_json::from_str(&listing).unwrap();
    let model = Model::new(&scene.topology, &scene.vicinity);
    match prove(&model, &listing, &scene.indices()) {
        Answer::Equal(_) => Ok(Vec::new()),
        Answer::Different(found) => Ok(found),
        Answer::Unknown(unknown) => Err(unknown.to_string()),
    }
}

#[test]
fn what_a_proof_finds_fares_so_in_the_interpreter_and_as_a_real_packet() {
    let scene = Scene::new(SPEC);
    let text = scene.text();
    let honest = Tables::parse(&scene.listing()).unwrap();
    let exits: Vec<_> = scene.indices().into_keys().collect();
    let (mut asked, mut sent, mut unsent) = (0, 0, BTreeMap::new());
    let (mut shown, mut rules_found, mut wrong) = (0, 0, Vec::new());
    for (line, rule) in rules(&text) {
        let broken = without(&text, line);
        // Some rules are all that a chain is, or what another leads to.
        let Ok(found) = found(&scene, &broken) else { continue };
        rules_found += usize::from(!found.is_empty());
        let tables = Tables::parse(&nft::rehearse_json(&broken).unwrap()).unwrap();
        let mut seen = false;
        for one in &found {
            let (rules, model) = (one.rules, one.model.outcome());
            if let Some(interpreted) = interpreted(&tables, &one.packet) {
                let before = self::interpreted(&honest, &one.packet).unwrap();
                if !is_so(interpreted, rules) || !is_so(before, model) {
                    wrong.push(format!(
                        "without {rule}: {one}: the interpreter: {interpreted:?}, with it {before:?}"
                    ));
                }
                asked += 1;
            }
            // A namespace takes its time: a packet for each rule whose loss lets pass
            // what mustn't, and some of the others.
            if seen || (model != Outcome::Dropped && line % 5 != 0) {
                continue;
            }
            let real = |text: &str| replay(text, &scene.indices(), &exits, &one.packet);
            match real(&broken) {
                Ok(real_fate) => {
                    let before = real(&text).unwrap_or_else(|error| panic!("{one}: {error}"));
                    if !is_so(real_fate, rules) || !is_so(before, model) {
                        wrong
                            .push(format!("without {rule}: {one}: really {real_fate:?}, with it {before:?}"));
                    }
                    sent += 1;
                    shown += usize::from(model == Outcome::Dropped && real_fate == Outcome::Passed);
                    seen = true;
                }
                Err(Unreplayed::Stage(error)) => panic!("{one}: {error}"),
                Err(error) => *unsent.entry(error.to_string()).or_insert(0) += 1,
            }
        }
    }
    println!(
        "{rules_found} rules less are found; {asked} packets in the interpreter, {sent} sent, of which {shown} \
         pass that mustn't; not sent: {unsent:#?}"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(asked >= 20 && sent >= 20 && shown >= 8, "{asked} {sent} {shown}");
}
