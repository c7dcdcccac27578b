//! How allocations are written down: a record of its own, read leniently. What
//! of it can't be read is given as to a new guest; the rest stays.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::Field;
use crate::topology::{Allocation, Allocations};

/// The version that is written.
const VERSION: u32 = 1;

/// What a generation's file says of its guests' allocations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Of the record. A later one may say more, and what is read here means
    /// the same in each.
    #[serde(default)]
    version: Field<u32>,
    /// VMs by name.
    #[serde(default)]
    vms: Field<BTreeMap<String, Value>>,
    /// Subnets' namespaces by name.
    #[serde(default)]
    namespaces: Field<BTreeMap<String, Value>>,
}

impl Record {
    /// As it is written.
    pub fn of(allocations: &Allocations) -> Self {
        let written = |guests: &BTreeMap<String, Allocation>| {
            let one = |(name, guest): (&String, &Allocation)| (name.clone(), write(guest));
            guests.iter().map(one).collect()
        };
        Self {
            version: Field::Is(VERSION),
            vms: Field::Is(written(&allocations.vms)),
            namespaces: Field::Is(written(&allocations.namespaces)),
        }
    }

    /// What it says; of what it doesn't say, `otherwise`.
    pub fn read(&self, otherwise: impl FnOnce() -> Allocations) -> Allocations {
        let read = |guests: &BTreeMap<String, Value>| {
            guests.iter().map(|(name, guest)| (name.clone(), read(guest))).collect()
        };
        let (vms, namespaces) = (self.vms.get().map(read), self.namespaces.get().map(read));
        match (vms, namespaces) {
            (Some(vms), Some(namespaces)) => Allocations { vms, namespaces },
            (vms, namespaces) => {
                let otherwise = otherwise();
                Allocations {
                    vms: vms.unwrap_or(otherwise.vms),
                    namespaces: namespaces.unwrap_or(otherwise.namespaces),
                }
            }
        }
    }
}

/// The keys of a guest, which are those of the file.
fn write(guest: &Allocation) -> Value {
    let Allocation { network, address, address6, mac, interface, uid } = guest;
    let mut keys = serde_json::Map::new();
    let values = [
        ("network", serde_json::to_value(network)),
        ("address", serde_json::to_value(address)),
        ("address6", serde_json::to_value(address6)),
        ("mac", serde_json::to_value(mac)),
        ("interface", serde_json::to_value(interface)),
        ("uid", serde_json::to_value(uid)),
    ];
    for (key, value) in values {
        if let Ok(value) = value
            && !value.is_null()
        {
            keys.insert(key.into(), value);
        }
    }
    Value::Object(keys)
}

fn read(guest: &Value) -> Allocation {
    Allocation {
        network: key(guest, "network"),
        address: key(guest, "address"),
        address6: key(guest, "address6"),
        mac: key(guest, "mac"),
        interface: key(guest, "interface"),
        uid: key(guest, "uid"),
    }
}

fn key<T: DeserializeOwned>(guest: &Value, name: &str) -> Option<T> {
    serde_json::from_value(guest.get(name)?.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::given;

    fn allocations() -> Allocations {
        given(
            &toml::from_str(
                r#"
[networks.n]
cidr = "10.0.0.0/24"
cidr6 = "fd00::/64"
[networks.n.subnets.s]
cidr = "10.0.0.0/25"
cidr6 = "fd00::/80"
type = "public"
namespace = true
[vms.a]
network = "n"
image = "i"
"#,
            )
            .unwrap(),
        )
    }

    #[test]
    fn what_is_written_is_read() {
        let given = allocations();
        let text = serde_json::to_string(&Record::of(&given)).unwrap();
        let record: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(record.read(Allocations::default), given);
        assert_eq!((given.vms.len(), given.namespaces.len()), (1, 1));
    }

    /// Kept for ever: what version 1 wrote.
    #[test]
    fn version_1_is_read_and_what_a_later_one_adds_is_no_harm() {
        let text = r#"{"version": 9, "more": [], "vms": {
            "a": {"network": "n", "address": "10.0.0.7", "address6": "fd00::7", "mac": "02:00:00:00:00:07",
                  "interface": "vm-a", "uid": 1879048193, "extra": {}},
            "b": {"address": "no address", "mac": "02:00:00:00:00:08"},
            "c": 7}}"#;
        let read = serde_json::from_str::<Record>(text).unwrap().read(Allocations::default);
        let [a, b, c] = ["a", "b", "c"].map(|name| read.vms.get(name).unwrap().clone());
        assert_eq!(a.address6.unwrap().to_string(), "fd00::7");
        assert_eq!((a.uid, a.interface.unwrap().to_string()), (Some(1_879_048_193), "vm-a".into()));
        assert_eq!((b.address, b.mac.unwrap().to_string()), (None, "02:00:00:00:00:08".into()));
        assert_eq!(c, Allocation::default());
    }
}
