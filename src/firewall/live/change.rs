//! Two rulesets → how to get from one to the other, without a listing.

use std::collections::BTreeSet;

use strum::IntoEnumIterator;

use super::delta::{Delta, Parts, element_command};
use super::difference::Difference;
use crate::firewall::desired::judgement::Judgement;
use crate::firewall::desired::policy_chain::PolicyChain;
use crate::firewall::desired::render::{
    TemplateFault, judgement_command, marks_flows, render_judgement, render_policy,
};
use crate::firewall::desired::ruleset::Ruleset;
use crate::firewall::desired::set::{Set, most_at_once};
use crate::ownership::{INET, TABLE};

/// Elements of one set.
struct Elements {
    family: &'static str,
    set: String,
    elements: Vec<String>,
}

/// A transaction in the order in which nft takes it: what refers goes before
/// what is referred to, and comes after it.
#[derive(Default)]
struct Script<'a> {
    deleted: Vec<Elements>,
    flushed: Vec<&'a PolicyChain>,
    gone: Vec<&'a PolicyChain>,
    /// With or without their elements.
    defined: Vec<PolicyChain>,
    /// The marks of the flows that are allowed from now on, where they are others.
    judged: Option<Judgement>,
    added: Vec<Elements>,
}

impl Difference {
    /// From a ruleset that is loaded to the desired one.
    ///
    /// # Errors
    /// Only where the template is broken.
    pub fn between_rulesets(loaded: &Ruleset, desired: &Ruleset) -> Result<Self, TemplateFault> {
        if loaded == desired {
            return Ok(Self::None);
        }
        if loaded.full != desired.full {
            return Ok(Self::Replace { reason: "the firewall's mode changed".into() });
        }
        let mut script = Script::default();
        for set in Set::iter() {
            for family in set.definition().families {
                script.change(family, set.name(), loaded.elements(set), desired.elements(set));
            }
        }
        let named =
            |ruleset: &'_ Ruleset, chain: &str| ruleset.policies.iter().position(|p| p.chain == chain);
        script.gone = loaded.policies.iter().filter(|old| named(desired, &old.chain).is_none()).collect();
        for policy in &desired.policies {
            let old = named(loaded, &policy.chain).and_then(|index| loaded.policies.get(index));
            script.policy(old, policy);
        }
        script.judged = (marks_flows() && loaded.judgement != desired.judgement).then_some(desired.judgement);
        if script.is_empty() { Ok(Self::None) } else { script.delta().map(Self::Elements) }
    }
}

impl<'a> Script<'a> {
    fn change(&mut self, family: &'static str, set: &str, found: &[String], wanted: &[String]) {
        let (found, wanted): (BTreeSet<&String>, BTreeSet<&String>) =
            (found.iter().collect(), wanted.iter().collect());
        let elements = |elements: Vec<&String>| Elements {
            family,
            set: set.into(),
            elements: elements.into_iter().cloned().collect(),
        };
        let gone: Vec<_> = found.difference(&wanted).copied().collect();
        let new: Vec<_> = wanted.difference(&found).copied().collect();
        self.deleted.extend((!gone.is_empty()).then(|| elements(gone)));
        self.added.extend((!new.is_empty()).then(|| elements(new)));
    }

    fn policy(&mut self, old: Option<&'a PolicyChain>, new: &PolicyChain) {
        let Some(old) = old else {
            self.defined.push(new.clone());
            return;
        };
        if old.open != new.open {
            self.flushed.push(old);
            self.defined.push(new.bare());
        }
        for ((set, wanted), (_, found)) in new.sets().zip(old.sets()) {
            self.change(INET, &set, found, wanted);
        }
    }

    fn is_empty(&self) -> bool {
        self.deleted.is_empty()
            && self.added.is_empty()
            && self.gone.is_empty()
            && self.defined.is_empty()
            && self.judged.is_none()
    }

