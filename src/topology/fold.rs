//! Names that differ in the spec and are one where case doesn't count and
//! underscores can't be: as host names, and so as names that guests know each
//! other by.

use std::collections::BTreeMap;

use crate::spec::{SpecPath, label};

use super::compile::Compiler;

impl Compiler<'_> {
    /// Refuses two names of one kind that are the same label, wherever they are
    /// written.
    pub(super) fn labels(&mut self) {
        let spec = self.spec;
        self.kind("network", &SpecPath::keys(["networks"]), spec.networks.keys());
        self.kind("VM", &SpecPath::keys(["vms"]), spec.vms.keys());
        self.kind("policy", &SpecPath::keys(["policies"]), spec.policies.keys());
        self.kind("app", &SpecPath::keys(["apps"]), spec.apps.keys());
        for (name, network) in &spec.networks {
            let path = SpecPath::keys(["networks", name, "subnets"]);
            self.kind("subnet", &path, network.subnets.keys());
        }
    }

    fn kind<'n>(&mut self, kind: &str, path: &SpecPath, names: impl Iterator<Item = &'n String>) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for name in names {
            let label = label(name);
            if let Some(first) = seen.get(&label) {
                let message =
                    format!("{name} and the {kind} {first} are one name where hosts are named: {label}");
                self.issue(
                    path.clone().key(name),
                    message,
                    "rename one of the two: capitals count as small letters, underscores as hyphens",
                );
            } else {
                seen.insert(label, name);
            }
        }
    }
}
