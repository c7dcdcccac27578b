//! From bytes to a host spec: every mistake with its place in a file.

pub(super) mod decode;
pub(super) mod deserializer;
pub(super) mod document;
pub(super) mod explain;
pub(super) mod first_key;
pub(super) mod issue;
pub(super) mod json_document;
pub(super) mod json_repair;
pub(super) mod load;
pub(super) mod meant;
pub(super) mod merge;
pub(super) mod policy_file;
pub(super) mod problem;
pub(super) mod read;
pub(super) mod snippet;
pub(super) mod toml_document;