    /// The same by messages of hostctl's own, but for chains, rules and sets;
    /// nothing where an element isn't understood.
    fn parts(&self) -> Result<Option<Parts>, TemplateFault> {
        let mut parts = Parts::default();
        let fits =
            |parts: &mut Parts, add: bool, of: &Elements| parts.push(add, of.family, &of.set, &of.elements);
        let mut all = self.deleted.iter().all(|of| fits(&mut parts, false, of));
        for policy in &self.defined {
            for (set, elements) in policy.sets() {
                all &= parts.push(true, INET, &set, elements);
            }
        }
        all &= self.added.iter().all(|of| fits(&mut parts, true, of));
        parts.rules = self.rules(PolicyChain::bare)?;
        Ok(all.then_some(parts))
    }

    /// What nft is told of chains, rules and sets; nothing where none changes.
    fn rules(&self, definition: impl Fn(&PolicyChain) -> PolicyChain) -> Result<String, TemplateFault> {
        let judging = self.judged.as_ref().map(render_judgement).transpose()?.unwrap_or_default();
        if self.flushed.is_empty() && self.gone.is_empty() && self.defined.is_empty() {
            return Ok(judging);
        }
        let flushed = self.flushed.iter().chain(&self.gone);
        let flushed = flushed.map(|policy| format!("flush chain {INET} {TABLE} {}\n", policy.chain));
        let gone = self.gone.iter().map(|policy| {
            let sets = policy.sets().map(|(set, _)| format!("delete set {INET} {TABLE} {set}\n"));
            format!("delete chain {INET} {TABLE} {}\n{}", policy.chain, sets.collect::<String>())
        });
        let defined: Result<String, TemplateFault> =
            self.defined.iter().map(|policy| render_policy(&definition(policy))).collect();
        let defined = format!("table {INET} {TABLE} {{\n{}}}\n", defined?);
        Ok(flushed.chain(gone).chain([defined, judging]).collect())
    }

    fn delta(&self) -> Result<Delta, TemplateFault> {
        let text: String = self
            .deleted
            .iter()
            .map(|part| part.text("delete"))
            .chain([self.rules(PolicyChain::clone)?])
            .chain(self.added.iter().map(|part| part.text("add")))
            .collect();
        let chain = |verb: &str, policy: &PolicyChain| {
            format!("nft {verb} chain {INET} {TABLE} {}    # and its sets: see hostctl render", policy.chain)
        };
        let commands = self
            .deleted
            .iter()
            .map(|part| part.command(false))
            .chain(self.gone.iter().map(|policy| chain("delete", policy)))
            .chain(self.defined.iter().map(|policy| chain("add", policy)))
            .chain(self.judged.iter().map(|_| judgement_command()))
            .chain(self.added.iter().map(|part| part.command(true)))
            .collect();
        Ok(Delta::text(text, commands).by(self.parts()?))
    }
}

/// What an element is found by, without what it limits.
fn key(element: &str) -> &str {
    let limited = [" limit rate ", " ct count "].iter().filter_map(|word| element.find(word)).min();
    limited.and_then(|end| element.get(..end)).unwrap_or(element)
}

impl Elements {
    fn text(&self, verb: &str) -> String {
        let Self { family, set, elements } = self;
        // What an element limits, nft takes where it is made and not where it is deleted.
        let elements: Vec<&str> = match verb {
            "delete" => elements.iter().map(|element| key(element)).collect(),
            _ => elements.iter().map(String::as_str).collect(),
        };
        let chunks = elements.chunks(most_at_once(set));
        let line =
            |part: &[&str]| format!("{verb} element {family} {TABLE} {set} {{ {} }}\n", part.join(", "));
        chunks.map(line).collect()
    }

    fn command(&self, add: bool) -> String {
        // Names need no quotes where a person types them.
        let shown = self.elements.iter().map(|element| if add { element } else { key(element) });
        let plain: Vec<String> = shown.map(|element| element.replace('"', "")).collect();
        element_command(add, self.family, &self.set, &plain)
    }
}
