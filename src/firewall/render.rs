//! Ruleset → the text that nft loads.

use handlebars::{Handlebars, RenderError, TemplateError};

use super::Ruleset;

const TEMPLATE: &str = include_str!("../../templates/ruleset.nft.hbs");

/// Why there is no text: a defect of the template, which a test would show.
#[derive(Debug, thiserror::Error)]
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
    let mut handlebars = Handlebars::new();
    handlebars.set_strict_mode(true);
    handlebars.register_escape_fn(handlebars::no_escape);
    handlebars.register_template_string("ruleset", TEMPLATE)?;
    Ok(handlebars.render("ruleset", ruleset)?)
}
