//! Which files a host spec is read from, and which are refused.

use std::path::PathBuf;

use crate::support::spec_support::{Case, json, toml};
use hostctl::root_dir::RootDir;
use hostctl::spec::{HostSpec, SpecPath, load, load_checked};
use hostctl::topology::compile;
use insta::assert_snapshot;

#[test]
fn drop_ins_that_contradict() {
    let case = Case::new();
    case.host("[host]\nfirewall = \"full\"\n[networks.a]\ncidr = \"10.1.0.0/24\"\n");
    case.drop_in(
        "10-a.toml",
        "[networks.a]\ncidr = \"10.2.0.0/24\"\n[vms.x]\nnetwork = \"a\"\nimage = \"probe\"\n",
    );
    case.drop_in("20-b.json", "{\"host\": {}, \"vms\": {\"x\": {\"network\": \"a\", \"image\": \"probe\"}}}");
    case.drop_in("30-c.toml", "[[peerings]]\nbetween = [\"a\", \"b\"]\n");
    case.drop_in("40-d.toml", "[networks.c]\ncidr = \"10.1.0.0/25\"\n");
    assert_snapshot!(case.load(None));
}

#[test]
fn issues_are_found_in_the_drop_in_that_they_are_from() {
    let case = Case::new();
    case.host("[networks.a]\ncidr = \"10.1.0.0/24\"\n[[peerings]]\nbetween = [\"a\", \"c\"]\n");
    case.drop_in("10.toml", "[networks.b]\ncidr = \"10.1.0.0/25\"\n");
    case.drop_in(
        "20.json",
        "{\n \"peerings\": [\n  {\"between\": [\"a\", \"b\"]},\n  {\"between\": [\"b\", \"d\"]}\n ]\n}",
    );
    assert_snapshot!(case.load(None));
}

#[test]
fn the_machines_own_files_need_not_exist() {
    let case = Case::new();
    let root = RootDir::new(case.path(""));
    let loaded = load(None, &root).unwrap();
    assert_eq!((loaded.spec, loaded.sources.files().len()), (HostSpec::default(), 0));

    case.write("etc/hostctl/host.json", b"{\"host\": {\"firewall\": \"full\"}}");
    case.drop_in(".hidden.toml", "broken");
    case.drop_in("backup.toml~", "broken");
    case.drop_in("README", "broken");
    case.drop_in("b.toml", "[networks.b]\ncidr = \"10.1.0.0/24\"\n");
    case.drop_in("a.json", "{\"networks\": {\"a\": {\"cidr\": \"10.2.0.0/24\"}}}");
    let loaded = load(None, &root).unwrap();
    let names = |paths: &[PathBuf]| {
        paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(loaded.sources.files()), ["host.json", "a.json", "b.toml"]);
    assert_eq!(names(loaded.sources.ignored()), ["README", "backup.toml~"]);
    assert_eq!(loaded.spec.networks.len(), 2);
    let origin = |keys: &[&str]| loaded.sources.origin(&SpecPath::keys(keys.iter().copied()));
    assert_eq!(origin(&["host"]), Some(case.path("etc/hostctl/host.json").as_path()));
    assert_eq!(origin(&["networks", "b", "cidr"]).unwrap().file_name().unwrap(), "b.toml");
    assert_eq!((origin(&["networks"]), origin(&["vms", "x"])), (None, None));

    case.host("");
    assert_snapshot!(case.load(None));
}

#[test]
fn files_that_are_no_text() {
    let case = Case::new();
    case.write("huge.toml", &vec![b'#'; 4 * 1024 * 1024 + 1]);
    case.write("latin1.toml", b"[networks.a]\ncidr = \"\xe4\"\n");
    case.write("utf16.toml", b"\xff\xfe[\0h\0");
    case.write("bom.toml", b"\xef\xbb\xbf[host]\n");
    case.write("nul.toml", b"[host]\nx\0 = 1\n");
    std::fs::create_dir(case.path("directory.toml")).unwrap();
    let fifo = case.path("fifo.toml");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let names = ["huge", "latin1", "utf16", "bom", "nul", "directory", "fifo", "missing"]
        .map(|name| format!("{name}.toml"));
    let messages: Vec<_> = names.iter().map(|name| case.load(Some(name))).collect();
    let device = case.load(Some("/dev/zero"));
    assert_snapshot!(format!("{}\n{device}", messages.join("\n")));
}

