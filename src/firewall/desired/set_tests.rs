use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::firewall::live::nft;
use crate::firewall::{Difference, Ruleset, Surroundings, render};
use crate::topology::test_topology::topology;

/// What a template's text says of a set.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    keyword: String,
    statements: Vec<String>,
    full: bool,
    /// Where elements are put, and elements that are there.
    elements: String,
}

/// The sets that a template defines, by family and name. nft's own reading
/// of it is in [`the_kernel_gets_exactly_these_sets`].
fn written(template: &str) -> BTreeMap<(String, String), Written> {
    let (mut found, mut family, mut full) = (BTreeMap::new(), String::new(), false);
    let mut lines = template.lines().map(str::trim);
    while let Some(line) = lines.next() {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["table", of, _, "{"] => family = (*of).into(),
            ["{{#if", "full}}"] => full = true,
            ["{{/if}}"] => full = false,
            [keyword @ ("set" | "map"), name, "{"] => {
                let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "}").collect();
                let body = body.join("\n");
                let (statements, elements) = match body.find(['=', '{']) {
                    Some(at) => body.split_at(body[..at].rfind("elements").unwrap_or(at)),
                    None => (body.as_str(), ""),
                };
                let statements = statements.lines().map(|line| line.trim().to_string());
                let written = Written {
                    keyword: (*keyword).into(),
                    statements: statements.filter(|line| !line.is_empty()).collect(),
                    full,
                    elements: elements.into(),
                };
                let before = found.insert((family.clone(), (*name).into()), written);
                assert_eq!(before, None, "{name} is there twice");
            }
            _ => {}
        }
    }
    found
}

#[test]
fn the_template_defines_exactly_these_sets() {
    let written = written(include_str!("../../../templates/ruleset.nft.hbs"));
    let mut wanted = BTreeSet::new();
    for set in Set::iter() {
        let definition = set.definition();
        for family in definition.families {
            let key = (family.to_string(), set.name().to_string());
            let found = written.get(&key).unwrap_or_else(|| panic!("the template has no {key:?}"));
            assert_eq!(found.keyword, definition.keyword, "{key:?}");
            let statements: Vec<&str> =
                [definition.kind].into_iter().chain(definition.properties.iter().copied()).collect();
            assert_eq!(found.statements, statements, "{key:?}");
            assert_eq!(found.full, definition.full, "{key:?}");
            let placeholder = format!("{{{{{}}}}}", set.name());
            match definition.filled_by {
                FilledBy::Topology => assert_eq!(found.elements, placeholder),
                FilledBy::Template => assert!(found.elements.starts_with("elements = {"), "{found:?}"),
                FilledBy::Packets => assert_eq!(found.elements, ""),
            }
            wanted.insert(key);
        }
    }
    assert_eq!(written.into_keys().collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn a_policys_template_defines_exactly_these_sets() {
    let written = written(include_str!("../../../templates/policy.nft.hbs"));
    assert_eq!(written.len(), PolicySet::iter().count());
    for set in PolicySet::iter() {
        let found = &written[&(String::new(), set.name("{{chain}}"))];
        assert_eq!((found.keyword.as_str(), found.full), ("set", false));
        assert_eq!(found.statements, [set.kind(), "flags interval"]);
        let name: &str = set.into();
        assert_eq!(found.elements, format!("{{{{{name}}}}}"));
        assert_eq!(PolicySet::chain(&set.name("policy_a_b_in")), Some("policy_a_b_in"));
    }
    assert_eq!(PolicySet::chain("pairs"), None);
    assert_eq!(PolicySet::chain("policy_a_in"), None);
}

#[test]
fn the_kernel_gets_exactly_these_sets() {
    for full in [false, true] {
        let text = render(&Ruleset { full, ..Ruleset::default() }).unwrap();
        let listing = nft::rehearse(&text).unwrap();
        for family in crate::ownership::TABLE_FAMILIES {
            let wanted = Set::iter().filter(|set| {
                let definition = set.definition();
                let listed = definition.filled_by != FilledBy::Packets && (full || !definition.full);
                listed && definition.families.contains(&family)
            });
            let wanted: BTreeSet<&str> = wanted.map(Set::name).collect();
            let found: BTreeSet<&str> = listing.tables[family].sets.keys().map(String::as_str).collect();
            assert_eq!(found, wanted, "{family}, full: {full}");
        }
    }
}

#[test]
fn a_name_is_one_sets_and_no_policys() {
    for set in Set::iter() {
        assert_eq!(set.name().parse(), Ok(set));
        assert!(PolicySet::chain(set.name()).is_none_or(|chain| !chain.starts_with("policy_")));
    }
}

/// The ruleset of so many networks with both families, on a host with one uplink.
fn of_networks(count: usize) -> Ruleset {
    let networks = (0..count).map(|network| {
        let (high, low) = (network / 256, network % 256);
        format!(
            "[networks.n{network}]\ncidr = \"10.{high}.{low}.0/24\"\ncidr6 = \"fd00:0:{network:x}::/64\"\n"
        )
    });
    let spec = format!("[host]\nuplink = \"up0\"\n{}", networks.collect::<String>());
    let topology = topology(&spec);
    let uplink = crate::topology::IfName::new("up0").unwrap();
    let surroundings = Surroundings {
        uplinks: vec![uplink.clone()],
        indices: [(uplink, 1000)].into(),
        ..Surroundings::default()
    };
    Ruleset::new(&topology, &surroundings).unwrap()
}

/// Elements of public subnets, and how many of them don't lead to link 1000.
fn led_astray(listing: &crate::firewall::live::listing::Listing) -> [(usize, usize); 2] {
    ["public4", "public6"].map(|set| {
        let elements = &listing.tables[INET].sets[set];
        (elements.len(), elements.iter().filter(|element| !element.contains("\"1000\"")).count())
    })
}

#[test]
fn a_thousand_subnets_go_out_by_their_link_loaded_at_once() {
    let listing = nft::rehearse(&render(&of_networks(1100)).unwrap()).unwrap();
    assert_eq!(led_astray(&listing), [(1100, 0), (1100, 0)]);
}

#[test]
fn a_thousand_subnets_go_out_by_their_link_added_to_others() {
    let (few, many) = (of_networks(1), of_networks(1100));
    let by_ruleset = Difference::between_rulesets(&few, &many).unwrap();
    let listings = [&few, &many].map(|ruleset| nft::rehearse(&render(ruleset).unwrap()).unwrap());
    let [before, after] = &listings;
    for difference in [by_ruleset, Difference::between(before, after)] {
        let Difference::Elements(delta) = difference else { panic!("{difference:?}") };
        let listing = nft::in_scratch_namespace(|| {
            nft::load(&render(&few).unwrap())?;
            nft::change(&delta)?;
            nft::observe()
        });
        assert_eq!(led_astray(&listing.unwrap()), [(1100, 0), (1100, 0)]);
    }
}
