//! What hostctl turned on, written down: the firewall's sets say so too, but
//! anybody's `nft flush ruleset` empties those.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::firewall::Surroundings;
use crate::record::{self, Field, each, lenient};
use crate::root_dir::RootDir;
use crate::topology::IfName;
use crate::whole_file;

use crate::host::HostError;

/// The version that is written. A later one may say more; what is read here
/// means the same in each.
const VERSION: u32 = 1;

fn path(root: &RootDir) -> PathBuf {
    root.run().join("forwarding.json")
}

/// What is written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// What hostctl turned on.
    pub surroundings: Surroundings,
    /// Other programs' bridges that were there when it did so first; none where
    /// that isn't known.
    pub bridges: Option<Vec<String>>,
}

/// How it is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    version: Field<u32>,
    #[serde(deserialize_with = "each")]
    uplinks: Vec<IfName>,
    opened: Field<Vec<Field<IfName>>>,
    closed6: Field<bool>,
    #[serde(deserialize_with = "lenient")]
    indices: BTreeMap<IfName, u32>,
    #[serde(deserialize_with = "each")]
    on_link: Vec<IpNet>,
    #[serde(deserialize_with = "each", skip_serializing_if = "Vec::is_empty")]
    guarded: Vec<IfName>,
    #[serde(deserialize_with = "lenient")]
    bridges: Option<Vec<String>>,
}

impl From<&Forwarding> for Record {
    fn from(Forwarding { surroundings, bridges }: &Forwarding) -> Self {
        let Surroundings { uplinks, opened, closed6, indices, on_link, guarded } = surroundings.clone();
        Self {
            version: Field::Is(VERSION),
            uplinks,
            opened: Field::Is(opened.into_iter().map(Field::Is).collect()),
            closed6: Field::Is(closed6),
            indices,
            on_link,
            guarded,
            bridges: bridges.clone(),
        }
    }
}

impl From<Record> for Forwarding {
    fn from(record: Record) -> Self {
        let Record { version: _, uplinks, opened, closed6, indices, on_link, guarded, bridges } = record;
        // Where something was turned on, and it can't be read what, it is taken
        // for hostctl's: what isn't a guest's is closed.
        let opened = match opened {
            Field::Is(names) => names.into_iter().filter_map(Field::into_option).collect(),
            Field::Missing => Vec::new(),
            Field::Unreadable => uplinks.clone(),
        };
        let closed6 = closed6.or(false).unwrap_or(true);
        let surroundings = Surroundings { uplinks, opened, closed6, indices, on_link, guarded };
        Self { surroundings, bridges }
    }
}

/// What was written down; nothing where nothing can be read.
pub fn read(root: &RootDir) -> Forwarding {
    let text = fs::read(path(root)).unwrap_or_default();
    record::parse::<Record>(&text).unwrap_or_default().into()
}

/// Writes it down, before it is done.
///
/// # Errors
/// Where the file can't be written.
pub fn write(root: &RootDir, forwarding: &Forwarding) -> Result<(), HostError> {
    let path = path(root);
    let text = serde_json::to_vec(&Record::from(forwarding)).map_err(std::io::Error::from);
    let written = text.and_then(|text| whole_file::replace(&path, text));
    written.map_err(|source| HostError::File { path, source })
}

/// Forgets it.
///
/// # Errors
/// Where the file can't be removed.
pub fn remove(root: &RootDir) -> Result<(), HostError> {
    let path = path(root);
    whole_file::remove(&path).map_err(|source| HostError::File { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IfName {
        IfName::new(text).unwrap()
    }

    fn parse(text: &str) -> Forwarding {
        record::parse::<Record>(text.as_bytes()).unwrap().into()
    }

    /// Kept for ever: what d346908 wrote.
    #[test]
    fn what_was_written_is_read_as_what_it_was() {
        let kept = |host: &str| {
            let path = format!("tests/data/records/d346908/{host}/run/hostctl/forwarding.json");
            parse(&fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
        };
        let plain = kept("plain");
        assert_eq!(plain.surroundings.uplinks, [name("uplink0")]);
        assert_eq!(plain.surroundings.opened, [name("uplink0")]);
        assert!(!plain.surroundings.closed6);
        assert_eq!(plain.bridges, Some(Vec::new()));
        let everything = kept("everything").surroundings;
        assert_eq!(everything.opened, [name("uplink0"), name("tailscale0")]);
        assert!(everything.closed6);
        assert_eq!(everything.indices.keys().collect::<Vec<_>>(), [&name("uplink0")]);
        assert_eq!(everything.on_link.len(), 2);
        for forwarding in [plain, kept("everything")] {
            let text = serde_json::to_string(&Record::from(&forwarding)).unwrap();
            assert_eq!(parse(&text), forwarding);
        }
    }

    #[test]
    fn what_cant_be_read_leaves_the_host_closed() {
        let read = parse(
            r#"{"version": 9, "later": 1, "uplinks": ["eth0", "no such name", 7], "opened": 7, "closed6": "yes",
                "indices": [], "on_link": ["192.0.2.0/24", "x"], "bridges": "docker0"}"#,
        );
        let surroundings = Surroundings {
            uplinks: vec![name("eth0")],
            opened: vec![name("eth0")],
            closed6: true,
            on_link: vec!["192.0.2.0/24".parse().unwrap()],
            ..Surroundings::default()
        };
        assert_eq!(read, Forwarding { surroundings, bridges: None });
        assert_eq!(parse(r#"{"opened": [7, "eth1"]}"#).surroundings.opened, [name("eth1")]);
        assert_eq!(parse("{}"), Forwarding::default());
    }
}
