//! Apps by spec: started, changed, removed with their subnets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::spec_parts::{namespace, wide_network};
use hostctl::app;
use hostctl::testbed::{Netns, Options, http_get};

/// The spec, with a number of seconds that is this test's own.
fn spec() -> String {
    SPEC.replace("987654", &seconds())
}

fn seconds() -> String {
    (1_000_000 + std::process::id()).to_string()
}

const SPEC: &str = concat!(
    wide_network!("prod" 20),
    namespace!("public" "prod" / "web" "10.20.1.0/24"),
    namespace!("private" "prod" / "db" "10.20.2.0/24"),
    r#"[apps.page]
network = "prod"
subnet = "web"
webserver = { port = 8080, greeting = "from the web subnet" }
[apps.sleeper]
network = "prod"
subnet = "db"
command = ["/bin/sh", "-c", "trap '' TERM; (setsid sleep 987654 &) ; sleep 987654"]
"#,
);

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

/// What the first version of hostctl wrote down, in the place of what this one
/// does.
const FIRST: [(&str, &str, &str); 4] = [
    ("page", "app.json", include_str!("data/records/82569b8/apps/run/hostctl/apps/prod-web/page/app.json")),
    ("site", "app.json", include_str!("data/records/82569b8/apps/run/hostctl/apps/prod-web/site/app.json")),
    (
        "script",
        "app.json",
        include_str!("data/records/82569b8/apps/run/hostctl/apps/prod-web/script/app.json"),
    ),
    (
        "once",
        "ended.json",
        include_str!("data/records/82569b8/apps/run/hostctl/apps/prod-web/once/ended.json"),
    ),
];

#[test]
fn apps_of_the_first_version_are_taken_over_and_not_started_again() {
    let lab = Lab::new(Options::default());
    let www = tempfile::tempdir().unwrap();
    let here = |text: &str| text.replace("/srv/www", &www.path().display().to_string());
    let spec = include_str!("data/records/82569b8/apps/host.toml");
    let spec = here(spec.split_once("[apps.broken]").unwrap().0);
    lab.apply(&spec);
    let running = || {
        let seen = app::observe(&lab.host.root).unwrap();
        let pids = seen.iter().filter_map(|one| Some((one.name.to_string(), one.status.as_ref()?.pid?)));
        pids.collect::<Vec<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while running().len() != 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = running();
    assert_eq!(before.len(), 3, "{:?}", states(&lab));
    for (name, file, text) in FIRST {
        let path = lab.host.root.app("prod-web", name).join(file);
        assert!(path.exists(), "{}", path.display());
        std::fs::write(&path, here(text)).unwrap();
    }
    assert_eq!(lab.apply(&spec).steps, []);
    assert_eq!(running(), before);
    // A change of one is still seen, and named.
    let outcome = lab.apply(&spec.replace("PASSWORD = \"hunter2\"", "PASSWORD = \"hunter3\""));
    let steps: Vec<String> = outcome.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        ["hostctl app stop script    # its spec changed: environment", "hostctl app start script"],
        "{steps:#?}"
    );
}

#[test]
fn an_app_is_the_user_that_its_spec_names_or_isnt_started() {
    let lab = Lab::new(Options::default());
    let (networks, _) = SPEC.split_once("[apps.page]").unwrap();
    let spec = |user: &str| {
        format!(
            "{networks}[apps.who]\nnetwork = \"prod\"\nsubnet = \"web\"\nuser = \"{user}\"\n\
             command = [\"sleep\", \"{}\"]\n",
            seconds()
        )
    };
    let file = lab.root_dir().join("who.toml");
    let apply = |user: &str| {
        std::fs::write(&file, spec(user)).unwrap();
        lab.hostctl(&["apply", file.to_str().unwrap()])
    };
    // Nothing is touched for one whose user isn't there.
    let refused = apply("nobody-is-called-so");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("nothing was changed") && said.contains("who.toml:14: app prod-web/who: user"),
        "{said}"
    );
    assert!(said.contains("the host knows no such user"), "{said}");
    assert_eq!(lab.output("ip", &["netns", "list"]), "");
    // A VM's user could stop its QEMU.
    let refused = apply("1879048192:100");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("the users of VMs' QEMUs"), "{said}");

    let done = apply("4321:1234");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let status = || {
        let seen = app::observe(&lab.host.root).unwrap();
        let pid = seen.first()?.status.as_ref()?.pid?;
        std::fs::read_to_string(format!("/proc/{pid}/status")).ok()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let is = |ids: &str| status().is_some_and(|text| text.contains(ids));
    while !is("Uid:\t4321\t4321\t4321\t4321\nGid:\t1234\t1234\t1234\t1234") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(is("Uid:\t4321\t4321"), "{:?}", status());
    // What confines it takes effect at once.
    let plan = lab.hostctl(&["plan", file.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&plan.stdout).contains("nothing to do"), "{plan:?}");
    assert!(apply("daemon").status.success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is("Uid:\t1\t1\t1\t1") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(is("Uid:\t1\t1\t1\t1"), "{:?}", status());
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
