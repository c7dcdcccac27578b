//! A guest that sends all the time, and somebody who counts what is missing.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hostctl::testbed::FakeGuest;

use super::super::harness::host::Host;
use super::super::harness::specs;

/// Between two packets.
const PAUSE: Duration = Duration::from_micros(500);
/// How long the last packets may take to arrive.
const SETTLE: Duration = Duration::from_millis(200);

/// A guest of the first network that sends numbered packets to the internet,
/// 2,000 a second at most.
pub struct Stream {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _guest: FakeGuest,
}

impl Stream {
    /// Starts it on the TAP of the first VM of `spec`, which `host` has.
    pub fn start(host: &Host, spec: &str) -> Self {
        let topology = specs::compile(spec);
        let guest = FakeGuest::attach(&host.netns, &topology.vms[0].port).unwrap();
        let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let to = host.beyond.run(|| UdpSocket::bind("203.0.113.1:9").unwrap());
        to.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let from = guest.netns().run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        from.connect("203.0.113.1:9").unwrap();
        let receiver = {
            let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
            thread::spawn(move || {
                let (mut buffer, mut next) = ([0; 8], 0);
                while !stop.load(Ordering::Relaxed) {
                    // Each number once: what comes twice doesn't make up for a loss.
                    if to.recv(&mut buffer).is_ok_and(|length| length == 8) {
                        let number = u64::from_ne_bytes(buffer);
                        if number >= next {
                            received.fetch_add(1, Ordering::Relaxed);
                            next = number + 1;
                        }
                    }
                }
            })
        };
        let sender = {
            let (sent, stop) = (Arc::clone(&sent), Arc::clone(&stop));
            thread::spawn(move || {
                let mut number: u64 = 0;
                while !stop.load(Ordering::Relaxed) {
                    // A packet that the guest's own kernel refuses wasn't sent.
                    if from.send(&number.to_ne_bytes()).is_ok() {
                        number += 1;
                        sent.store(number, Ordering::Relaxed);
                    }
                    thread::sleep(PAUSE);
                }
            })
        };
        let stream = Self { sent, received, stop, threads: vec![receiver, sender], _guest: guest };
        // Neighbours are found first.
        thread::sleep(Duration::from_secs(1));
        let first = stream.lost();
        assert!(stream.received.load(Ordering::Relaxed) > 100, "{first} packets lost, hardly any arrived");
        stream
    }

    /// How many packets were lost so far.
    pub fn lost(&self) -> u64 {
        let sent = self.sent.load(Ordering::Relaxed);
        thread::sleep(SETTLE);
        sent.saturating_sub(self.received.load(Ordering::Relaxed))
    }

    /// Ends it; how many packets there were.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.sent.load(Ordering::Relaxed)
    }
}
