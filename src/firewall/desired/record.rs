//! A ruleset as it is written down (`firewall.json`). One that isn't known whole
//! isn't known: the next change is computed from it, and what was left out would
//! stay in the kernel's tables.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator;

use super::judgement::JudgementRecord;
use super::policy_chain::PolicyChain;
use super::ruleset::Ruleset;
use super::set::{Elements, ElementsBySet, FilledBy, PolicySet, Set};

/// What is written of a ruleset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesetRecord {
    full: bool,
    /// None where its rules marked nothing yet: they are others than today's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    judgement: Option<JudgementRecord>,
    policies: Vec<PolicyRecord>,
    /// Every set's elements, by the sets' names.
    #[serde(flatten)]
    sets: BTreeMap<String, Elements>,
}

/// What is written of one direction of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PolicyRecord {
    chain: String,
    what: String,
    far: String,
    open: bool,
    #[serde(flatten)]
    sets: BTreeMap<String, Elements>,
}

impl From<&Ruleset> for RulesetRecord {
    fn from(Ruleset { full, judgement, sets, policies }: &Ruleset) -> Self {
        let policies = policies.iter().map(PolicyRecord::from).collect();
        let judgement = Some((*judgement).into());
        Self { full: *full, judgement, policies, sets: written(sets, of_ruleset()) }
    }
}

impl From<&PolicyChain> for PolicyRecord {
    fn from(policy: &PolicyChain) -> Self {
        let PolicyChain { chain, what, far, open, sets } = policy.clone();
        Self { chain, what, far, open, sets: written(&sets, PolicySet::iter()) }
    }
}

impl RulesetRecord {
    /// The ruleset; none where the record lacks a set, or has one that this
    /// version doesn't know.
    pub fn ruleset(self) -> Option<Ruleset> {
        let Self { full, judgement, policies, sets } = self;
        let judgement = judgement?.judgement()?;
        let policies = policies.into_iter().map(PolicyRecord::policy).collect::<Option<_>>()?;
        Some(Ruleset { full, judgement, policies, sets: read(sets, of_ruleset())? })
    }
}

impl PolicyRecord {
    fn policy(self) -> Option<PolicyChain> {
        let Self { chain, what, far, open, sets } = self;
        Some(PolicyChain { chain, what, far, open, sets: read(sets, PolicySet::iter())? })
    }
}

/// The elements of `which` sets, by name.
fn written<S: Ord + Copy + Into<&'static str>>(
    sets: &ElementsBySet<S>,
    which: impl Iterator<Item = S>,
) -> BTreeMap<String, Elements> {
    let name = |set: S| -> &'static str { set.into() };
    which.map(|set| (name(set).to_owned(), sets.of(&set).to_vec())).collect()
}

/// The elements of exactly `which` sets.
fn read<S: Ord + FromStr>(
    sets: BTreeMap<String, Elements>,
    which: impl Iterator<Item = S>,
) -> Option<ElementsBySet<S>> {
    let known = sets.into_iter().map(|(name, elements)| Some((name.parse().ok()?, elements)));
    let known: BTreeMap<S, Elements> = known.collect::<Option<_>>()?;
    which.collect::<BTreeSet<S>>().iter().eq(known.keys()).then(|| known.into())
}

/// Those of a ruleset.
fn of_ruleset() -> impl Iterator<Item = Set> {
    Set::iter().filter(|set| set.definition().filled_by == FilledBy::Topology)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::firewall::Surroundings;
    use crate::firewall::desired::judgement::Judgement;
    use crate::topology::test_topology::topology;

    fn ruleset() -> Ruleset {
        let spec = "[networks.a]\ncidr = \"10.1.0.0/24\"\n[vms.v]\nnetwork = \"a\"\nimage = \"i\"\npolicy = \"p\"\n\
                    [policies.p]\ningress = [{ protocol = \"tcp\", port = 80 }]\n";
        Ruleset::new(&topology(spec), &Surroundings::default()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let written = serde_json::to_string(&RulesetRecord::from(&ruleset())).unwrap();
        let read = serde_json::from_str::<RulesetRecord>(&written).unwrap().ruleset();
        assert_eq!(read, Some(ruleset()));
        assert_eq!(read.unwrap().policies.len(), 1);
    }

    /// As d346908 wrote it; kept for ever. It has no judgement, and once there are
    /// other sets too the rules are others: it has to be none.
    #[test]
    fn what_was_loaded_is_read_as_what_it_was() {
        for (host, full, ports, policies) in [("plain", false, 1, 0), ("everything", true, 5, 3)] {
            let path = format!("tests/data/records/d346908/{host}/run/hostctl/firewall.json");
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            let kept: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let record: RulesetRecord = serde_json::from_value(kept["ruleset"].clone()).unwrap();
            assert_eq!(serde_json::to_value(&record).unwrap(), kept["ruleset"], "{host}");
            let same = record.sets.keys().eq(written(&ElementsBySet::default(), of_ruleset()).keys());
            assert_eq!(record.clone().ruleset(), None, "{host}");
            let judgement = Some(Judgement::default().into());
            let read = RulesetRecord { judgement, ..record }.ruleset();
            assert_eq!(read.is_some(), same, "{host}");
            let Some(read) = read else { continue };
            let found = (read.full, read.elements(Set::Ports).len(), read.policies.len());
            assert_eq!(found, (full, ports, policies), "{host}");
        }
    }

    /// A set that is taken for empty would keep what it has in the kernel.
    #[test]
    fn one_that_isnt_known_whole_isnt_known() {
        let whole = serde_json::to_value(RulesetRecord::from(&ruleset())).unwrap();
        let read = |value: Value| serde_json::from_value::<RulesetRecord>(value).ok()?.ruleset();
        let mut parts: Vec<(&str, String)> =
            whole.as_object().unwrap().keys().map(|key| ("", key.clone())).collect();
        let policy = whole["policies"][0].as_object().unwrap();
        parts.extend(policy.keys().map(|key| ("/policies/0", key.clone())));
        assert!(parts.len() > 50, "{parts:?}");
        for (place, key) in parts {
            let mut missing = whole.clone();
            missing.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(&key).unwrap();
            assert_eq!(read(missing), None, "{place} {key}");
            let mut odd = whole.clone();
            odd.pointer_mut(place).unwrap()[&key] = json!({ "odd": 7 });
            assert_eq!(read(odd), None, "{place} {key}");
        }
        for place in ["", "/policies/0"] {
            let mut more = whole.clone();
            more.pointer_mut(place).unwrap()["later"] = json!(["10.0.0.0/8"]);
            assert_eq!(read(more), None);
        }
    }
}
