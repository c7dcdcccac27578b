//! The examples as they are, applied; guests aside, which other tests boot.

use crate::support::lab::Lab;
use hostctl::root_dir::RootDir;
use hostctl::spec::load;
use hostctl::testbed::Options;

#[test]
fn every_example_comes_up_twice_the_same_and_goes() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut applied = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // NixOS's is a flake, which tests/nix evaluates.
        if path.is_dir() {
            continue;
        }
        let lab = Lab::new(Options::default());
        let mut spec = load(Some(&path), &RootDir::new(lab.root_dir())).unwrap().spec;
        for vm in spec.vms.values_mut() {
            vm.autostart = false;
        }
        let text = toml::to_string(&spec).unwrap();
        assert!(!lab.apply(&text).steps.is_empty(), "{}", path.display());
        assert_eq!(lab.apply(&text).steps, [], "{}", path.display());
        assert!(lab.status().drift.is_empty());
        lab.down();
        assert_eq!(lab.output("nft", &["list", "ruleset"]), "", "{}", path.display());
        applied += 1;
    }
    assert!(applied >= 5, "{applied}");
}
