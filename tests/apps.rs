//! Apps by spec: started, changed, removed with their subnets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use hostctl::app;
use hostctl::testbed::{Netns, Options, http_get};

/// The spec, with a number of seconds that is this test's own.
fn spec() -> String {
    SPEC.replace("987654", &seconds())
}

fn seconds() -> String {
    (1_000_000 + std::process::id()).to_string()
}

const SPEC: &str = r#"
[networks.prod]
cidr = "10.20.0.0/16"
[networks.prod.subnets.web]
cidr = "10.20.1.0/24"
type = "public"
namespace = true
[networks.prod.subnets.db]
cidr = "10.20.2.0/24"
type = "private"
namespace = true
[apps.page]
network = "prod"
subnet = "web"
webserver = { port = 8080, greeting = "from the web subnet" }
[apps.sleeper]
network = "prod"
subnet = "db"
command = ["/bin/sh", "-c", "trap '' TERM; (setsid sleep 987654 &) ; sleep 987654"]
"#;

fn page(from: &Netns, port: u16) -> Option<String> {
    let address = SocketAddr::new([10, 20, 1, 2].into(), port);
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Ok(text) = http_get(from, address, "/", Duration::from_secs(2)) {
            return Some(text);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

fn sleepers() -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let words = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let mine = format!("sleep\0{}", seconds());
    words.filter(|words| words.starts_with(mine.as_bytes())).count()
}

fn states(lab: &Lab) -> Vec<(String, String)> {
    let apps = app::observe(&lab.host.root).unwrap();
    apps.iter().map(|app| (app.name.to_string(), app.state())).collect()
}

#[test]
fn apps_come_change_and_go_with_the_spec() {
    let lab = Lab::new(Options::default());
    lab.apply(&spec());
    let db = Netns::named("prod-db").unwrap();
    assert!(page(&db, 8080).unwrap().contains("from the web subnet"));
    assert!(page(&lab.world.hypervisor, 8080).is_some());
    assert_eq!(lab.apply(&spec()).steps, []);
    assert_eq!(states(&lab).len(), 2);

    // A change of one restarts that one.
    let moved = spec().replace("port = 8080", "port = 8081");
    let outcome = lab.apply(&moved);
    let commands: Vec<String> = outcome.steps.iter().flat_map(hostctl::host::Step::commands).collect();
    assert_eq!(commands, ["hostctl app stop page", "hostctl app start page"]);
    assert!(page(&db, 8081).is_some());

    // A subnet takes its apps along, whatever they do against it.
    let deadline = Instant::now() + Duration::from_secs(5);
    while sleepers() < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(sleepers() >= 2);
    let (front, _) = moved.split_once("[networks.prod.subnets.db]").unwrap();
    let (_, page_app) = moved.split_once("[apps.page]").unwrap();
    let (page_app, _) = page_app.split_once("[apps.sleeper]").unwrap();
    let gone = lab.apply(&format!("{front}[apps.page]{page_app}"));
    let commands: Vec<String> = gone.steps.iter().flat_map(hostctl::host::Step::commands).collect();
    assert_eq!(sleepers(), 0, "{commands:#?}");
    assert_eq!(lab.output("ip", &["netns", "list"]).split_whitespace().next(), Some("prod-web"));
    assert_eq!(states(&lab).len(), 1);

    lab.down();
    assert_eq!(lab.output("ip", &["netns", "list"]), "");
    assert_eq!(states(&lab), []);
}

#[test]
fn what_somebody_started_in_a_namespace_ends_with_it() {
    let lab = Lab::new(Options::default());
    lab.apply(&spec());
    let mut stranger = lab.world.hypervisor.run(|| {
        std::process::Command::new("ip").args(["netns", "exec", "prod-web", "sleep", "3600"]).spawn().unwrap()
    });
    std::thread::sleep(Duration::from_millis(200));
    lab.down();
    let status = stranger.wait().unwrap();
    assert!(!status.success(), "{status}");
}

#[test]
fn an_app_that_ended_well_is_not_run_again() {
    let lab = Lab::new(Options::default());
    let (networks, _) = SPEC.split_once("[apps.page]").unwrap();
    let mark = lab.root_dir().join("ran").display().to_string();
    let spec = format!(
        "{networks}[apps.once]\nnetwork = \"prod\"\nsubnet = \"web\"\nrestart = \"never\"\n\
         command = [\"/bin/sh\", \"-c\", \"echo x >> {mark}\"]\n"
    );
    lab.apply(&spec);
    let deadline = Instant::now() + Duration::from_secs(10);
    while states(&lab).iter().any(|(_, state)| state != "stopped") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lab.apply(&spec).steps, []);
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n");
}
