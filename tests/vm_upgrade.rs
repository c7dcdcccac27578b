//! A host whose guests run on is taken over from an earlier hostctl: its records
//! are those of d346908, which are kept in `tests/data/records`. By the program,
//! with real guests (TCG).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use hostctl::testbed::Options;
use serde_json::{Value, json};

use crate::support::commands::{done, json as told, run, write};
use crate::support::lab::Lab;
use crate::support::processes::{alive, kill, until};

/// Of the spec's own files; what lies there is made anew.
const FILES: &str = "/srv/records";

struct Upgrade {
    lab: Lab,
    kept: PathBuf,
    guests: &'static [&'static str],
    /// `hostctl vm run` of a guest that is a unit's.
    unit: Option<Child>,
}

impl Upgrade {
    /// The host of that name, with its guests running.
    fn begin(name: &str, guests: &'static [&'static str]) -> Self {
        let lab = Lab::new(Options::default()).with_images();
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/records/d346908").join(name);
        let files = lab.root_dir().join("srv");
        let spec = fs::read_to_string(kept.join("host.toml")).unwrap();
        let spec = spec.replace(FILES, files.to_str().unwrap());
        make_files(&lab, &files);
        write(&lab, &spec);
        done(&lab, &["apply"]);
        let mut host = Self { lab, kept, guests, unit: None };
        for guest in guests {
            if *guest == "of-a-unit" {
                host.unit = Some(host.run(guest));
                until("the unit's guest runs", || host.guest(guest)["pid"].is_u64());
            } else {
                done(&host.lab, &["vm", "up", guest, "--timeout", "300"]);
            }
        }
        host
    }

    /// A supervisor in the foreground.
    fn run(&self, guest: &str) -> Child {
        let root = self.lab.root_dir();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command.arg("--root-dir").arg(root).args(["vm", "run", guest]);
        self.lab.world.hypervisor.run(|| command.spawn().unwrap())
    }

    fn guest(&self, name: &str) -> Value {
        let all = told(&self.lab, &["vm", "list"]);
        all.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
    }

    fn pids(&self) -> Vec<u64> {
        self.guests.iter().filter_map(|name| self.guest(name)["pid"].as_u64()).collect()
    }

    /// The supervisor's pid.
    fn supervisor(&self, name: &str) -> u32 {
        let shown = told(&self.lab, &["vm", "show", name]);
        shown["status"]["supervisor_pid"].as_u64().unwrap().try_into().unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.lab.root_dir().join(file)
    }

    fn record(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap()
    }

    /// The records are those of the earlier version. What differs from run to
    /// run (processes, namespaces, inodes) is this run's.
    fn write_kept(&self) {
        let files = self.lab.root_dir().join("srv");
        let images = self.lab.host.root.images();
        let kept = |file: &str| {
            let text = fs::read_to_string(self.kept.join(file)).unwrap();
            let text = text.replace(FILES, files.to_str().unwrap());
            let text = text.replace("/var/lib/hostctl/images", images.to_str().unwrap());
            serde_json::from_str::<Value>(&text).unwrap()
        };
        for guest in self.guests {
            let at = |file: &str| format!("run/hostctl/vms/{guest}/{file}");
            fs::write(self.path(&at("vm.json")), kept(&at("vm.json")).to_string()).unwrap();
            let (mut launched, now) = (kept(&at("launch.json")), self.record(&at("launch.json")));
            for key in ["pid", "start_time", "birthplace"] {
                launched[key] = now[key].clone();
            }
            fs::write(self.path(&at("launch.json")), launched.to_string()).unwrap();
            let (mut booted, now) = (kept(&at("booted.json")), self.record(&at("booted.json")));
            for (file, now) in
                booted["files"].as_array_mut().unwrap().iter_mut().zip(now["files"].as_array().unwrap())
            {
                assert_eq!(file["key"], now["key"]);
                file["path"] = now["path"].clone();
                file["identity"] = now["identity"].clone();
            }
            fs::write(self.path(&at("booted.json")), booted.to_string()).unwrap();
        }
        for file in ["forwarding.json", "firewall.json"].map(|file| format!("run/hostctl/{file}")) {
            fs::write(self.path(&file), kept(&file).to_string()).unwrap();
        }
        let generation = "var/lib/hostctl/generations/1.json";
        fs::write(self.path(generation), kept(generation).to_string()).unwrap();
    }

    /// Nothing is to be done, nothing is done, and nothing waits.
    fn nothing_to_do(&self, pids: &[u64]) {
        assert_eq!(done(&self.lab, &["plan"]).lines().next(), Some("nothing to do"));
        let applied = done(&self.lab, &["apply"]);
        assert!(applied.starts_with("nothing to do\n") && !applied.contains("waits"), "{applied}");
        assert_eq!(self.pids(), pids);
        for guest in self.guests {
            assert_eq!(self.pending(guest), Vec::<String>::new(), "{guest}");
        }
    }

    /// The keys that wait for a guest's next start.
    fn pending(&self, name: &str) -> Vec<String> {
        let pending = self.guest(name)["pending"].clone();
        pending.as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap().to_owned()).collect()
    }

    /// Its supervisor is of the earlier version too, and ends. The next apply
    /// starts one that takes the guest over.
    fn take_over(&self, name: &str, pids: &[u64]) {
        let supervisor = self.supervisor(name);
        kill(supervisor);
        until("the supervisor is gone", || !alive(supervisor));
        let applied = done(&self.lab, &["apply"]);
        assert!(applied.contains("the guest goes on"), "{applied}");
        until("another one answers", || {
            self.guest(name)["state"].as_str().is_some_and(|state| state == "ready")
        });
        assert_eq!(self.pids(), pids);
    }
}

