//! Kernel settings, as files under `/proc/sys`. Those of the network are the
//! calling thread's namespace's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
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
        match value(&path(&key)) {
            Ok(value) => _ = values.insert(key, value.trim().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(values)
}

/// The kernel hands out a value in one piece; there are many to read.
fn value(path: &Path) -> io::Result<String> {
    let mut text = [0; 256];
    let length = File::open(path)?.read(&mut text)?;
    Ok(String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned())
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
