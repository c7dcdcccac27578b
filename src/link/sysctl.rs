//! Kernel settings, as files under `/proc/sys`. Those of the network are the
//! calling thread's namespace's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

fn path(key: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(key)
}

/// The values of `keys`, without those that don't exist.
///
/// # Errors
/// Where one exists and can't be read.
pub fn read(keys: impl IntoIterator<Item = String>) -> io::Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for key in keys {
        match fs::read_to_string(path(&key)) {
            Ok(value) => _ = values.insert(key, value.trim().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(values)
}

/// Sets `key`. A setting that this kernel doesn't have (one of IPv6, where
/// that is off) needs no value.
///
/// # Errors
/// Where the kernel refuses the value.
pub fn write(key: &str, value: &str) -> io::Result<()> {
    match fs::write(path(key), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
