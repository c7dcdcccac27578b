//! `hostctl prove template`.

use std::time::Instant;

use hostctl::host;
use hostctl::prove::template::{Answer, Counterexample, Parts};
use serde_json::{Value, json};

use crate::cli::terminal::{Tone, paint};
use crate::cli::{Context, Failure, line, output};

use super::told::rule_json;
use super::unproved;

/// Proves each set of rules that there is, up to the first that isn't equal.
pub fn template(context: &Context) -> Result<(), Failure> {
    let (mut all, mut differ) = (Vec::new(), None);
    for parts in Parts::ALL {
        let begun = Instant::now();
        let answer = host::prove_template(parts)?;
        let time = begun.elapsed();
        let mut told = json!({ "firewall": mode(parts), "policies": parts.policies });
        match answer {
            Answer::Unknown(unknown) => return Err(unproved(&unknown)),
            Answer::Equal(extent) if context.json => {
                told["answer"] = "equal".into();
                told["hooks"] = extent.cases.into();
                told["rules"] = extent.rules.len().into();
                told["seconds"] = time.as_secs_f64().into();
            }
            Answer::Equal(extent) => line(format!(
                "{} for every host and packet: {}, {} hooks, {} rules decide ({time:.2?})",
                paint("equal", Tone::Good),
                called(parts),
                extent.cases,
                extent.rules.len(),
            ))?,
            Answer::Different(found) => {
                differ = Some(output::count(found.len(), "kind"));
                told["answer"] = "different".into();
                told["packets"] = found.iter().map(found_json).collect();
                if !context.json {
                    line(format!("{} on some hosts: {}", paint("different", Tone::Bad), called(parts)))?;
                    found.iter().try_for_each(|found| line(found.to_string()))?;
                }
            }
            Answer::Misfits(found) => {
                differ = Some(output::count(found.len(), "kind"));
                told["answer"] = "different".into();
                told["sets"] = found.iter().map(ToString::to_string).collect();
                if !context.json {
                    found.iter().try_for_each(|found| line(found.to_string()))?;
                }
            }
        }
        all.push(told);
        if differ.is_some() {
            break;
        }
    }
    if context.json {
        output::json(&Value::Array(all))?;
    }
    match differ {
        None => Ok(()),
        Some(count) => Err(Failure::Found(format!(
            "the template and the model don't say the same of {count} of packets"
        ))),
    }
}

const fn mode(parts: Parts) -> &'static str {
    if parts.full { "full" } else { "guests" }
}

fn called(parts: Parts) -> String {
    let policies = if parts.policies { "policies" } else { "no policies" };
    format!("firewall = \"{}\" with {policies}", mode(parts))
}

fn found_json(found: &Counterexample) -> Value {
    let facts = found.facts.iter().map(|(fact, yes)| json!({ "is": fact.words(), "true": yes }));
    json!({
        "packet": found.packet.to_string(),
        "facts": facts.collect::<Vec<_>>(),
        "rules": found.rules.as_str(),
        "rule": found.rule.as_ref().map(rule_json),
        "model": found.model.outcome().as_str(),
    })
}
