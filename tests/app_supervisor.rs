//! Apps under their supervisors, against a real kernel: they run, are stopped
//! and started again, and however they try to get away, nothing of them is
//! left.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use hostctl::app::{self, AppError, State};
use rustix::process::Signal;
use serde_json::json;

use crate::support::app_host::{Host, LONG, name};
use crate::support::processes::{signal, until};

#[test]
fn an_app_runs_in_its_namespace_is_logged_and_stopped() {
    let host = Host::new(
        "echo out; echo err >&2; echo marker=$HOSTCTL_APP; readlink /proc/self/ns/net; \
         env | sort | tr '\\n' ' '; trap 'echo bye; exit 0' TERM; > $DIR/ready; while :; do sleep 0.1; done",
        |_| {},
    );
    let status = host.start_ready();
    let inode = rustix::fs::fstat(host.netns.fd()).unwrap().st_ino;
    for text in ["out\n", "err\n", ":prod-web/api\n", &format!("net:[{inode}]")] {
        host.logged(text);
    }
    assert!(!host.log().contains("CARGO"), "the supervisor's environment isn't the app's");
    assert_eq!((status.restarts, status.retry_in_ms), (0, None));
    assert!(host.processes().contains(&status.pid.unwrap()));
    assert!(!host.processes().contains(&status.supervisor_pid));

    let observed = host.observed();
    assert_eq!(observed.record.as_ref().unwrap().app().as_ref(), Ok(&host.app));
    assert_eq!((observed.state().as_str(), observed.supervised), ("running", true));
    let again = app::spawn_supervisor(&host.root, &host.app, "/nowhere".as_ref()).unwrap_err();
    assert!(matches!(again, AppError::Supervised { .. }), "{again}");

    let begun = Instant::now();
    host.stop(LONG);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    host.logged("bye");
    assert_eq!(host.processes(), [0_u32; 0]);
    let observed = host.observed();
    assert_eq!((observed.state().as_str(), observed.supervised, observed.record), ("stopped", false, None));
    host.stop(LONG);
    app::remove(&host.root, &host.app.namespace, &host.app.name, LONG).unwrap();
    assert!(app::observe(&host.root).unwrap().is_empty() && !host.root.apps().join("prod-web").exists());
}

#[test]
fn an_app_makes_files_as_other_programs_do() {
    // hostctl's own umask is for its own files, and a test has none.
    for isolate in [false, true] {
        let host = Host::new("umask; > $DIR/made; exit 0", |value| value["isolate"] = isolate.into());
        host.start();
        assert_eq!(host.over(), None, "{}", host.log());
        host.logged("0022\n");
        let mode = std::fs::metadata(host.path("made")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "isolate: {isolate}");
    }
}

#[test]
fn an_app_cant_change_its_namespace_though_it_is_root() {
    for isolate in [false, true] {
        let script = "grep -E '^Cap(Prm|Eff|Bnd|Inh|Amb)' /proc/self/status; \
             ip link set lo mtu 1234 2>&1; ip link show lo; nsenter --net=/proc/1/ns/net true 2>&1; \
             unshare --net true 2>&1; echo over; exit 0";
        let host = Host::new(script, |value| value["isolate"] = isolate.into());
        host.start();
        assert_eq!(host.over(), None, "{}", host.log());
        host.logged("over\n");
        let log = host.log();
        let sets: Vec<u64> = log
            .lines()
            .filter_map(|line| line.strip_prefix("Cap"))
            .map(|set| u64::from_str_radix(set.split_once('\t').unwrap().1, 16).unwrap())
            .collect();
        assert_eq!(sets.len(), 5, "{log}");
        // CAP_NET_ADMIN, and by which it would be had again: SYS_MODULE,
        // SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, BPF. CAP_NET_RAW stays.
        for number in [12, 16, 17, 19, 21, 39] {
            assert!(sets.iter().all(|set| set & (1 << number) == 0), "capability {number}: {log}");
        }
        assert!(log.contains("mtu 65536") && !log.contains("mtu 1234"), "{log}");
        assert_eq!(
            log.matches("Operation not permitted").count() + log.matches("Permission denied").count(),
            3,
            "{log}"
        );
    }
}

#[test]
fn an_app_that_ends_is_stopped_or_failed_as_it_says() {
    let host = Host::new("exit 0", |value| value["restart"] = "on-failure".into());
    host.start();
    assert_eq!(host.over(), None);

    let host = Host::new("echo 'no \x1b[31mluck' >&2; exit 7", |_| {});
    host.start();
    assert_eq!(host.over().unwrap(), "it exited with status 7; its last words: no  [31mluck");
    let host = Host::new("kill -SEGV $$", |_| {});
    host.start();
    assert_eq!(host.over().unwrap(), "it was killed by signal 11");
    assert_eq!(host.observed().state(), "failed: it was killed by signal 11");
}

