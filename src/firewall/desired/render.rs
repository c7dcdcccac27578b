//! Ruleset → the text that nft loads.

use std::fmt::Write;

use handlebars::{Handlebars, RenderError, TemplateError};
use serde_json::{Map, Value};
use strum::IntoEnumIterator;

use super::judgement::{Class, Judgement};
use super::policy_chain::PolicyChain;
use super::ports;
use super::set::{Set, most_at_once};
use crate::firewall::Ruleset;
use crate::ownership::{INET, TABLE};

const RULESET: &str = include_str!("../../../templates/ruleset.nft.hbs");
const POLICY: &str = include_str!("../../../templates/policy.nft.hbs");
const JUDGEMENT: &str = include_str!("../../../templates/judgement.nft.hbs");

/// Why there is no text: a defect of the template, which a test would show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hostctl's own template is broken (please report it): {0}")]
pub struct TemplateFault(String);

impl From<TemplateError> for TemplateFault {
    fn from(error: TemplateError) -> Self {
        Self(error.to_string())
    }
}

impl From<RenderError> for TemplateFault {
    fn from(error: RenderError) -> Self {
        Self(error.to_string())
    }
}

/// The text that replaces hostctl's tables with those of `ruleset`.
///
/// # Errors
/// Only where the template is broken.
pub fn render(ruleset: &Ruleset) -> Result<String, TemplateFault> {
    let mut data = sets(ruleset.sets.all());
    data.insert("full".into(), ruleset.full.into());
    data.insert("policies".into(), ruleset.policies.iter().map(policy_data).collect());
    data.extend(judgement_data(&ruleset.judgement));
    data.extend(ports::template_values().map(|(name, value)| (name.into(), value)));
    Ok(fill("ruleset", &Value::Object(data))? + &more_elements(ruleset))
}

/// The marks of the flows that the rules let pass, as the template writes and
/// compares them.
fn judgement_data(judgement: &Judgement) -> Map<String, Value> {
    let hexadecimal = |bits: u32| Value::from(format!("{bits:#010x}"));
    let mut data = Map::new();
    // Without it nobody is known by a mark, and nobody gets one.
    data.insert("by_mark".into(), judgement.marks().into());
    for (name, bits) in [
        ("mark_mask", judgement.mask().bits()),
        ("mark_rest", judgement.rest()),
        ("judged_between", judgement.mark(Class::Between)),
        ("judged_out", judgement.mark(Class::Out)),
    ] {
        data.insert(name.into(), hexadecimal(bits));
    }
    data
}

/// The elements of sets that have more than one command takes.
fn more_elements(ruleset: &Ruleset) -> String {
    let mut text = String::new();
    for set in Set::iter() {
        let most = most_at_once(set.name());
        for elements in ruleset.elements(set).chunks(most).skip(1) {
            for family in set.definition().families {
                let elements = elements.join(",\n    ");
                let _ =
                    write!(text, "\nadd element {family} {TABLE} {} {{\n    {elements}\n}}\n", set.name());
            }
        }
    }
    text
}

/// The part of the text that is about one direction of a policy.
pub(in crate::firewall) fn render_policy(policy: &PolicyChain) -> Result<String, TemplateFault> {
    fill("policy", &policy_data(policy))
}

/// Whether flows are known by their marks in the rules at all.
pub fn marks_flows() -> bool {
    RULESET.contains("{{> judgement}}")
}

/// The chains in which marks are known and given.
const JUDGING: [&str; 3] = ["known", "judged_out", "judged_between"];

/// What gives the loaded rules other marks, and changes nothing else: nft's commands,
/// for the transaction that makes it necessary.
///
/// # Errors
/// Only where the template is broken.
pub(in crate::firewall) fn render_judgement(judgement: &Judgement) -> Result<String, TemplateFault> {
    let flushed = JUDGING.map(|chain| format!("flush chain {INET} {TABLE} {chain}\n")).concat();
    let chains = fill("judgement", &Value::Object(judgement_data(judgement)))?;
    Ok(format!("{flushed}table {INET} {TABLE} {{\n{chains}}}\n"))
}

/// The same for people.
pub(in crate::firewall) fn judgement_command() -> String {
    let [known, out, between] = JUDGING;
    format!("nft flush chain {INET} {TABLE} {known}    # and {out}, {between}: flows are judged anew")
}

fn policy_data(policy: &PolicyChain) -> Value {
    let PolicyChain { chain, what, far, open, sets: elements } = policy;
    let mut data = sets(elements.all());
    data.insert("open".into(), (*open).into());
    for (name, text) in [("chain", chain), ("what", what), ("far", far)] {
        data.insert(name.into(), text.as_str().into());
    }
    Value::Object(data)
}

/// Lists of elements, as the template puts them behind a set's type: nothing for
/// an empty set, since nft takes no empty list.
fn sets<'a>(sets: impl Iterator<Item = (&'static str, &'a [String])>) -> Map<String, Value> {
    let text = |elements: &[String]| match elements {
        [] => String::new(),
        elements => {
            format!("\n        elements = {{\n            {}\n        }}", elements.join(",\n            "))
        }
    };
    sets.map(|(name, elements)| {
        let first = elements.get(..most_at_once(name)).unwrap_or(elements);
        (name.into(), text(first).into())
    })
    .collect()
}

/// The shape of all texts: two that differ in it have other rules.
pub fn shape() -> String {
    format!("{RULESET}{POLICY}{JUDGEMENT}")
}

fn fill(template: &str, data: &Value) -> Result<String, TemplateFault> {
    let mut handlebars = Handlebars::new();
    handlebars.set_strict_mode(true);
    handlebars.register_escape_fn(handlebars::no_escape);
    handlebars.register_template_string("ruleset", RULESET)?;
    handlebars.register_template_string("policy", POLICY)?;
    handlebars.register_template_string("judgement", JUDGEMENT)?;
    Ok(handlebars.render(template, data)?)
}