impl Drop for Upgrade {
    fn drop(&mut self) {
        if let Some(mut unit) = self.unit.take() {
            let _ = self.lab.hostctl(&["vm", "down", "of-a-unit", "--timeout", "1"]);
            let _ = unit.kill();
            let _ = unit.wait();
        }
    }
}

fn make_files(lab: &Lab, files: &Path) {
    let image = lab.host.root.images().join("probe");
    fs::create_dir_all(files).unwrap();
    fs::copy(image.join("vmlinuz"), files.join("vmlinuz")).unwrap();
    fs::copy(image.join("initrd.img"), files.join("initrd")).unwrap();
    for disk in ["disk.raw", "volume.raw"] {
        fs::write(files.join(disk), vec![0; 1 << 20]).unwrap();
    }
    fs::write(files.join("volume.qcow2"), empty_qcow2()).unwrap();
}

/// A disk of 1 MiB with nothing in it (QEMU: docs/interop/qcow2.rst): header,
/// table of reference counts, their block, table of clusters.
fn empty_qcow2() -> Vec<u8> {
    const CLUSTER: usize = 1 << 16;
    let mut file = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb\0\0\0\x02");
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 20).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(3 * CLUSTER as u64).to_be_bytes());
    put(48, &(CLUSTER as u64).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    (0..4).for_each(|cluster| put(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes()));
    file
}

#[test]
fn an_earlier_versions_guest_is_taken_over_and_damage_to_its_records_ends_nothing() {
    const LAUNCH: &str = "run/hostctl/vms/plain/launch.json";
    const DESIRED: &str = "run/hostctl/vms/plain/vm.json";
    let host = Upgrade::begin("plain", &["plain"]);
    let pids = host.pids();
    host.write_kept();
    let whole = host.record(DESIRED);
    host.nothing_to_do(&pids);
    assert_eq!(host.record(DESIRED), whole, "it is known as what it was");
    host.take_over("plain", &pids);
    host.nothing_to_do(&pids);

    // What it is to be is written anew where it isn't known.
    let odd = {
        let mut value = whole.clone();
        value["image"] = json!(7);
        value.to_string()
    };
    for text in [odd.as_str(), "[]", ""] {
        fs::write(host.path(DESIRED), text).unwrap();
        host.nothing_to_do(&pids);
        assert_eq!(host.record(DESIRED)["image"], json!({ "named": "probe" }), "{text}");
    }

    // What it was started with: with more in it, less, something else; and torn.
    let whole = host.record(LAUNCH);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value = whole.clone();
        change(&mut value);
        value.to_string()
    };
    let remove = |value: &mut Value, key: &str| drop(value.as_object_mut().unwrap().remove(key).unwrap());
    let cases: [(String, &[&str]); 9] = [
        (changed(&|one| one["vm"]["port"]["later"] = json!([{ "more": 1 }])), &[]),
        (changed(&|one| one["version"] = json!(99)), &[]),
        (changed(&|one| remove(&mut one["vm"], "memory")), &["memory"]),
        (changed(&|one| one["vm"]["cmdline"] = json!({ "words": [] })), &["cmdline"]),
        (changed(&|one| one["accel"] = json!("hyperspace")), &[]),
        (changed(&|one| one["pid"] = json!("many")), &[]),
        (changed(&|one| remove(one, "start_time")), &[]),
        (changed(&|one| one["birthplace"] = json!("here")), &[]),
        ("{\"vm\": {\"na".into(), &["everything"]),
    ];
    for (text, waiting) in cases {
        fs::write(host.path(LAUNCH), &text).unwrap();
        assert_eq!((host.pids(), host.pending("plain")), (pids.clone(), owned(waiting)), "{text}");
        assert!(done(&host.lab, &["apply"]).starts_with("nothing to do\n"), "{text}");
        host.take_over("plain", &pids);
        assert_eq!((host.pids(), host.pending("plain")), (pids.clone(), owned(waiting)), "{text}");
    }
    done(&host.lab, &["vm", "down", "plain", "--timeout", "5"]);
    assert!(!alive(pids[0].try_into().unwrap()));
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn guests_of_every_kind_are_taken_over() {
    let host = Upgrade::begin("everything", &["files", "a-guest-with-a-long-name", "of-a-unit"]);
    let pids = host.pids();
    host.write_kept();
    for guest in host.guests {
        // The record had the shape that --json prints; that is still printed, beside
        // what is new.
        let kept = host.record(&format!("run/hostctl/vms/{guest}/vm.json"));
        let shown = &told(&host.lab, &["vm", "show", guest])["vm"];
        for (key, value) in kept.as_object().unwrap() {
            assert_eq!(&shown[key], value, "{key}");
        }
    }
    host.nothing_to_do(&pids);
    for guest in ["files", "a-guest-with-a-long-name"] {
        host.take_over(guest, &pids);
    }
    host.nothing_to_do(&pids);
}