#[test]
fn an_app_that_cant_start_says_why() {
    let host = Host::new("", |value| value["workload"] = json!({ "command": ["no-such-program"] }));
    host.start();
    let failed = host.wait(&State::Running).unwrap_err();
    assert!(failed.contains("can't start no-such-program: No such file"), "{failed}");

    let host = Host::new("", |value| value["namespace"] = "prod-none".into());
    host.start();
    let failed = host.wait(&State::Running).unwrap_err();
    assert!(failed.contains("there is no network namespace prod-none"), "{failed}");
}

#[test]
fn sigterm_that_is_ignored_is_followed_by_sigkill() {
    let host = Host::new("trap '' TERM; > $DIR/ready; while :; do sleep 1; done", |_| {});
    host.start_ready();
    let begun = Instant::now();
    host.stop(Duration::from_secs(1));
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&took), "{took:?}");
    assert_eq!(host.processes(), [0_u32; 0]);
}

#[test]
fn a_stopped_process_still_ends() {
    let host =
        Host::new("trap 'exit 0' TERM; > $DIR/ready; kill -STOP $$; while :; do sleep 0.1; done", |_| {});
    let pid = host.start_ready().pid.unwrap();
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    until("it is stopped", || stat().contains(") T "));
    let begun = Instant::now();
    host.stop(LONG);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Forks away twice, in a session of its own, deaf and without the marker.
const DAEMON: &str = "setsid sh -c 'trap \"\" TERM HUP; \
    (env -i sh -c \"trap \\\"\\\" TERM; echo daemon; while :; do sleep 1; done\" &) ' & wait $!; > $DIR/ready;";

#[test]
fn a_daemon_that_forks_away_ends_with_its_app() {
    let host = Host::new(&format!("{DAEMON} while :; do sleep 1; done"), |_| {});
    let status = host.start_ready();
    host.logged("daemon");
    assert!(host.processes().len() >= 3, "{:?}", host.processes());
    signal(status.supervisor_pid, Signal::TERM);
    // The daemon is deaf: the supervisor's own limit of 10 s.
    assert_eq!(host.over(), None);
    assert_eq!(host.processes(), [0_u32; 0]);
}

#[test]
fn a_daemon_doesnt_outlive_the_program_that_left_it() {
    let host = Host::new(&format!("{DAEMON} exit 3"), |_| {});
    host.start();
    assert!(host.over().unwrap().starts_with("it exited with status 3"));
    assert_eq!(host.processes(), [0_u32; 0]);
}

#[test]
fn a_crowd_that_forks_on_is_ended() {
    let script = "trap '' TERM; for i in 1 2 3 4 5 6; do \
        (while :; do (sleep 0.02; sleep 60) & sleep 0.02; done) & done; > $DIR/ready; wait";
    let host = Host::new(script, |_| {});
    host.start_ready();
    until("there is a crowd", || host.processes().len() > 60);
    host.stop(Duration::from_millis(100));
    assert_eq!(host.processes(), [0_u32; 0]);
}

#[test]
fn a_chain_of_short_lived_processes_is_caught() {
    // Each is gone as soon as it has started the next.
    let host = Host::new(
        "echo 'trap \"\" TERM; setsid sh $0 & exit' > $DIR/hop; sh $DIR/hop; > $DIR/ready; sleep 60",
        |_| {},
    );
    host.start_ready();
    std::thread::sleep(Duration::from_millis(300));
    host.stop(Duration::from_millis(100));
    assert_eq!(host.processes(), [0_u32; 0]);
}

#[test]
fn a_flood_of_output_blocks_nobody_and_fills_no_disk() {
    let host = Host::new("> $DIR/ready; exec yes all work and no play makes jack a dull boy", |_| {});
    host.start_ready();
    let old = host.log_path().with_extension("1");
    until("the log was put aside", || old.exists());
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(host.status().unwrap().state, State::Running);
        let size = |path| std::fs::metadata(path).map_or(0, |file| file.len());
        assert!(size(host.log_path()) <= 1 << 20 && size(old.clone()) <= 1 << 20);
    }
    host.stop(LONG);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn crashes_are_followed_by_ever_later_starts() {
    let host = Host::new("date +%s.%N >> $DIR/starts; exit 1", |value| value["restart"] = "always".into());
    host.start();
    let starts = || -> Vec<f64> {
        let text = std::fs::read_to_string(host.path("starts")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    until("it was started three times", || starts().len() >= 3);
    let seen = starts();
    let pauses = [seen[1] - seen[0], seen[2] - seen[1]];
    assert!(pauses[0] >= 1.0 && pauses[1] >= 2.0, "{pauses:?}");
    until("it waits", || host.status().is_some_and(|status| status.retry_in_ms == Some(4000)));
    let status = host.status().unwrap();
    assert_eq!((status.restarts, status.failures, status.pid), (3, 3, None));
    assert!(matches!(&status.state, State::Failed(why) if why == "it exited with status 1"), "{status:?}");
    // It isn't waited for.
    let begun = Instant::now();
    host.stop(LONG);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn what_a_killed_supervisor_left_is_ended_by_the_next() {
    let script = "setsid sh -c 'trap \"\" TERM; echo stray; while :; do sleep 1; done' & > $DIR/ready; wait";
    let host = Host::new(script, |_| {});
    let first = host.start_ready();
    host.logged("stray");
    let before = host.processes();
    signal(first.supervisor_pid, Signal::KILL);
    until("the program dies with its supervisor", || !host.processes().contains(&first.pid.unwrap()));
    let strays: Vec<u32> = host.processes();
    assert!(!strays.is_empty(), "a grandchild isn't told");
    assert_eq!(host.observed().state(), "lost its supervisor");
    host.start();
    host.running();
    until("the strays are gone", || !host.processes().iter().any(|pid| before.contains(pid)));
    until("it has a stray again", || host.log().matches("stray").count() > 1);

    // And by whoever cleans up; an app that is supervised isn't touched.
    assert_eq!(app::reap_strays(&host.root).unwrap(), []);
    signal(host.status().unwrap().supervisor_pid, Signal::KILL);
    until("the lock is free", || !host.observed().supervised);
    let (namespace, name) = name("api");
    let reaped = app::reap_strays(&host.root).unwrap();
    assert!(
        !reaped.is_empty() && reaped.iter().all(|stray| stray.namespace == namespace && stray.name == name)
    );
    until("they are gone", || host.processes().is_empty());
}

#[test]
fn a_namespace_that_goes_takes_everybody_along() {
    // Neither supervisor nor marker leads to it.
    let host = Host::new(&format!("{DAEMON} while :; do sleep 1; done"), |_| {});
    let status = host.start_ready();
    host.logged("daemon");
    signal(status.supervisor_pid, Signal::KILL);
    until("the lock is free", || !host.observed().supervised);
    let mut second = host.app.clone();
    second.name = name("second").1;
    app::spawn_supervisor(&host.root, &second, env!("CARGO_BIN_EXE_hostctl").as_ref()).unwrap();
    let namespace = &host.app.namespace;
    app::wait_until(&host.root, (namespace, &second.name), &State::Running, LONG, |_| {}).unwrap();
    app::stop_all(&host.root, namespace, Duration::from_secs(1)).unwrap();
    assert!(app::observe(&host.root).unwrap().iter().all(|app| app.state() == "stopped"));
    let left = host.processes();
    assert!(!left.is_empty(), "the daemon isn't found by its environment");
    let mut evicted = app::evict(namespace).unwrap();
    evicted.retain(|pid| left.contains(pid));
    assert_eq!(evicted.len(), left.len());
    assert_eq!((host.processes(), app::evict(namespace).unwrap()), (vec![], vec![]));
    host.names.delete("prod-web").unwrap();
    assert_eq!(app::evict(namespace).unwrap(), [0_u32; 0]);
}

#[test]
fn nobody_is_evicted_from_the_callers_own_namespace() {
    let host = Host::new("", |_| {});
    let refused = host.netns.run(|| app::evict(&host.app.namespace)).unwrap_err();
    assert!(matches!(refused, AppError::SparedNamespace(_)), "{refused}");
}

#[test]
fn an_isolated_app_sees_itself_alone_and_nothing_of_it_survives() {
    let script = "echo pid=$$; echo procs=$(ls /proc | grep -c '^[0-9]'); echo links=$(ls /sys/class/net); \
        env -i setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & > $DIR/ready; wait";
    let host = Host::new(script, |value| value["isolate"] = true.into());
    let status = host.start_ready();
    // Process 1 buries orphans; the program is its child.
    host.logged("pid=2\n");
    host.logged("links=lo\n");
    let log = host.log();
    let procs = log.lines().find_map(|line| line.strip_prefix("procs=")).unwrap().parse::<u32>().unwrap();
    assert!(procs <= 6, "{procs} processes are seen");
    until("all of it runs", || host.processes().len() >= 4);
    // The mounts are its own.
    assert!(std::fs::read_dir("/proc").unwrap().count() > 10);
    signal(status.supervisor_pid, Signal::KILL);
    until("all of it is gone", || host.processes().is_empty());

    host.start();
    host.running();
    until("all of it runs again", || host.processes().len() >= 4);
    host.stop(Duration::from_millis(500));
    assert_eq!(host.processes(), [0_u32; 0]);
}

#[test]
fn an_isolated_apps_end_is_its_own() {
    let host = Host::new("id -u; id -g; echo sorry; exit 5", |value| {
        value["isolate"] = true.into();
        value["user"] = json!({ "uid": 4321, "gid": 1234 });
    });
    host.start();
    assert_eq!(host.over().unwrap(), "it exited with status 5; its last words: sorry");
    assert!(host.log().starts_with("4321\n1234\n"), "{}", host.log());
    let host = Host::new("", |value| {
        value["isolate"] = true.into();
        value["workload"] = json!({ "command": ["no-such-program"] });
    });
    host.start();
    let failure = host.over().unwrap();
    assert!(failure.contains("can't start no-such-program: No such file"), "{failure}");
}

#[test]
fn a_user_has_no_way_back_to_root() {
    let host = Host::new("grep -E '^(Uid|Gid|Groups|NoNewPrivs|CapEff)' /proc/self/status", |value| {
        value["user"] = json!({ "uid": 4321, "gid": 1234 });
    });
    host.start();
    assert_eq!(host.over(), None);
    let log = host.log();
    for line in ["Uid:\t4321\t4321\t4321\t4321", "Gid:\t1234\t1234\t1234\t1234", "NoNewPrivs:\t1"] {
        assert!(log.contains(line), "{log}");
    }
    assert!(log.contains("CapEff:\t0000000000000000") && log.contains("Groups:\t \n"), "{log}");
}

#[test]
fn an_app_is_who_its_spec_names() {
    // Not the supervisor's groups either; nobody has none beside its own.
    let script = "grep -E '^(Uid|Gid|Groups|NoNewPrivs|CapEff)' /proc/self/status; exit 0";
    for (isolate, user, ids) in [
        (false, "daemon", "Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t \n"),
        (true, "1", "Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t \n"),
        (true, "4321:1234", "Uid:\t4321\t4321\t4321\t4321\nGid:\t1234\t1234\t1234\t1234\nGroups:\t \n"),
    ] {
        let host = Host::new(script, |value| {
            value["runs_as"] = user.into();
            value["isolate"] = isolate.into();
        });
        host.start();
        assert_eq!(host.over(), None, "{user}: {}", host.log());
        let log = host.log();
        assert!(log.starts_with(ids) && log.contains("NoNewPrivs:\t1"), "{user}: {log}");
        assert!(log.contains("CapEff:\t0000000000000000"), "{user}: {log}");
    }
    let host = Host::new(script, |value| value["runs_as"] = "root".into());
    host.start();
    assert_eq!(host.over(), None);
    assert!(host.log().starts_with("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n"), "{}", host.log());
    // Found missing at the start, it isn't started as somebody else.
    let host = Host::new("> $DIR/ran", |value| value["runs_as"] = "nobody-is-called-so".into());
    host.start();
    let failed = host.over().unwrap();
    assert!(failed.contains("user nobody-is-called-so: the host knows no such user"), "{failed}");
    assert!(!host.path("ran").exists());
}

#[test]
fn a_record_that_cant_be_understood_starts_nothing() {
    // An app whose user were lost on the way would be root.
    let host = Host::new("> $DIR/ran; sleep 60", |value| value["runs_as"] = "daemon".into());
    app::write_desired(&host.root, &host.app).unwrap();
    let path = host.root.app("prod-web", "api").join("app.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"daemon\"", "{\"dynamic\":true}")).unwrap();
    let error = app::read_desired(&host.root, &host.app.namespace, &host.app.name).unwrap_err();
    let said = "its user can't be understood: another version of hostctl wrote it";
    assert!(error.to_string().contains(said), "{error}");
    let supervisor =
        ["--root-dir", host.root.path().to_str().unwrap(), "app", "supervise", "prod-web", "api"];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hostctl")).args(supervisor).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    assert!(!output.status.success() && !host.path("ran").exists());
}

#[test]
fn limits_are_kept_or_refused() {
    let host = Host::new("> $DIR/ready; sleep 60", |value| {
        value["limits"] = json!({ "memory": 64, "pids": 20 });
    });
    host.start();
    match host.wait(&State::Running) {
        Ok(status) => {
            let group = std::fs::read_to_string(format!("/proc/{}/cgroup", status.pid.unwrap())).unwrap();
            assert!(group.contains("/hostctl/"), "{group}");
        }
        Err(failed) => assert!(
            failed.contains("limits need cgroup v2 with the ") && failed.contains("this host has "),
            "{failed}"
        ),
    }
}