#[test]
fn deep_nesting() {
    let dotted = format!("{}a = 1", "a.".repeat(1_000_000));
    let header = format!("[{}a]", "a.".repeat(1_000_000));
    let arrays = format!("a = {}", "[".repeat(1_000_000));
    let tables = format!("a = {}", "{a=".repeat(1_000_000));
    let messages: Vec<_> = [dotted, header, arrays, tables].iter().map(|text| toml(text)).collect();
    let messages =
        messages.into_iter().chain([json(&"[".repeat(1_000_000)), json(&"{\"a\":".repeat(700_000))]);
    assert_snapshot!(messages.collect::<Vec<_>>().join("\n"));
}

/// However long and odd a file is, it is refused within seconds.
#[test]
fn odd_files_cost_little() {
    let megabyte = 1024 * 1024;
    let fill = |text: &str| text.repeat(megabyte / text.len());
    let keys = (0..60_000).map(|n| format!("a{n}=1\n")).collect::<String>();
    let same: String = (0..20_000).map(|n| format!("\"n{n}\":{{\"cidr\":\"10.1.0.0/24\"}},")).collect();
    let guests: String =
        (0..10_000).map(|n| format!("[vms.g{n}]\nnetwork=\"n{n}\"\n[networks.m{n}]\n")).collect();
    let texts = [
        ("a.toml", fill("=")),
        ("a.toml", fill("a=,")),
        ("a.toml", fill("=\n")),
        ("a.toml", fill("[a]\n")),
        ("a.toml", fill("a.b.c.d=1\n")),
        ("a.toml", keys),
        ("a.toml", guests),
        ("a.toml", format!("a = [{}]", fill("1,"))),
        ("a.toml", format!("[host]\nuplink = [{}]", fill("\"a b\","))),
        ("a.toml", format!("[host]\ndns = [{}]", fill("\"x\","))),
        ("a.json", fill("'a'")),
        ("a.json", format!("[{}]", fill("'a',"))),
        ("a.json", format!("{{\"networks\": {{{same}\"x\":{{}}}}}}")),
        ("a.json", format!("{{{}\"x\":1}}", fill("\"a\":1,"))),
        ("a.json", format!("{{\"host\":{{\"dns\":[{}1]}}}}", fill("\"x\","))),
    ];
    for (name, text) in texts {
        let case = Case::new();
        case.write(name, text.as_bytes());
        let started = std::time::Instant::now();
        let error = load_checked(Some(&case.path(name)), &RootDir::new(case.path("")), compile).unwrap_err();
        let shown = error.render(80, false) + &error.to_string();
        let start: String = text.chars().take(40).collect();
        eprintln!("{:?} {start:?} {}", started.elapsed(), shown.len());
        assert!(started.elapsed().as_secs() < 30, "{start:?}: {:?}", started.elapsed());
        assert!(shown.len() < 512 * 1024, "{start:?}: {}", shown.len());
    }
}

#[test]
fn more_than_a_hundred_mistakes_are_counted() {
    let text: String = (0..150).map(|n| format!("[networks.n{n}]\ncidr = \"x\"\n")).collect();
    let message = toml(&text);
    assert_eq!(message.matches("error:").count(), 100);
    assert!(message.contains("\n… and "), "{message}");
}

#[test]
fn a_terminal_gets_the_line() {
    let case = Case::new();
    case.host(
        "[networks.vm1]\ncidr = \"10.1.0.7/24\" # \u{202e}x\nadress = \"10.1.0.9\"\r\n\t\"\u{202e}ä\" = 1\n",
    );
    let error = load_checked(None, &RootDir::new(case.path("")), compile).unwrap_err();
    let text = error.render(100, false);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
    assert_snapshot!(case.tidy(&text));
}

#[test]
fn the_schema() {
    let schema = serde_json::to_string_pretty(&hostctl::spec::json_schema()).unwrap();
    assert_snapshot!(schema);
}
