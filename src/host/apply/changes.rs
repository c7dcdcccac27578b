//! What differs between two host specs, in short.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::HostSpec;

/// What `new` has (`+network web`), has no more (`-vm db`) and has otherwise
/// (`~policy p`); `~host` is the machine's own part.
pub fn changes(old: &HostSpec, new: &HostSpec) -> Vec<String> {
    let mut found = Vec::new();
    if old.host != new.host {
        found.push("~host".into());
    }
    named("network", &old.networks, &new.networks, &mut found);
    let pairs = |spec: &HostSpec| -> BTreeSet<String> {
        let pair = |pair: &crate::spec::Peering| {
            let [a, b] = &pair.between;
            if a <= b { format!("{a}-{b}") } else { format!("{b}-{a}") }
        };
        spec.peerings.iter().map(pair).collect()
    };
    let (before, after) = (pairs(old), pairs(new));
    found.extend(after.difference(&before).map(|pair| format!("+peering {pair}")));
    found.extend(before.difference(&after).map(|pair| format!("-peering {pair}")));
    named("vm", &old.vms, &new.vms, &mut found);
    named("policy", &old.policies, &new.policies, &mut found);
    named("app", &old.apps, &new.apps, &mut found);
    found
}

fn named<T: PartialEq>(
    what: &str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    found: &mut Vec<String>,
) {
    let added = new.keys().filter(|name| !old.contains_key(*name));
    found.extend(added.map(|name| format!("+{what} {name}")));
    let removed = old.keys().filter(|name| !new.contains_key(*name));
    found.extend(removed.map(|name| format!("-{what} {name}")));
    let changed = new.iter().filter(|(name, value)| old.get(*name).is_some_and(|old| old != *value));
    found.extend(changed.map(|(name, _)| format!("~{what} {name}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_goes_and_changes_is_named() {
        let old: HostSpec = toml::from_str(
            r#"
            [networks.a]
            cidr = "10.1.0.0/24"
            [networks.b]
            cidr = "10.2.0.0/24"
            [[peerings]]
            between = ["b", "a"]
            [vms.x]
            network = "a"
            image = "probe"
            "#,
        )
        .unwrap();
        let new: HostSpec = toml::from_str(
            r#"
            [host]
            firewall = "full"
            [networks.a]
            cidr = "10.1.0.0/24"
            imds = "host"
            [networks.c]
            cidr = "10.3.0.0/24"
            [vms.x]
            network = "a"
            image = "probe"
            [policies.p]
            ingress = []
            "#,
        )
        .unwrap();
        assert_eq!(
            changes(&old, &new),
            ["~host", "+network c", "-network b", "~network a", "-peering a-b", "+policy p"]
        );
        assert_eq!(changes(&new, &new), [""; 0]);
        let turned: HostSpec = toml::from_str("[[peerings]]\nbetween = [\"a\", \"b\"]").unwrap();
        let other: HostSpec = toml::from_str("[[peerings]]\nbetween = [\"b\", \"a\"]").unwrap();
        assert_eq!(changes(&turned, &other), [""; 0]);
    }
}
