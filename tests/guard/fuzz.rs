//! Headers and frames at random: `HOSTCTL_SEED` says which, `HOSTCTL_FRAMES` how
//! many.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::faithful::faithful;
use super::headers::Header;
use super::kinds::{TCP, UDP, WAYS, honest, segmented, unfinished};
use super::stage::{Protection, Stage};
use crate::adversary::fuzz::seed;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// An honest frame, with a header and a few bytes of nobody's.
fn random(random: &mut Random) -> (Header, Vec<u8>) {
    let way = WAYS[random.below(WAYS.len())];
    let protocol = if random.one_in(2) { TCP } else { UDP };
    let (mut header, mut frame) = if random.one_in(2) {
        unfinished(way, protocol, random.below(1400))
    } else {
        segmented(way, protocol, 1 + random.below(9000), 1 + random.below(1500) as u16)
    };
    for _ in 0..random.below(3) {
        match random.below(9) {
            0 => header.flags = random.below(256) as u8,
            1 => header.gso_type = random.below(256) as u8,
            2 => header.gso_type = [0, 1, 3, 4, 5, 0x81, 0x84][random.below(7)],
            3 => header.gso_size = random.below(0x1_0000) as u16,
            4 => header.length = random.below(300) as u16,
            5 => header.start = random.below(120) as u16,
            6 => header.offset = random.below(40) as u16,
            7 => header.start = header.start.wrapping_add(random.below(5) as u16).wrapping_sub(2),
            _ => header.offset = random.below(0x1_0000) as u16,
        }
    }
    for _ in 0..random.below(3) {
        // Not the MACs, by which it is known here.
        let at = 12 + random.below((frame.len() - 12).min(90));
        frame[at] = random.below(256) as u8;
    }
    if random.one_in(8) {
        frame.truncate(14 + random.below(frame.len() - 14));
    }
    (header, frame)
}

/// What a number of random frames come to: how many the kernel took, how many
/// frames arrived.
fn round(seed: u64, number: usize) -> (usize, usize) {
    let mut stage = Stage::new(Protection::Guard);
    let mut source = Random(seed | 1);
    let (mut taken, mut arrived) = (0, 0);
    // Whoever is slow hands over what was sent a while ago.
    let mut last: VecDeque<(Header, Vec<u8>)> = VecDeque::new();
    for count in 0..number {
        let (header, frame) = random(&mut source);
        taken += usize::from(stage.send(&header, &frame));
        let found = stage.arrived();
        arrived += found.len();
        last.push_front((header, frame));
        last.truncate(32);
        let own = last.iter().any(|(header, frame)| faithful(frame, header, &found, false).is_ok());
        assert!(
            own,
            "HOSTCTL_SEED={seed}, frame {count}: {:?}\nsent {:02x?} with {:?}",
            faithful(&last[0].1, &last[0].0, &found, false),
            last[0].1,
            last[0].0
        );
    }
    (taken, arrived)
}

#[test]
fn no_random_header_makes_a_frame_another() {
    let number = std::env::var("HOSTCTL_FRAMES").map_or(6000, |text| text.parse().unwrap());
    let seed = seed();
    let (taken, arrived) = round(seed, number);
    assert!(
        taken > number / 4 && arrived > number / 10,
        "HOSTCTL_SEED={seed}: {taken} taken, {arrived} arrived"
    );
    eprintln!("HOSTCTL_SEED={seed}: {number} frames, {taken} taken, {arrived} arrived");
}

#[test]
#[ignore = "takes as long as one likes: make soak"]
fn for_minutes() {
    let minutes = std::env::var("HOSTCTL_MINUTES").map_or(10.0, |text| text.trim().parse::<f64>().unwrap());
    let (first, start, wanted) = (seed(), Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let (mut sent, mut rounds) = (0, 0);
    while sent < 30_000 || start.elapsed() < wanted {
        round(first.wrapping_add(rounds), 15_000);
        (sent, rounds) = (sent + 15_000, rounds + 1);
    }
    assert!(honest().len() >= 29);
    println!("{sent} frames with random headers from seed {first} in {:.0?}", start.elapsed());
}
