//! Two real guests on two networks, by the program alone: as an operator does.

use std::time::Duration;

use crate::support::lab::Lab;
use crate::support::spec_parts::{network, tailnet};
use hostctl::testbed::{Options, Probe, address, http_get, probe};
use serde_json::Value;

const SPEC: &str = concat!(
    "[host]\nfirewall = 'full'\n",
    tailnet!(),
    network!("one" 1),
    "imds = 'host'\ntailscale = true\n",
    network!("two" 2),
    r#"[vms.one]
network = "one"
image = "probe"
memory = "128M"
accel = "tcg"
[vms.two]
network = "two"
image = "probe"
memory = "128M"
machine = "microvm"
accel = "tcg"
"#,
);

struct Operator {
    lab: Lab,
    file: String,
}

impl Operator {
    /// What the program prints; it has to succeed.
    fn does(&self, arguments: &[&str]) -> String {
        let output = self.lab.hostctl(arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{error}");
        out.into_owned()
    }

    fn apply(&self, spec: &str) -> String {
        std::fs::write(&self.file, spec).unwrap();
        self.does(&["apply", &self.file])
    }

    fn guest(&self, name: &str) -> (String, u64) {
        let list: Value = serde_json::from_str(&self.does(&["--json", "vm", "list"])).unwrap();
        let guest = list.as_array().unwrap().iter().find(|guest| guest["name"] == name).unwrap();
        (guest["state"].as_str().unwrap().into(), guest["pid"].as_u64().unwrap_or(0))
    }

    /// What a guest's own probes find.
    fn probes(&self, name: &str, targets: &[(&str, &str)]) {
        let mut arguments = vec!["vm", "exec", name, "--", "/bin/probe"];
        arguments.extend(targets.iter().map(|(target, _)| *target));
        let text = self.does(&arguments);
        let found: Vec<&str> = text.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
        let wanted: Vec<&str> = targets.iter().map(|(_, verdict)| *verdict).collect();
        assert_eq!(found, wanted, "from {name}: {text}");
    }
}

#[test]
fn from_a_spec_to_isolated_guests_and_back() {
    let lab = Lab::new(Options::default()).with_images();
    let file = lab.root_dir().join("host.toml").display().to_string();
    let operator = Operator { lab, file };
    let printed = operator.apply(SPEC);
    assert!(printed.starts_with("done: "), "{printed}");
    let one_and_two = [operator.does(&["vm", "up", "one"]), operator.does(&["vm", "up", "two"])];
    assert!(one_and_two[0].starts_with("one is ready ("), "{one_and_two:?}");
    assert_eq!(operator.apply(SPEC), "nothing to do\n");
    for name in ["one", "two"] {
        // The image has both, and a guest needn't unpack these.
        for file in ["vmlinux", "initrd.cpio"] {
            let open = std::fs::read_dir(format!("/proc/{}/fd", operator.guest(name).1)).unwrap();
            let mut open = open.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap_or_default());
            assert!(open.any(|path| path.ends_with(format!("images/probe/{file}"))), "{name}: {file}");
        }
    }

    operator.probes(
        "one",
        &[
            ("tcp/10.2.0.2/80", "dropped"),
            ("tcp/fd00:0:0:2::2/80", "dropped"),
            ("udp/10.2.0.2/7", "dropped"),
            ("icmp/10.1.0.1", "allowed"),
            ("icmp/10.2.0.1", "dropped"),
            ("tcp/198.51.100.2/22", "dropped"),
            ("tcp/203.0.113.1/80", "allowed"),
            ("udp/2001:db8:113::1/7", "allowed"),
            ("http/169.254.169.254/80/latest/meta-data/instance-id", "allowed"),
            ("tcp/100.64.50.50/80", "dropped"),
        ],
    );
    operator.probes(
        "two",
        &[
            ("tcp/10.1.0.2/80", "dropped"),
            ("tcp/203.0.113.1/80", "allowed"),
            ("http/169.254.169.254/80/latest/meta-data/instance-id", "dropped"),
        ],
    );
    let laptop = &operator.lab.world.laptop;
    let second = Duration::from_secs(2);
    let page = http_get(laptop, "10.1.0.2:80".parse().unwrap(), "/", Duration::from_secs(5)).unwrap();
    assert!(page.contains(&format!("hostctl probe one peer={}", address::LAPTOP)), "{page}");
    assert!(probe(laptop, Probe::Icmp("fd00:0:0:1::2".parse().unwrap()), second).is_allowed());
    assert!(!probe(laptop, Probe::Icmp("10.2.0.2".parse().unwrap()), second).is_allowed());
    assert!(operator.does(&["vm", "logs", "one"]).contains("hostctl probe guest one ready"));

    // What confines a guest changes at once; a guest is started again by consent,
    // and no other with it.
    let (one, two) = (operator.guest("one").1, operator.guest("two").1);
    let edited = SPEC.replacen("memory = \"128M\"", "memory = \"144M\"", 1).replace("tailscale = true", "");
    operator.apply(&edited);
    assert_eq!(operator.guest("one"), ("ready".to_string(), one));
    operator.does(&["apply", &operator.file, "--restart=one,two"]);
    operator.does(&["vm", "up", "one"]);
    assert_ne!(operator.guest("one").1, one);
    assert_eq!(operator.guest("two"), ("ready".to_string(), two));
    assert!(!probe(laptop, Probe::Icmp("10.1.0.2".parse().unwrap()), second).is_allowed());

    // One is stopped by hand, and gone from the spec another time.
    operator.does(&["vm", "down", "one"]);
    assert_eq!(operator.guest("one"), ("stopped".to_string(), 0));
    assert!(operator.does(&["plan", &operator.file]).contains("hostctl vm up one    # autostart"));
    let without = edited.split("[vms.two]").next().unwrap().to_string();
    operator.apply(&without);
    assert!(!std::path::Path::new(&format!("/proc/{two}")).exists(), "VM two still runs");
    assert!(!operator.lab.output("ip", &["-br", "link"]).contains("vm-two"));

    operator.does(&["down"]);
    assert_eq!(operator.lab.output("nft", &["list", "ruleset"]), "");
    let links = operator.lab.output("ip", &["-br", "link"]);
    assert!(!links.contains("br-") && !links.contains("vm-"), "{links}");
    let left = hostctl::vm::find_strays(&operator.lab.host.root).unwrap();
    assert_eq!(left, []);
}
