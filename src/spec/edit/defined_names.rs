//! The names that a spec's files define, for completions: read as far as they
//! can be read, whatever is wrong with the rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::bounded::read_bounded;
use crate::root_dir::RootDir;
use crate::spec::text::read::LONGEST_FILE;

/// What completions offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefinedNames {
    /// Networks.
    pub networks: BTreeSet<String>,
    /// Subnets of any network.
    pub subnets: BTreeSet<String>,
    /// VMs.
    pub vms: BTreeSet<String>,
    /// Policies.
    pub policies: BTreeSet<String>,
    /// Apps.
    pub apps: BTreeSet<String>,
}

impl DefinedNames {
    /// Of the host spec and its drop-ins. What the caller may not read, or
    /// isn't a spec, is left out.
    pub fn read(root: &RootDir) -> Self {
        let spec = root.host_spec();
        let mut files = vec![spec.with_extension("json"), spec.with_extension("toml")];
        let drop_ins = fs::read_dir(root.drop_ins()).into_iter().flatten().flatten();
        files.extend(drop_ins.map(|entry| entry.path()));
        let mut names = Self::default();
        for file in files {
            if let Some(document) = document(&file) {
                names.add(&document);
            }
        }
        names
    }

    fn add(&mut self, document: &Value) {
        let keys = |of: Option<&Value>| -> Vec<String> {
            let keys = of.and_then(Value::as_object).into_iter().flat_map(|object| object.keys());
            keys.filter(|key| is_word(key)).cloned().collect()
        };
        self.networks.extend(keys(document.get("networks")));
        self.vms.extend(keys(document.get("vms")));
        self.policies.extend(keys(document.get("policies")));
        self.apps.extend(keys(document.get("apps")));
        let networks = document.get("networks").and_then(Value::as_object);
        for network in networks.into_iter().flat_map(|networks| networks.values()) {
            self.subnets.extend(keys(network.get("subnets")));
        }
    }
}

/// Whether a shell can take it as it is.
fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn document(file: &Path) -> Option<Value> {
    let text = String::from_utf8(read_bounded(file, LONGEST_FILE).ok()?).ok()?;
    match file.extension()?.to_str()? {
        "toml" => toml::from_str(&text).ok(),
        "json" => serde_json::from_str(&text).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn names_are_read_as_far_as_they_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        assert_eq!(DefinedNames::read(&root), DefinedNames::default());
        let write = |file: PathBuf, text: &str| {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write(
            root.host_spec(),
            "[networks.shop]\ncidr = 7\n[networks.shop.subnets.db]\n[vms.web]\n[vms.\"a b$(x)\"]\n[policies.shut]",
        );
        write(root.drop_ins().join("commands.json"), r#"{"networks": {"lab": {}}, "apps": {"hello": 1}}"#);
        write(root.drop_ins().join("broken.toml"), "[networks");
        let names = DefinedNames::read(&root);
        let of = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            [&names.networks, &names.subnets, &names.vms, &names.policies, &names.apps].map(of),
            ["lab shop", "db", "web", "shut", "hello"]
        );
    }
}
