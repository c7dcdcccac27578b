//! `hostctl prove diff`, `prove reaches` and `prove --why`: what they say, how
//! they end, and what becomes of hostile listings.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hostctl::testbed::Options;
use serde_json::Value;

use crate::support::lab::Lab;

/// Two networks that are peered; web lets in what its policy says.
const SPEC: &str = r#"[host]
uplink = "uplink0"
[networks.a]
cidr = "10.1.0.0/24"
[networks.b]
cidr = "10.2.0.0/24"
nat = false
[[peerings]]
between = ["a", "b"]
[vms.web]
network = "a"
image = "probe"
policy = "web"
autostart = false
[vms.user]
network = "b"
image = "probe"
autostart = false
[policies.web]
ingress = [{ protocol = "tcp", port = 80 }]
"#;

/// A directory with specs in it, in which the program runs.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().unwrap() };
        desk.write("old.toml", SPEC);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command.arg("--root-dir").arg(self.path("root")).args(arguments).current_dir(self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    fn says(&self, code: i32, words: &[&str]) -> &Self {
        let all = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(all.contains(word), "{word} isn't said: {}\n{}", self.out, self.err);
        }
        self
    }
}

#[test]
fn two_specs_differ_by_a_packet_with_the_lines_of_both() {
    let desk = Desk::new();
    desk.write("new.toml", SPEC.replace("port = 80", "port = \"80-81\""));
    desk.run(&["prove", "diff", "old.toml", "old.toml"]).says(0, &["no packet differs", "the spec old.toml"]);
    let found = desk.run(&["prove", "diff", "old.toml", "new.toml"]);
    found.says(
        6,
        &["TCP, port 81", "no rule allows it (old.toml:20)", "allow tcp 80-81 from anybody (new.toml:20)"],
    );
    // What opens a flow is told first.
    let first = found.out.lines().find(|line| line.starts_with("IPv4")).unwrap();
    assert!(first.contains("of a new flow"), "{first}");
    let found = desk.run(&["--json", "prove", "diff", "old.toml", "new.toml"]);
    let told = found.json();
    assert_eq!(told["answer"], "different");
    assert_eq!(told["old"]["is"], "spec");
    for packet in told["packets"].as_array().unwrap() {
        assert_eq!((&packet["old"]["does"], &packet["new"]["does"]), (&"dropped".into(), &"passed".into()));
        assert_eq!(packet["old"]["rule"]["chain"], "drop_policy");
    }
    let error: Value = serde_json::from_str(found.err.trim()).unwrap();
    assert_eq!(error["error"]["kind"], "found");
    let same = desk.run(&["--json", "prove", "diff", "old.toml", "old.toml"]).json();
    assert_eq!((&same["answer"], &same["packets"]), (&"equal".into(), &Value::Array(Vec::new())));
}

#[test]
fn what_nft_listed_is_compared_with_specs_listings_and_the_kernel() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let desk = Desk::new();
    let run = |arguments: &[&str]| {
        let mut command = desk.command(&[]);
        command = {
            let mut fresh = Command::new(command.get_program());
            fresh.arg("--root-dir").arg(lab.root_dir()).args(arguments).current_dir(desk.directory.path());
            fresh
        };
        Said::of(lab.world.hypervisor.run(|| command.output()).unwrap())
    };
    let save = |name: &str| desk.write(name, lab.output("nft", &["-j", "list", "ruleset"]));
    save("before.json");
    run(&["prove", "diff", "before.json", "before.json"]).says(0, &["no packet differs", "nft's listing"]);
    run(&["prove", "diff", "old.toml", "--live"])
        .says(0, &["no packet differs", "as this host would load it"]);
    run(&["prove", "diff", "old.toml", "before.json"]).says(0, &["no packet differs"]);
    // The first generation is what was applied.
    run(&["prove", "diff", "1", "--live"]).says(0, &["generation 1"]);

    let rules = lab.output("nft", &["-a", "list", "chain", "inet", "hostctl", "from_guest"]);
    let rule = rules.lines().find(|line| line.contains("no other network")).unwrap();
    let handle = rule.rsplit(' ').next().unwrap();
    lab.output("nft", &["delete", "rule", "inet", "hostctl", "from_guest", "handle", handle]);
    // What went to no other network falls to the rules behind: nothing opens.
    run(&["prove", "diff", "before.json", "--live"]).says(0, &["no packet differs", "what the kernel has"]);
    lab.output("nft", &["insert", "rule", "inet", "hostctl", "drop_policy", "accept"]);
    save("after.json");
    for new in [&["after.json"][..], &["--live"]] {
        let arguments = [&["prove", "diff", "before.json"], new].concat();
        run(&arguments).says(6, &["old dropped", "new passed", "chain drop_policy, rule 1"]);
    }
    run(&["prove", "diff", "old.toml", "after.json"])
        .says(6, &["no rule allows it (old.toml:20)", "new passed"]);
    // The kernel's rules against the spec of the host that they are on.
    run(&["prove", "old.toml", "--live", "--why", "user", "web", "--port", "81"])
        .says(6, &["DIFFERENT", "the spec says dropped"]);
    // And so it is with real packets.
    run(&["prove", "old.toml", "--live", "--replay"])
        .says(6, &["as a real packet passed: IPv4 from br-b to br-a"]);
    run(&["prove", "reaches", "web", "old.toml", "--live"]).says(0, &["user by br-b: everything"]);
}

