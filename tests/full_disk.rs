//! What can't be written down isn't left half done: a full disk, a missing
//! QEMU, a spec that takes everything away.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::commands;
use crate::support::commands::{code, done, refused, run, write};
use crate::support::lab::Lab;
use hostctl::host::{HostError, Step, Watch};
use hostctl::spec::SpecEdit;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const ONE: &str = "[networks.a]\ncidr = \"10.1.0.0/24\"\n[vms.a1]\nnetwork = \"a\"\nimage = \"probe\"\n\
                   autostart = false\n";

fn two() -> String {
    format!("{ONE}[networks.b]\ncidr = \"10.2.0.0/24\"\n")
}

/// The names of the host's links; their state settles by itself.
fn links(lab: &Lab) -> String {
    let listed = commands::links(lab);
    listed.lines().filter_map(|line| line.split_whitespace().next()).collect::<Vec<_>>().join(" ")
}

/// A small file system, in this test's mount namespace; gone with this, since
/// the directory under it can't be removed before.
struct Small<'p>(&'p Path);

impl Drop for Small<'_> {
    fn drop(&mut self) {
        _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

/// One of 64 KiB at `path`.
#[must_use]
fn small(path: &Path) -> Small<'_> {
    fs::create_dir_all(path).unwrap();
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(c"size=64k,mode=700")).unwrap();
    Small(path)
}

/// Takes all the room there is.
fn fill(path: &Path) -> PathBuf {
    let filler = path.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let mut pages = 0;
    while file.write_all(&[b'x'; 4096]).is_ok() {
        pages += 1;
        assert!(pages < 64, "this isn't the small file system");
    }
    filler
}

fn drafts(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_generation_that_cant_be_written_changes_nothing() {
    let lab = Lab::of_ipv4();
    let state = lab.host.root.state();
    let _small = small(&state);
    lab.apply(ONE);
    let before = links(&lab);
    let filler = fill(&state);
    let error = lab.try_apply(&two(), &mut hostctl::host::Silent).unwrap_err().to_string();
    assert!(error.contains("2.json: No space left") && error.contains("Nothing was changed"), "{error}");
    assert_eq!(links(&lab), before);
    assert_eq!(lab.plan(ONE).unwrap(), []);
    assert_eq!(drafts(&state.join("generations")), [""; 0]);
    // By the program, and by a command that writes a drop-in.
    write(&lab, &two());
    refused(&lab, &["apply"], 1, "No space left");
    write(&lab, ONE);
    refused(&lab, &["vpc", "create", "--name", "c", "--cidr", "10.3.0.0/24"], 1, "No space left");
    assert!(!state.join("host.d/commands.json").exists() && !state.join("command.json").exists());
    refused(&lab, &["apply", "--confirm", "1h", lab.host.root.host_spec().to_str().unwrap()], 1, "No space");
    assert_eq!(links(&lab), before);
    assert_eq!(drafts(&state), [""; 0]);
    fs::remove_file(filler).unwrap();
    assert_eq!(lab.apply(&two()).generation, Some(2));
}

/// Fills the disk before a step, or loses what was written for later; and may
/// fail then.
struct Meddling<'a> {
    at: usize,
    with: &'a (dyn Fn() + Sync),
    fails: bool,
}

impl Watch for Meddling<'_> {
    fn before(&mut self, number: usize, _: usize, _: &Step) -> Result<(), HostError> {
        if number != self.at {
            return Ok(());
        }
        (self.with)();
        if self.fails { Err(HostError::Interrupted) } else { Ok(()) }
    }
}

#[test]
fn what_was_done_and_cant_be_kept_is_taken_back() {
    let lab = Lab::of_ipv4();
    let generations = lab.host.root.state().join("generations");
    let lose = |number: u32| fs::remove_file(generations.join(format!(".{number}.json.new"))).unwrap();
    let bare = links(&lab);
    let mut first = Meddling { at: 3, with: &|| lose(1), fails: false };
    let error = lab.try_apply(ONE, &mut first).unwrap_err().to_string();
    assert!(error.contains("The host is back at what it was before hostctl."), "{error}");
    assert_eq!(links(&lab), bare);
    assert!(!lab.output("nft", &["list", "tables"]).contains("hostctl"));

    lab.apply(ONE);
    let mut second = Meddling { at: 2, with: &|| lose(2), fails: false };
    let error = lab.try_apply(&two(), &mut second).unwrap_err().to_string();
    assert!(error.contains("The host is back at generation 1."), "{error}");
    assert_eq!(lab.plan(ONE).unwrap(), []);
    assert!(!links(&lab).contains("br-b"));
}

#[test]
fn a_drop_in_is_put_back_where_there_is_no_room() {
    let lab = Lab::of_ipv4();
    let state = lab.host.root.state();
    let _small = small(&state);
    done(&lab, &["vpc", "create", "--name", "a", "--cidr", "10.1.0.0/24"]);
    let drop_in = state.join("host.d/commands.json");
    let before = fs::read_to_string(&drop_in).unwrap();
    let change = SpecEdit::CreateNetwork {
        name: hostctl::spec::Name::new("b").unwrap(),
        cidr: "10.2.0.0/24".parse().unwrap(),
        cidr6: None,
    };
    let mut watch = Meddling { at: 2, with: &|| drop(fill(&state)), fails: true };
    let host = &lab.host;
    let (change, watch) = (&change, &mut watch);
    let error = lab.world.hypervisor.block_on(|| async move { host.edit(change, watch).await }).unwrap();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("interrupted") && !error.contains("can't be restored"), "{error}");
    assert_eq!(fs::read_to_string(&drop_in).unwrap(), before);
    assert!(!state.join("command.json").exists());
    assert_eq!(drafts(drop_in.parent().unwrap()), [""; 0]);
    fs::remove_file(state.join("filler")).unwrap();
    assert_eq!(done(&lab, &["plan"]), "nothing to do\n");
}

