//! Why a guest doesn't go on, or doesn't go on well, as QEMU tells it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bounded::printable;

/// The longest text of QEMU's that is kept, in characters.
const TEXT_MAX: usize = 200;

/// Why QEMU holds a guest's processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The run state (QEMU: qapi/run-state.json): `paused` by command,
    /// `io-error`, …
    pub state: String,
    /// QEMU's name of the disk, where it is because of one.
    #[serde(default)]
    pub disk: Option<String>,
    /// Whether that is for want of room.
    #[serde(default)]
    pub no_space: bool,
    /// What failed, where QEMU says so.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Held {
    /// Of a run state; none where the guest executes, or is on its way.
    pub(super) fn of(state: &str) -> Option<Self> {
        let held = ["paused", "io-error", "internal-error", "guest-panicked", "watchdog"];
        held.contains(&state).then(|| Self { state: state.into(), disk: None, no_space: false, reason: None })
    }

    /// With the disk that `query-block` says is to blame.
    pub(super) fn blame(mut self, blocks: &Value) -> Self {
        let status = |block: &Value| block.get("io-status").and_then(Value::as_str).map(str::to_owned);
        let bad = |block: &&Value| status(block).is_some_and(|status| status != "ok");
        if let Some(block) = blocks.as_array().and_then(|blocks| blocks.iter().find(bad)) {
            let node = block.pointer("/inserted/node-name").and_then(Value::as_str);
            self.disk = node.map(|node| printable(node, TEXT_MAX));
            self.no_space = status(block).is_some_and(|status| status == "nospace");
        }
        self
    }
}

/// A disk that failed the guest (QEMU: qapi/block-core.json, BLOCK_IO_ERROR).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IoError {
    /// QEMU's name of the disk.
    pub disk: String,
    /// `read` or `write`.
    pub operation: String,
    pub no_space: bool,
    /// Whether the guest is held for it, or was told of the error.
    pub stops: bool,
    pub reason: String,
}

impl IoError {
    pub fn of(data: &Value) -> Self {
        let text = |key: &str| data.get(key).and_then(Value::as_str).map(|text| printable(text, TEXT_MAX));
        let is = |key: &str| data.get(key).and_then(Value::as_bool).unwrap_or(false);
        let node = text("node-name").filter(|node| !node.is_empty());
        Self {
            disk: node.or_else(|| text("device")).unwrap_or_default(),
            operation: text("operation").unwrap_or_default(),
            no_space: is("nospace"),
            stops: text("action").as_deref() == Some("stop"),
            reason: text("reason").unwrap_or_default(),
        }
    }

    pub fn held(self) -> Held {
        let Self { disk, no_space, reason, .. } = self;
        Held { state: "io-error".into(), disk: Some(disk), no_space, reason: Some(reason) }
    }
}

/// Errors of disks that the guest was told of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskErrors {
    /// How many since its QEMU was started.
    pub count: u32,
    /// The last one.
    pub last: String,
    /// When that was, in seconds after the epoch.
    pub at: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_disk_without_room_is_told_from_one_that_is_broken() {
        let event = json!({
            "device": "", "node-name": "volume1", "operation": "write", "action": "stop",
            "nospace": true, "reason": "No space left on device\u{1b}[2J"
        });
        let error = IoError::of(&event);
        assert!(error.stops && error.no_space);
        let held = error.held();
        assert_eq!((held.disk.as_deref(), held.state.as_str()), (Some("volume1"), "io-error"));
        assert_eq!(held.reason.as_deref(), Some("No space left on device [2J"));
        let told =
            IoError::of(&json!({ "device": "disk", "action": "report", "reason": "Input/output error" }));
        assert!(!told.stops && !told.no_space && told.disk == "disk");
        assert_eq!(IoError::of(&json!(7)).disk, "");
    }

    #[test]
    fn a_supervisor_that_comes_later_learns_it_from_the_run_state() {
        assert_eq!(Held::of("running"), None);
        assert_eq!(Held::of("inmigrate"), None);
        let blocks = json!([
            { "io-status": "ok", "inserted": { "node-name": "disk" } },
            { "io-status": "nospace", "inserted": { "node-name": "volume1" } }
        ]);
        let held = Held::of("io-error").unwrap().blame(&blocks);
        assert_eq!((held.disk.as_deref(), held.no_space), (Some("volume1"), true));
        assert_eq!(Held::of("paused").unwrap().blame(&json!({})).disk, None);
    }
}
