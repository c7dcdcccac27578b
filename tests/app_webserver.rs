//! The web server in its namespace, over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use hostctl::app::State;
use serde_json::json;

use crate::support::app_host::Host;
use crate::support::processes::until;

fn serving(host: &Host) {
    host.start();
    host.running();
    until("it listens", || host.netns.run(|| TcpStream::connect("127.0.0.1:8080")).is_ok());
}

#[test]
fn a_page_greets_on_both_families_as_nobody() {
    let host = Host::webserver(8080, |_| {});
    serving(&host);
    let request = "GET /any HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        let answer = host.http(address, request).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("<h1>Hello from prod-web</h1>"), "{answer}");
    }
    let head = host.http("127.0.0.1:8080", &request.replace("GET", "HEAD")).unwrap();
    assert!(head.ends_with("\r\n\r\n") && head.contains("content-length: "), "{head}");
    let post = host.http("127.0.0.1:8080", &request.replace("GET", "POST")).unwrap();
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    let pid = host.running().pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(
        status.contains("Uid:\t65534\t65534\t65534\t65534") && status.contains("NoNewPrivs:\t1"),
        "{status}"
    );
    // It listens there and nowhere else.
    assert!(TcpStream::connect("127.0.0.1:8080").is_err());
}

#[test]
fn files_are_served_and_nothing_else() {
    let site = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str, mode: u32| {
        let path = site.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    put("style.css", "body {}", 0o644);
    put("private", "for root", 0o600);
    put(".env", "SECRET=1", 0o644);
    put("big", &"x".repeat(1 << 20), 0o644);
    symlink("/etc/passwd", site.path().join("passwd")).unwrap();
    let host = Host::webserver(8080, |value| {
        value["workload"]["webserver"]["directory"] = json!(site.path());
        value["isolate"] = true.into();
    });
    serving(&host);
    let style = host.get("/style.css");
    assert!(style.starts_with("HTTP/1.1 200") && style.ends_with("\r\n\r\nbody {}"), "{style}");
    assert!(style.contains("content-type: text/css\r\n"), "{style}");
    assert_eq!(host.get("/big").rsplit_once("\r\n\r\n").unwrap().1.len(), 1 << 20);
    let listing = host.get("/");
    assert!(listing.contains("style.css") && !listing.contains(".env"), "{listing}");
    for path in [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/passwd",
        "/.env",
        "/private",
        "/style.css%00",
        "/none",
    ] {
        let answer = host.get(path);
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(64 * 1024));
    if let Ok(answer) = host.http("127.0.0.1:8080", &huge) {
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn clients_that_dawdle_block_nobody_else() {
    let host = Host::webserver(8080, |_| {});
    serving(&host);
    // More than one client's share, silent or in the middle of a head.
    let slow: Vec<_> = (0..40)
        .map(|client| {
            host.netns.run(|| {
                let mut stream = TcpStream::connect("127.0.0.1:8080").unwrap();
                // Every other one says nothing at all.
                if client % 2 == 0 {
                    stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").unwrap();
                }
                stream
            })
        })
        .collect();
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let begun = Instant::now();
    // Another client, by its address.
    let answer = host.http("[::1]:8080", request).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && begun.elapsed() < Duration::from_secs(2));
    // And they are sent away.
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
    assert!(
        (Duration::from_secs(5)..Duration::from_secs(20)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    assert!(host.get("/").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_taken_port_is_said() {
    let host = Host::webserver(8080, |_| {});
    let taken = host.netns.run(|| std::net::TcpListener::bind("0.0.0.0:8080")).unwrap();
    host.start();
    let failure = host.over().unwrap();
    assert!(failure.contains("can't listen on TCP port 8080: Address already in use"), "{failure}");
    assert!(host.log().contains("can't listen on TCP port 8080"), "{}", host.log());
    drop(taken);
    host.start();
    host.running();
    until("it serves", || host.netns.run(|| TcpStream::connect("127.0.0.1:8080")).is_ok());
    assert_eq!(host.status().unwrap().state, State::Running);
}