/// A listing of hostctl's tables, as the kernel has it for the spec.
fn listing(lab: &Lab) -> Value {
    lab.apply(SPEC);
    serde_json::from_str(&lab.output("nft", &["-j", "list", "ruleset"])).unwrap()
}

fn add(listing: &Value, objects: &[Value]) -> Value {
    let mut changed = listing.clone();
    changed["nftables"].as_array_mut().unwrap().extend_from_slice(objects);
    changed
}

fn table(name: &str, verdict: &str) -> [Value; 3] {
    let of = serde_json::json!({ "family": "inet", "table": name });
    let with = |more: Value| {
        let mut object = of.clone();
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    [
        serde_json::json!({ "table": { "family": "inet", "name": name, "handle": 1 } }),
        serde_json::json!({ "chain": with(serde_json::json!({
            "name": "x", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept",
        })) }),
        serde_json::json!({ "rule": with(serde_json::json!({
            "chain": "x", "handle": 2, "comment": "\u{1b}[2Jx", "expr": [{ verdict: null }],
        })) }),
    ]
}

#[test]
fn nothing_is_equal_that_isnt_followed() {
    let lab = Lab::new(Options::default());
    let listing = listing(&lab);
    let desk = Desk::new();
    let write = |name: &str, value: &Value| desk.write(name, value.to_string());
    write("whole.json", &listing);
    // A statement that the prover doesn't know, though it is the same on both sides.
    for (name, statement) in [
        ("reject.json", serde_json::json!({ "reject": null })),
        (
            "mark.json",
            serde_json::json!({ "mangle": { "key": { "meta": { "key": "priority" } }, "value": 1 } }),
        ),
        ("queue.json", serde_json::json!({ "queue": { "num": 0 } })),
        ("nonsense.json", serde_json::json!({ "\u{1b}[31m": [] })),
    ] {
        let rule = serde_json::json!({ "rule": {
            "family": "inet", "table": "hostctl", "chain": "forward", "handle": 999, "expr": [statement],
        } });
        write(name, &add(&listing, &[rule]));
        for (old, new) in [(name, name), (name, "whole.json"), ("whole.json", name), (name, "old.toml")] {
            let said = desk.run(&["prove", "diff", old, new]);
            said.says(1, &["nothing is proved"]);
            assert!(!format!("{}{}", said.out, said.err).contains("\u{1b}[31m"), "{said:?}");
        }
    }
    // Of other programs' tables nothing is known but whether they are the same.
    write("others.json", &add(&listing, &table("filter", "accept")));
    write("drops.json", &add(&listing, &table("filter", "drop")));
    desk.run(&["prove", "diff", "others.json", "others.json"])
        .says(0, &["no packet differs", "other programs' tables", "inet filter"]);
    for new in ["drops.json", "whole.json"] {
        desk.run(&["prove", "diff", "others.json", new]).says(1, &["nothing is proved", "inet filter"]);
    }
    // Two listings that have nothing of hostctl's are no proof of anything.
    let empty = serde_json::json!({ "nftables": table("filter", "accept") });
    write("empty.json", &empty);
    desk.run(&["prove", "diff", "empty.json", "empty.json"])
        .says(1, &["neither side has a table of hostctl's"]);
    desk.run(&["prove", "diff", "empty.json", "whole.json"]).says(6, &["old passed", "new dropped"]);
    // Chains that call each other without end.
    let endless = ["here", "there"].map(|name| {
        serde_json::json!({ "chain": { "family": "inet", "table": "hostctl", "name": name, "handle": 1 } })
    });
    let jump = |chain: &str, target: &str| {
        serde_json::json!({ "rule": { "family": "inet", "table": "hostctl", "chain": chain, "handle": 9,
            "expr": [{ "jump": { "target": target } }] } })
    };
    let rules = [jump("here", "there"), jump("there", "here"), jump("forward", "here")];
    write("endless.json", &add(&listing, &[endless.to_vec(), rules.to_vec()].concat()));
    desk.run(&["prove", "diff", "whole.json", "endless.json"]).says(1, &["without end"]);
}

#[test]
fn files_that_are_neither_spec_nor_listing_are_refused() {
    let desk = Desk::new();
    let listed = "{\"nftables\": [{\"metainfo\": {\"version\": \"1\"}}";
    desk.write("torn.json", listed);
    desk.write("text.nft", "# saved\ntable inet hostctl {\n}\n");
    desk.write("deep.json", format!("{{\"nftables\": {}", "[".repeat(100_000)));
    desk.write("odd.json", "{\"nftables\": 7}");
    desk.write("latin1.toml", b"# \xe4\n");
    desk.write("empty", "");
    desk.run(&["prove", "diff", "torn.json", "old.toml"]).says(1, &["torn.json is no whole listing"]);
    desk.run(&["prove", "diff", "old.toml", "deep.json"]).says(1, &["deep.json is no whole listing"]);
    desk.run(&["prove", "diff", "text.nft", "old.toml"]).says(1, &["nft -j list ruleset"]);
    desk.run(&["prove", "diff", "odd.json", "old.toml"]).says(1, &["nothing is proved"]);
    desk.run(&["prove", "diff", "nowhere.json", "old.toml"]).says(3, &["nowhere.json"]);
    desk.run(&["prove", "diff", "latin1.toml", "old.toml"]).says(3, &["latin1.toml"]);
    desk.run(&["prove", "diff", "/dev/null", "old.toml"]).says(1, &["a spec has to be a file"]);
    desk.run(&["prove", "diff", "77", "old.toml"]).says(1, &["there is no generation 77"]);
    // Beside a spec a side that isn't there is the host's own, of which there is none.
    assert_ne!(desk.run(&["prove", "diff", "old.toml"]).code, Some(0));
    for usage in
        [&["prove", "diff"][..], &["prove", "diff", "a", "b", "--live"], &["prove", "diff", "a", "b", "c"]]
    {
        desk.run(usage).says(2, &[]);
    }
    let failed = desk.run(&["--json", "prove", "diff", "torn.json", "old.toml"]);
    let error: Value = serde_json::from_str(failed.err.trim()).unwrap();
    assert_eq!((&error["error"]["kind"], failed.out.as_str()), (&"failed".into(), ""));
}

#[test]
fn who_reaches_whom_is_said_by_name_with_the_rule() {
    let desk = Desk::new();
    desk.run(&["prove", "reaches", "web", "old.toml"])
        .says(0, &["user by br-b: tcp 80", "the host: tcp 80", "chain counted, rule 1"]);
    desk.run(&["prove", "reaches", "web", "old.toml", "--port", "22"]).says(0, &["nobody reaches web"]);
    desk.run(&["prove", "reaches", "user", "old.toml", "--port", "22"]).says(0, &["web by br-a: tcp 22"]);
    let internet =
        desk.run(&["prove", "reaches", "internet", "old.toml", "--port", "443", "--protocol", "udp"]);
    internet.says(0, &["web by br-a: udp 443 to ", "the host"]);
    assert!(!internet.out.contains("user"), "b has no NAT: {internet:?}");
    desk.run(&["prove", "reaches", "host", "old.toml"]).says(0, &["web by br-a: ping to 10.1.0.1"]);
    desk.run(&["prove", "reaches", "network:a", "old.toml", "--family", "4"])
        .says(0, &["user by br-b: tcp 80"]);
    desk.run(&["prove", "reaches", "usre", "old.toml"]).says(1, &["did you mean user?"]);
    desk.run(&["prove", "reaches", "tailnet", "old.toml"]).says(1, &["no tailnet"]);
    desk.run(&["prove", "reaches", "web", "nowhere.toml"]).says(3, &[]);
    let told = desk.run(&["--json", "prove", "reaches", "web", "old.toml"]).json();
    assert_eq!(told["target"], "web");
    let user = told["reached_by"].as_array().unwrap().iter().find(|one| one["from"] == "br-b").unwrap();
    assert_eq!(user["sources"], serde_json::json!(["10.2.0.2"]));
    assert_eq!(
        user["packets"],
        serde_json::json!([{ "protocols": [6, 6], "ports": [80, 80], "types": null }])
    );
    assert_eq!(user["rule"]["chain"], "counted");
    // Whoever can't be there.
    let none = desk.run(&["prove", "reaches", "web", "old.toml", "--family", "6"]);
    none.says(0, &["nobody reaches web"]);
}

#[test]
fn every_packet_of_a_pair_is_told_with_the_specs_line() {
    let desk = Desk::new();
    desk.run(&["prove", "old.toml", "--why", "user", "web"]).says(
        0,
        &[
            "user -> web",
            "tcp 80: first packets",
            "allow tcp 80 from anybody (old.toml:20)",
            "chain drop_policy",
            "b and a are peered (old.toml:8)",
            "everything: replies",
            "dropped at the guest's port already",
            "source address isn't the guest's",
        ],
    );
    let ping = desk.run(&["prove", "old.toml", "--why", "user", "web", "--protocol", "icmp"]);
    ping.says(0, &["ping: first packets", "no rule allows it (old.toml:20)"]);
    let told = desk.run(&["--json", "prove", "old.toml", "--why", "user", "internet", "--port", "80"]).json();
    let classes = told[0]["classes"].as_array().unwrap();
    let first = |class: &&Value| {
        class["packets"][0]["tracked"].as_array().is_some_and(|all| all.contains(&"first packets".into()))
    };
    assert!(
        classes.iter().filter(first).all(|class| class["rules"] == "dropped" && class["equal"] == true),
        "{told}"
    );
    assert!(classes.iter().filter(first).count() > 0, "{told}");
    desk.run(&["prove", "old.toml", "--why", "web", "web"]).says(0, &["what it sends itself"]);
    desk.run(&["prove", "old.toml", "--why", "imds", "web"]).says(1, &["open no flows"]);
    desk.run(&["prove", "old.toml", "--why", "nobody", "web"]).says(1, &["there is no guest"]);
    desk.run(&["prove", "old.toml", "--port", "80"]).says(1, &["--why"]);
    desk.run(&["prove", "old.toml", "--why", "web"]).says(2, &[]);
}

/// What decides about nothing is named, whoever put it there.
#[test]
fn rules_that_decide_nothing_are_named() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    lab.output("nft", &["add", "rule", "inet", "hostctl", "drop_forward", "accept"]);
    lab.output(
        "nft",
        &["add", "rule", "inet", "hostctl", "drop_policy", "drop", "comment", "\"\\x1b[2Jnever\""],
    );
    let spec = lab.root_dir().join("spec.toml");
    std::fs::write(&spec, SPEC).unwrap();
    let live = Said::of(lab.hostctl(&["prove", spec.to_str().unwrap(), "--live"]));
    live.says(
        0,
        &[
            "equal for every packet",
            "rules decide about no packet: rules before them do",
            "inet hostctl, chain drop_forward, rule 4\n",
            "inet hostctl, chain drop_policy, rule 4: ",
            // A network without IPv6.
            "bridge hostctl, chain icmp6_in, rule 1: a guest is no router",
        ],
    );
    // What decides isn't.
    assert!(!live.out.contains("chain policed, rule 1:"), "{live:?}");
    let told = Said::of(lab.hostctl(&["--json", "prove", spec.to_str().unwrap(), "--live"])).json();
    let dead = told["dead"].as_array().unwrap();
    assert!(dead.iter().any(|rule| rule["chain"] == "drop_forward" && rule["rule"] == 4), "{told}");
}

/// A spec with hostile names is refused before anything is proved.
#[test]
fn hostile_specs_prove_nothing() {
    let desk = Desk::new();
    desk.write("hostile.toml", "[networks.\"\\u001b[2J\"]\ncidr = \"10.1.0.0/24\"\n");
    for command in
        [&["prove", "diff", "hostile.toml", "old.toml"][..], &["prove", "reaches", "host", "hostile.toml"]]
    {
        let said = desk.run(command);
        said.says(3, &[]);
        assert!(!said.err.contains('\u{1b}'), "{said:?}");
    }
    assert!(
        Path::new(&desk.path("root")).read_dir().map_or(true, |mut all| all.next().is_none()),
        "nothing is written"
    );
}

#[test]
fn the_template_is_proved_without_any_spec() {
    let desk = Desk::new();
    let output = desk.command(&["--json", "prove", "template"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = told.as_array().unwrap();
    let kinds =
        told.iter().map(|one| (one["firewall"].as_str().unwrap(), one["policies"].as_bool().unwrap()));
    let expected = [("guests", false), ("guests", true), ("full", false), ("full", true)];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
    assert!(
        told.iter().all(|one| one["answer"] == "equal" && one["rules"].as_u64().unwrap() > 70),
        "{told:?}"
    );
}
