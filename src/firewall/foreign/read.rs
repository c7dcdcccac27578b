//! Reads other programs' tables with nft.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::process::{Command, Stdio};

use super::iptables_legacy;
use super::{Extended, Foreign, script};
use crate::firewall::live::listing::UnexpectedListing;
use crate::firewall::live::nft::{self, NftError};
use crate::ownership;

/// A listing that is longer isn't read: 10,000 networks of hostctl's own come
/// to about a quarter of it.
const MAX: u64 = 64 << 20;

/// How often a scratch namespace is asked for the translations of one table:
/// each rule that it refuses costs some.
const TRANSLATIONS_MAX: usize = 24;

/// Everything in this network namespace that isn't hostctl's.
///
/// # Errors
/// Where nft can't be run or understood.
pub fn observe() -> Result<Foreign, NftError> {
    let mut foreign = read()?;
    for (family, table) in foreign.extended_tables() {
        // Without its text the rules stay what can't be judged.
        let Ok(listing) = nft_list(&["-a", "list", "table", &family, &table]) else { continue };
        let rules = foreign.extended(&family, &table, &listing);
        for json in translations(&family, &rules) {
            foreign.adopt(&family, &table, &json);
        }
    }
    for (family, table) in foreign.without_devices() {
        if let Ok(listing) = nft_list(&["list", "table", &family, &table]) {
            foreign.add_devices(&family, &table, &listing);
        }
    }
    iptables_legacy::observe(&mut foreign);
    Ok(foreign)
}

/// The rules in nft's own words: all at once, or, where one is refused, in
/// halves.
fn translations(family: &str, rules: &[Extended]) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = VecDeque::from([rules]);
    for _ in 0..TRANSLATIONS_MAX {
        let Some(some) = waiting.pop_front() else { break };
        match nft::rehearse_json(&script(family, some)) {
            _ if some.is_empty() => {}
            Ok(json) => found.push(json),
            Err(_) if some.len() == 1 => {}
            Err(_) => {
                let (a, b) = some.split_at(some.len() / 2);
                waiting.extend([a, b]);
            }
        }
    }
    found
}

fn read() -> Result<Foreign, NftError> {
    let mut foreign = Foreign::default();
    match nft_list(&["-j", "list", "ruleset"]) {
        Ok(text) => {
            foreign.add(&text)?;
            foreign.forget_dormant(is_dormant);
            return Ok(foreign);
        }
        Err(NftError::Refused { stderr, .. }) if stderr.is_empty() => {}
        Err(error) => return Err(error),
    }
    // nft 1.0.6 crashes over a dormant table, and so says nothing of the rest.
    let mut foreign = Foreign::default();
    for line in nft::nft(&["list", "tables"], None)?.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(family), Some(table)) = (words.next(), words.next()) else { continue };
        if ownership::is_table(family, table) {
            continue;
        }
        match nft_list(&["-j", "list", "table", family, table]) {
            _ if is_dormant(family, table) => {}
            Ok(text) => foreign.add(&text)?,
            Err(_) => foreign.add_unreadable(family, table),
        }
    }
    Ok(foreign)
}

/// Whether a table is turned off: its chains see no packet.
fn is_dormant(family: &str, table: &str) -> bool {
    let text = nft_list(&["list", "table", family, table]).unwrap_or_default();
    text.lines()
        .take(2)
        .any(|line| line.trim().strip_prefix("flags").is_some_and(|flags| flags.contains("dormant")))
}

fn nft_list(arguments: &[&str]) -> Result<String, NftError> {
    output("nft", arguments, Stdio::null())
}

/// What a program prints, unless it is too much.
pub(in crate::firewall) fn output(
    program: &str,
    arguments: &[&str],
    input: Stdio,
) -> Result<String, NftError> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(NftError::Run)?;
    let mut text = Vec::new();
    let read = child.stdout.take().map(|stdout| stdout.take(MAX + 1).read_to_end(&mut text));
    if text.len() as u64 > MAX {
        // It would wait for ever for somebody to read on.
        child.kill().and_then(|()| child.wait()).map_err(NftError::Run)?;
        return Err(UnexpectedListing(format!(
            "{program} {} printed more than {MAX} bytes",
            arguments.join(" ")
        ))
        .into());
    }
    let mut stderr = String::new();
    // What it complains of is short; reading it after its output is safe.
    let complaint = child.stderr.take().map(|pipe| pipe.take(2000).read_to_string(&mut stderr));
    let status = child.wait().map_err(NftError::Run)?;
    read.transpose().and(complaint.transpose()).map_err(NftError::Run)?;
    if status.success() {
        return String::from_utf8(text).map_err(|error| NftError::Run(io::Error::other(error)));
    }
    Err(NftError::Refused { arguments: arguments.join(" "), stderr: stderr.trim().into() })
}
