//! What a client may ask of a guest's agent through the supervisor, one call
//! each (QEMU: docs/interop/qemu-ga-ref).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long the agent has for one.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "lowercase")]
pub enum GuestCall {
    /// Start a program.
    Start {
        /// The program.
        path: String,
        /// Its arguments.
        args: Vec<String>,
        /// Whether the agent keeps what it writes, until it is asked for.
        capture: bool,
    },
    /// What has become of one.
    Status {
        /// The agent's number for it.
        pid: i64,
    },
    /// Open a file.
    Open {
        /// The file.
        path: String,
        /// Whether to write it anew.
        write: bool,
    },
    /// Read on in an open file.
    Read {
        /// The agent's number for it.
        handle: i64,
        /// Most bytes.
        count: u32,
    },
    /// Write on in an open file.
    Write {
        /// The agent's number for it.
        handle: i64,
        /// The bytes, in base64.
        data: String,
    },
    /// Close a file.
    Close {
        /// The agent's number for it.
        handle: i64,
    },
}

impl GuestCall {
    /// The agent's own words for it.
    pub fn request(&self) -> Value {
        match self {
            Self::Start { path, args, capture } => json!({
                "execute": "guest-exec",
                "arguments": { "path": path, "arg": args, "capture-output": capture },
            }),
            Self::Status { pid } => json!({ "execute": "guest-exec-status", "arguments": { "pid": pid } }),
            Self::Open { path, write } => json!({
                "execute": "guest-file-open",
                "arguments": { "path": path, "mode": if *write { "w" } else { "r" } },
            }),
            Self::Read { handle, count } => json!({
                "execute": "guest-file-read",
                "arguments": { "handle": handle, "count": count },
            }),
            Self::Write { handle, data } => json!({
                "execute": "guest-file-write",
                "arguments": { "handle": handle, "buf-b64": data },
            }),
            Self::Close { handle } => {
                json!({ "execute": "guest-file-close", "arguments": { "handle": handle } })
            }
        }
    }

    /// A [`GuestCall::Write`] of these bytes.
    pub fn write(handle: i64, bytes: &[u8]) -> Self {
        Self::Write { handle, data: BASE64.encode(bytes) }
    }
}

/// The bytes of a reply to [`GuestCall::Read`], and whether the file ends there.
pub fn read_reply(reply: &Value) -> Option<(Vec<u8>, bool)> {
    let text = reply.get("buf-b64").and_then(Value::as_str).unwrap_or_default();
    let eof = reply.get("eof").and_then(Value::as_bool).unwrap_or_default();
    Some((BASE64.decode(text).ok()?, eof))
}
