//! A policy in a file of its own, such as the JSON of VPC tools before hostctl.

use std::path::Path;

use super::decode::decode;
use super::document::{Document, Value};
use super::merge::explained;
use super::problem::{Problem, SpecError};
use super::read::{self, read};
use crate::spec::{Policy, SpecPath};

/// Reads one policy, in JSON or TOML; `-` is standard input.
///
/// # Errors
/// Everything that is wrong with the file, and with the policy on its own.
pub fn load_policy(path: &Path) -> Result<Policy, SpecError> {
    let text = read(path).map_err(|problem| SpecError::new(vec![problem]))?;
    let (document, mut problems) = Document::parse(read::name(path), text);
    let policy = document.as_ref().and_then(|document| policy(document, &mut problems));
    match policy {
        Some(policy) if problems.is_empty() => Ok(policy),
        _ => Err(SpecError::new(problems)),
    }
}

fn policy(document: &Document, problems: &mut Vec<Problem>) -> Option<Policy> {
    let root = SpecPath::default();
    if !matches!(document.root.value, Value::Table(_)) {
        let hint = "write { \"ingress\": [ … ], \"egress\": [ … ] }";
        problems.push(document.problem(&root, "a policy is one object", Some(hint)));
        return None;
    }
    let mut refused = Vec::new();
    let policy: Option<Policy> = decode(&document.root, &root, &mut refused);
    problems.extend(refused.iter().map(|refused| explained(document, refused)));
    // What a rule lacks may be what was refused of it.
    let table = |path: &SpecPath| path.0.split_last().map(|(_, table)| table.to_vec());
    let broken: Vec<_> = refused.iter().map(|refused| table(&refused.path)).collect();
    let issues = policy.iter().flat_map(|policy| policy.issues(&root));
    let issues = issues.filter(|issue| !issue.dangling || !broken.contains(&table(&issue.path)));
    problems.extend(issues.map(|issue| document.problem(&issue.path, &issue.message, Some(&issue.hint))));
    policy
}
