//! TAP devices, each test in a network namespace of its own.

use std::process::Command;

use hostctl::spec::IfName;
use hostctl::tap::{self, TapError};

fn name(text: &str) -> IfName {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    IfName::new(text).unwrap()
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_device_is_made_once_and_attached_by_one() {
    let name = name("vm-fifteen-byte");
    tap::create(&name).unwrap();
    tap::create(&name).unwrap();
    let details = ip(&["-details", "link", "show", name.as_str()]);
    for word in ["tun type tap", "pi off", "persist on", "user root"] {
        assert!(details.contains(word), "{word}: {details}");
    }
    let attached = tap::attach(&name).unwrap();
    assert!(matches!(tap::attach(&name), Err(TapError::Busy(_))));
    // In use is still there.
    tap::create(&name).unwrap();
    drop(attached);
    tap::attach(&name).unwrap();
}

#[test]
fn attaching_makes_no_device() {
    let name = name("vm-none");
    assert!(matches!(tap::attach(&name), Err(TapError::Missing(_))));
    assert!(!ip(&["link"]).contains("vm-none"));
}

#[test]
fn other_links_of_that_name_are_refused() {
    let bridge = name("vm-bridge");
    ip(&["link", "add", "vm-bridge", "type", "bridge"]);
    ip(&["tuntap", "add", "vm-tun", "mode", "tun"]);
    ip(&["tuntap", "add", "vm-queues", "mode", "tap", "multi_queue"]);
    for name in [bridge, IfName::new("vm-tun").unwrap(), IfName::new("vm-queues").unwrap()] {
        assert!(matches!(tap::create(&name), Err(TapError::Foreign(_))), "{}", name.as_str());
        assert!(matches!(tap::attach(&name), Err(TapError::Foreign(_))), "{}", name.as_str());
    }
}
