//! Host specs in a directory of their own.

use std::path::{Path, PathBuf};

use hostctl::root_dir::RootDir;
use hostctl::spec::load_checked;
use hostctl::topology::compile;
use tempfile::TempDir;

/// A root directory with a host spec.
pub struct Case(TempDir);

impl Case {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn host(&self, text: &str) {
        self.write("etc/hostctl/host.toml", text.as_bytes());
    }

    pub fn drop_in(&self, name: &str, text: &str) {
        self.write(&format!("var/lib/hostctl/host.d/{name}"), text.as_bytes());
    }

    /// What an operator reads about the file; `ok` where there is no mistake.
    pub fn load(&self, file: Option<&str>) -> String {
        let file = file.map(|name| self.path(name));
        match load_checked(file.as_deref(), &RootDir::new(self.0.path()), compile) {
            Ok(_) => "ok".into(),
            Err(error) => self.tidy(&error.to_string()),
        }
    }

    /// Without the directory's own name.
    pub fn tidy(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

pub fn toml(text: &str) -> String {
    load_text("host.toml", text)
}

pub fn json(text: &str) -> String {
    load_text("host.json", text)
}

fn load_text(name: &str, text: &str) -> String {
    let case = Case::new();
    case.write(name, text.as_bytes());
    case.load(Some(name))
}

/// The examples that are handed to operators.
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}
