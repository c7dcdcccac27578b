//! Ruleset → the text that nft loads.

use handlebars::{Handlebars, RenderError, TemplateError};
use serde_json::Value;

use super::policy_chain::PolicyChain;
use super::ports;
use crate::firewall::Ruleset;

const RULESET: &str = include_str!("../../../templates/ruleset.nft.hbs");
const POLICY: &str = include_str!("../../../templates/policy.nft.hbs");

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

impl From<serde_json::Error> for TemplateFault {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// The text that replaces hostctl's tables with those of `ruleset`.
///
/// # Errors
/// Only where the template is broken.
pub fn render(ruleset: &Ruleset) -> Result<String, TemplateFault> {
    let mut data = serde_json::to_value(ruleset)?;
    write_elements(&mut data);
    if let Some(fields) = data.as_object_mut() {
        fields.extend(ports::template_values().map(|(name, value)| (name.into(), value)));
    }
    fill("ruleset", &data)
}

/// The part of the text that is about one direction of a policy.
pub(in crate::firewall) fn render_policy(policy: &PolicyChain) -> Result<String, TemplateFault> {
    let mut data = serde_json::to_value(policy)?;
    write_elements(&mut data);
    fill("policy", &data)
}

/// The shape of all texts: two that differ in it have other rules.
pub fn shape() -> String {
    format!("{RULESET}{POLICY}")
}

fn fill(template: &str, data: &Value) -> Result<String, TemplateFault> {
    let mut handlebars = Handlebars::new();
    handlebars.set_strict_mode(true);
    handlebars.register_escape_fn(handlebars::no_escape);
    handlebars.register_template_string("ruleset", RULESET)?;
    handlebars.register_template_string("policy", POLICY)?;
    Ok(handlebars.render(template, data)?)
}

/// Writes lists of elements as the template puts them behind a set's type:
/// nothing for an empty set, since nft takes no empty list.
fn write_elements(data: &mut Value) {
    let Some(fields) = data.as_object_mut() else { return };
    for (name, value) in fields {
        match value {
            Value::Array(policies) if name == "policies" => policies.iter_mut().for_each(write_elements),
            Value::Array(elements) => {
                let elements: Vec<&str> = elements.iter().filter_map(Value::as_str).collect();
                *value = match elements.len() {
                    0 => "".into(),
                    _ => {
                        let list = elements.join(",\n            ");
                        format!("\n        elements = {{\n            {list}\n        }}").into()
                    }
                };
            }
            _ => {}
        }
    }
}