/// Of each file that hostctl reads again: something else in its place, and in
/// the place of each of its parts. What can't do without refuses, and ends no
/// guest either.
#[test]
fn damage_to_any_record_ends_no_guest() {
    const REFUSED: [&str; 2] = ["unconfirmed.json", "command.json"];
    let host = Upgrade::begin("plain", &["plain"]);
    let pids = host.pids();
    let kept = host.kept.parent().unwrap();
    let mut files = Vec::new();
    for directory in
        ["run/hostctl", "run/hostctl/vms/plain", "var/lib/hostctl", "var/lib/hostctl/generations"]
    {
        let entries = fs::read_dir(host.path(directory)).unwrap().map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")));
    }
    let mut names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    names.sort_unstable();
    let wanted =
        ["1.json", "birthplace.json", "birthplace.json", "booted.json", "firewall.json", "forwarding.json"];
    assert_eq!(names, [&wanted[..], &["launch.json", "settled.json", "vm.json"]].concat());
    // These are there only while something is under way.
    let state = host.lab.host.root.state();
    let passing = ["waiting/unconfirmed.json", "rejected/unconfirmed.json", "killed/command.json"];
    let passing = passing.map(|record| (state.join(record.split('/').nth(1).unwrap()), kept.join(record)));
    let mut tried = 0;
    let all = files.into_iter().map(|path| (path.clone(), path)).chain(passing);
    // First of all: what seems to be another host's is forgotten on the way.
    let all: Vec<_> = all.map(|(path, from)| (path, fs::read(from).unwrap())).collect();
    for (path, whole) in all {
        let name = path.file_name().unwrap().to_str().unwrap();
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        let mut texts: Vec<String> = ["", "{", "[]", "{}", "7"].map(Into::into).to_vec();
        for key in whole.as_object().unwrap().keys() {
            for odd in [None, Some(json!({ "odd": [] })), Some(json!(-7)), Some(json!("odd"))] {
                let mut value = whole.clone();
                match odd {
                    Some(odd) => value[key] = odd,
                    None => drop(value.as_object_mut().unwrap().remove(key)),
                }
                texts.push(value.to_string());
            }
        }
        let mut more = whole.clone();
        more["later"] = json!({ "version": 7 });
        texts.push(more.to_string());
        for text in texts {
            fs::write(&path, &text).unwrap();
            let (code, said) = run(&host.lab, &["apply"]);
            let refuses = REFUSED.contains(&name);
            assert!(code == 0 || (refuses && said.contains(name)), "{}: {text}: {said}", path.display());
            assert_eq!(host.pids(), pids, "{}: {text}: {said}", path.display());
            tried += 1;
        }
        if REFUSED.contains(&name) {
            let _ = fs::remove_file(&path);
        } else {
            fs::write(&path, whole.to_string()).unwrap();
        }
    }
    assert!(tried > 150, "{tried}");
    host.nothing_to_do(&pids);
}