#[test]
fn a_full_run_directory_stops_a_change_and_not_its_end() {
    let lab = Lab::of_ipv4();
    let run = lab.host.root.run();
    let _small = small(&run);
    lab.apply(ONE);
    let before = links(&lab);
    let filler = fill(&run);
    // A change of everybody's writes down there what is turned on.
    let full = format!("[host]\nfirewall = \"full\"\n{}", two());
    let error = lab.try_apply(&full, &mut hostctl::host::Silent).unwrap_err().to_string();
    assert!(error.contains("forwarding.json: No space left"), "{error}");
    assert!(error.contains("The host is back at generation 1."), "{error}");
    assert_eq!(links(&lab), before);
    assert_eq!(lab.plan(ONE).unwrap(), []);
    assert!(!drafts(&run).iter().any(|name| name.ends_with(".new")));
    // Where nothing has to be written down, room for it doesn't matter.
    lab.apply(ONE);
    lab.apply(&two());
    assert_eq!(lab.plan(&two()).unwrap(), []);
    lab.down();
    assert!(!links(&lab).contains("br-a"));
    fs::remove_file(filler).unwrap();
    lab.apply(&two());
}

#[test]
fn without_qemu_or_an_image_nothing_is_touched() {
    let lab = Lab::of_ipv4().with_images();
    let spec = ONE.replace("autostart = false\n", "");
    write(&lab, &spec);
    let bare = links(&lab);
    // A machine without QEMU: nft alone.
    let path = tempfile::tempdir().unwrap();
    let nft = lab.output("sh", &["-c", "command -v nft"]);
    std::os::unix::fs::symlink(nft.trim(), path.path().join("nft")).unwrap();
    let root = lab.root_dir();
    let output = lab.world.hypervisor.run(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command.env("PATH", path.path()).arg("--root-dir").arg(root).arg("apply").output().unwrap()
    });
    let (status, text) = code(output);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("nothing was changed") && text.contains("qemu-system-x86_64 is not in PATH"),
        "{text}"
    );
    write(&lab, &spec.replace("\"probe\"", "\"no-such-image\""));
    refused(&lab, &["apply"], 1, "no-such-image");
    assert_eq!(links(&lab), bare);
    assert!(!lab.output("nft", &["list", "tables"]).contains("hostctl"));
}

#[test]
fn a_spec_that_takes_everything_away_has_to_be_meant() {
    let lab = Lab::of_ipv4();
    let guestless = "[networks.a]\ncidr = \"10.1.0.0/24\"\n";
    write(&lab, ONE);
    // Nothing is lost where nothing was.
    write(&lab, "");
    done(&lab, &["apply"]);
    write(&lab, ONE);
    done(&lab, &["apply"]);
    let before = links(&lab);
    for spec in ["", guestless] {
        write(&lab, spec);
        let plan = done(&lab, &["plan"]);
        assert!(plan.starts_with("this spec removes every ") && plan.contains("needs --yes\n"), "{plan}");
        refused(&lab, &["apply"], 3, "every guest (a1): nothing was changed");
        refused(&lab, &["apply", "--confirm", "1h"], 3, "hint: hostctl apply --yes");
        refused(&lab, &["apply", "--firewall-only"], 3, "every guest (a1)");
        assert_eq!(links(&lab), before);
        let bridges = lab.output("nft", &["list", "set", "inet", "hostctl", "bridges"]);
        assert!(bridges.contains("br-a"), "{bridges}");
    }
    // A missing one is an empty one.
    fs::remove_file(lab.host.root.host_spec()).unwrap();
    refused(&lab, &["apply"], 3, "every network (a) and every guest (a1)");
    // On a terminal it asks.
    assert!(answer(&lab, "n").contains("Go on? [y/N]"));
    assert_eq!(links(&lab), before);
    let text = answer(&lab, "y");
    assert!(text.contains("Go on? [y/N]") && text.contains("done: "), "{text}");
    assert!(!links(&lab).contains("br-a"));
    // And what is meant is done.
    write(&lab, ONE);
    done(&lab, &["apply"]);
    write(&lab, guestless);
    done(&lab, &["apply", "--yes"]);
    assert!(!links(&lab).contains("vm-a1"));
    let (status, text) = run(&lab, &["apply"]);
    assert_eq!((status, text.as_str()), (0, "nothing to do\n"));
}

/// What an apply says on a terminal where that is the answer.
fn answer(lab: &Lab, word: &str) -> String {
    let root = lab.root_dir();
    lab.world.hypervisor.run(|| {
        let command = format!("'{}' --root-dir '{}' apply", env!("CARGO_BIN_EXE_hostctl"), root.display());
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        script.stdin.as_mut().unwrap().write_all(format!("{word}\n").as_bytes()).unwrap();
        String::from_utf8(script.wait_with_output().unwrap().stdout).unwrap()
    })
}
