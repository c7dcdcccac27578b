//! Marks in rules that a kernel has loaded, and their change.

use std::thread;

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::*;
use crate::firewall::desired::judgement::Judgement;
use crate::firewall::desired::render::{marks_flows, render, render_judgement};
use crate::firewall::desired::ruleset::Ruleset;
use crate::firewall::live::difference::Difference;
use crate::firewall::live::nft;
use crate::topology::MarkMask;

fn alone<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test()
    });
    thread.join().unwrap()
}

/// The whole text, with the chains that know marks.
fn text(judgement: Judgement) -> String {
    let mut ruleset = Ruleset::default();
    ruleset.judgement = judgement;
    let text = render(&ruleset).unwrap();
    if marks_flows() {
        return text;
    }
    let around = "table inet hostctl { set ways_out { type ifname . iface_index; }; set ways_back { type ifname . ifname; }; chain admitted { accept; }; chain known {}; chain judged_out {}; chain judged_between {}; }\n";
    text + around + &render_judgement(&judgement).unwrap()
}

fn judgements() -> Vec<Judgement> {
    let masks = [0xf000_0000, 0x1f00, 0x00ff_0000, 0xf];
    masks
        .into_iter()
        .flat_map(|bits| {
            let first = Judgement::first(MarkMask::new(bits).unwrap());
            let all = std::iter::successors(Some(first), move |judgement| {
                Some(judgement.next()).filter(|next| *next != first)
            });
            // Of another mask than the default the first two, and the last.
            let all: Vec<Judgement> = all.collect();
            let last = all.len() - 1;
            let all = all.into_iter().enumerate();
            let some = all.filter(move |(index, _)| bits == 0xf000_0000 || *index < 2 || *index == last);
            some.map(|(_, judgement)| judgement).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_listing_says_by_which_marks_flows_are_known() {
    for judgement in judgements() {
        let listing = nft::rehearse(&text(judgement)).unwrap();
        assert_eq!(listing.judgement(), LoadedMarks::Of(judgement), "{judgement:?}");
    }
    let unmarked = nft::rehearse(&text(Judgement::unmarked(MarkMask::default()))).unwrap();
    assert_eq!(unmarked.judgement(), LoadedMarks::None);
    assert_eq!(Listing::default().judgement(), LoadedMarks::None);
}

#[test]
fn marks_that_somebody_meddled_with_arent_known() {
    let whole = text(Judgement::default());
    for (from, to) in [
        (
            "ct mark & 0xf0000000 == 0x30000000 iifname . oif ",
            "ct mark & 0xf0000000 == 0x50000000 iifname . oif ",
        ),
        (
            "ct mark & 0xf0000000 == 0x30000000 iifname . oif ",
            "ct mark & 0xf0000000 != 0x30000000 iifname . oif ",
        ),
        (
            "ct mark & 0xf0000000 == 0x30000000 iifname . oif ",
            "ct mark & 0x70000000 == 0x30000000 iifname . oif ",
        ),
        ("ct mark & 0xf0000000 == 0x30000000 iifname . oif ", "ct mark 0x30000000 iifname . oif "),
        (
            "ct mark & 0xf0000000 == 0x30000000 iifname . oif ",
            "ct mark & 0xf0000000 == 0x10000000 iifname . oif ",
        ),
        ("ct mark & 0x0fffffff | 0x30000000", "ct mark & 0x0fffffff | 0x70000000"),
        ("ct mark & 0x0fffffff | 0x30000000", "0x30000000"),
        ("ct mark & 0x0fffffff | 0x30000000", "meta mark & 0x0fffffff | 0x30000000"),
    ] {
        let changed = whole.replacen(from, to, 1);
        assert_ne!(changed, whole, "{from}");
        assert_eq!(nft::rehearse(&changed).unwrap().judgement(), LoadedMarks::Unknown, "{to}");
    }
}

/// Handles of everything but the three chains' rules.
fn handles() -> Vec<String> {
    let text = nft::nft(&["-j", "-a", "list", "table", "inet", "hostctl"], None).unwrap();
    let listing: Value = serde_json::from_str(&text).unwrap();
    let judging = ["known", "judged_out", "judged_between"];
    let is_of = |object: &&Value| !judging.iter().any(|chain| object["rule"]["chain"] == **chain);
    listing["nftables"].as_array().unwrap().iter().filter(is_of).map(Value::to_string).collect()
}

#[test]
fn other_marks_leave_all_other_rules_as_they_are() {
    alone(|| {
        let first = Judgement::default();
        nft::load(&text(first)).unwrap();
        let before = handles();
        let mut judgement = first;
        for next in [first.next(), first.next().next(), first, Judgement::unmarked(first.mask()), first] {
            nft::load(&render_judgement(&next).unwrap()).unwrap();
            assert_eq!(
                nft::observe().unwrap(),
                nft::rehearse(&text(next)).unwrap(),
                "{judgement:?} {next:?}"
            );
            judgement = next;
        }
        assert_eq!(handles(), before);
    });
}

/// Elements and marks change together, or not at all.
#[test]
fn a_difference_of_listings_takes_the_marks_along() {
    alone(|| {
        let (first, next) = (Judgement::default(), Judgement::default().next());
        nft::load(&text(first)).unwrap();
        nft::load("add element inet hostctl net4 { 10.9.0.0/24 }").unwrap();
        let live = nft::observe().unwrap();
        let desired = nft::rehearse(&text(first)).unwrap();
        let difference = Difference::between_judged(&live, &desired, &next).unwrap();
        let Difference::Elements(delta) = difference else { panic!("{difference:?}") };
        let last = delta.commands().pop().unwrap();
        assert!(last.starts_with("nft flush chain inet hostctl known "), "{last}");
        nft::change(&delta).unwrap();
        assert_eq!(nft::observe().unwrap(), nft::rehearse(&text(next)).unwrap());
        assert!(nft::change(&delta).is_err(), "the element is gone");
        assert_eq!(nft::observe().unwrap().judgement(), LoadedMarks::Of(next));
    });
}
