//! Thousands of frames from one guest's port, and whether any crossed.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::Duration;

use crate::spoofing::scene::{Scene, is_error};

/// What a marked frame carries, before its number.
const MARK: &[u8] = b"hostile";

/// Frames between two honest ones: fewer than a capture's socket holds.
const BATCH: usize = 32;

/// How long a frame that was let through may take to be seen.
const GRACE: Duration = Duration::from_millis(120);

pub struct Crossing<'a> {
    scene: &'a Scene,
    attacker: &'static str,
    /// Of each attack: what it is, and who may see it.
    attacks: Vec<(String, &'static [&'static str])>,
    sent: usize,
    leaks: BTreeSet<String>,
}

impl<'a> Crossing<'a> {
    pub fn new(scene: &'a Scene, attacker: &'static str) -> Self {
        scene.logs("").iter().for_each(|(_, log)| log.clear());
        Self { scene, attacker, attacks: Vec::new(), sent: 0, leaks: BTreeSet::new() }
    }

    /// Sends frames that no interface but those in `may` may see; `"br-b"` is
    /// what a bridge hands to the host, before the host drops it.
    pub fn send(
        &mut self,
        name: &str,
        may: &'static [&'static str],
        build: impl FnOnce(&[u8]) -> Vec<Vec<u8>>,
    ) {
        let mark = format!("hostile{:09}", self.attacks.len());
        self.attacks.push((name.to_owned(), may));
        for frame in build(mark.as_bytes()) {
            // The port takes nothing that is larger than it can be.
            let _ = self.scene.who(self.attacker).guest.guest.inject(&frame);
            self.sent += 1;
            if self.sent.is_multiple_of(BATCH) {
                self.scene.honest_frames_arrive(self.scene.who(self.attacker), self.sent);
            }
            // The logs keep 4096 frames.
            if self.sent.is_multiple_of(1024) {
                self.look();
            }
        }
    }

    /// Judges what was seen up to here.
    fn look(&mut self) {
        sleep(GRACE);
        let mut seen: BTreeMap<(usize, &str), ()> = BTreeMap::new();
        for (place, log) in self.scene.logs("") {
            for frame in log.frames() {
                if let Some(fault) = fault(place, &frame) {
                    self.leaks.insert(format!("{fault} at {place}: {frame:02x?}"));
                }
                let answer = place == self.attacker;
                if answer && is_error(&frame) {
                    continue;
                }
                if let Some(number) = number_of(&frame) {
                    seen.insert((number, place), ());
                }
            }
            log.clear();
        }
        for (number, place) in seen.into_keys() {
            // The number may have been changed, too.
            let Some((name, may)) = self.attacks.get(number).or(self.attacks.last()) else { continue };
            if place == self.attacker && !may.contains(&place) {
                self.leaks.insert(format!("{name}: answered"));
            } else if !may.contains(&place) {
                self.leaks.insert(format!("{name}: seen at {place}"));
            }
        }
    }

    pub fn nothing_crossed(mut self) {
        self.scene.honest_frames_arrive(self.scene.who(self.attacker), self.sent + 1);
        self.look();
        self.leaks.extend(self.scene.host_saw());
        println!("{} frames of {} kinds", self.sent, self.attacks.len());
        let leaks: Vec<_> = self.leaks.into_iter().take(40).collect();
        assert!(leaks.is_empty(), "from {}:\n{}", self.attacker, leaks.join("\n"));
    }
}

/// What no frame may be, whoever sent it.
fn fault(place: &str, frame: &[u8]) -> Option<&'static str> {
    let source = match frame.get(12..14)? {
        [8, 0] => frame.get(26..30)?,
        [0x86, 0xdd] => frame.get(22..38)?,
        _ => return None,
    };
    let guests = source[0] == 10 && source.len() == 4 || source[..2] == [0xfd, 0];
    (guests && place == "uplink0").then_some("a guest's own address")
}

/// Which attack a frame is of.
pub fn number_of(frame: &[u8]) -> Option<usize> {
    let start = frame.windows(MARK.len()).position(|bytes| bytes == MARK)? + MARK.len();
    std::str::from_utf8(frame.get(start..start + 9)?).ok()?.parse().ok()
}
