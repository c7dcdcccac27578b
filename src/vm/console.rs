//! A VM's serial console: QEMU on one side, a bounded log and any number of
//! clients on the other. A client that doesn't read is dropped; the guest
//! never waits for one, and no buffer grows.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bounded::Log;

const CHUNK: usize = 4096;
/// Chunks that a client may be behind.
const CLIENT_BACKLOG: usize = 64;
const CLIENTS_MAX: usize = 16;
/// How long a client may read nothing at all.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);

/// Where the supervisor hands over each new QEMU's serial line.
pub(super) type SerialSender = mpsc::Sender<UnixStream>;

/// Serves the console until the sender of serial lines is dropped.
pub(super) async fn serve(listener: UnixListener, log: PathBuf, mut serials: mpsc::Receiver<UnixStream>) {
    let mut log = Log::open(log);
    let mut serial: Option<(OwnedReadHalf, OwnedWriteHalf)> = None;
    let mut clients: Vec<mpsc::Sender<Arc<[u8]>>> = Vec::new();
    let mut tasks = JoinSet::new();
    let (typed, mut input) = mpsc::channel::<Vec<u8>>(4);
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = [0; CHUNK];
    loop {
        // Tasks that ended are forgotten.
        while tasks.try_join_next().is_some() {}
        let (reader, writer) = match &mut serial {
            Some((reader, writer)) => (Some(reader), Some(writer)),
            None => (None, None),
        };
        tokio::select! {
            next = serials.recv() => match next {
                Some(stream) => {
                    pending.clear();
                    serial = Some(stream.into_split());
                }
                None => return,
            },
            client = listener.accept() => if let (Ok((stream, _)), 0..CLIENTS_MAX) = (client, tasks.len()) {
                let (output, lines) = mpsc::channel(CLIENT_BACKLOG);
                clients.push(output);
                tasks.spawn(client_task(stream, lines, typed.clone()));
            },
            read = read(reader, &mut buffer) => match read {
                Ok(count) if count > 0 => {
                    let bytes: Arc<[u8]> = buffer.get(..count).unwrap_or_default().into();
                    log.append(&bytes);
                    clients.retain(|client| client.try_send(bytes.clone()).is_ok());
                }
                _ => serial = None,
            },
            // Taken only when the last is written: clients wait, nothing piles up.
            Some(bytes) = input.recv(), if pending.is_empty() => pending = bytes,
            written = write(writer, &pending), if !pending.is_empty() => match written {
                Ok(count) => drop(pending.drain(..count.min(pending.len()))),
                Err(_) => pending.clear(),
            },
        }
    }
}

async fn read(reader: Option<&mut OwnedReadHalf>, buffer: &mut [u8]) -> io::Result<usize> {
    match reader {
        Some(reader) => reader.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// Without a QEMU, what is typed goes nowhere.
async fn write(writer: Option<&mut OwnedWriteHalf>, bytes: &[u8]) -> io::Result<usize> {
    match writer {
        Some(writer) => writer.write(bytes).await,
        None => Ok(bytes.len()),
    }
}

async fn client_task(
    stream: UnixStream,
    mut output: mpsc::Receiver<Arc<[u8]>>,
    input: mpsc::Sender<Vec<u8>>,
) {
    let (mut reader, mut writer) = stream.into_split();
    let typing = async {
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            if input.send(buffer.get(..count).unwrap_or_default().to_vec()).await.is_err() {
                return;
            }
        }
    };
    let showing = async {
        while let Some(bytes) = output.recv().await {
            if !matches!(timeout(CLIENT_PATIENCE, writer.write_all(&bytes)).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    tokio::select! {
        () = typing => {}
        () = showing => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::bounded::LOG_MAX;

    struct Fixture {
        dir: tempfile::TempDir,
        serials: SerialSender,
        qemu: UnixStream,
    }

    async fn console() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("console.sock")).unwrap();
        let (serials, receiver) = mpsc::channel(1);
        tokio::spawn(serve(listener, dir.path().join("console.log"), receiver));
        let (qemu, ours) = UnixStream::pair().unwrap();
        serials.send(ours).await.unwrap();
        Fixture { dir, serials, qemu }
    }

    impl Fixture {
        async fn attach(&self) -> UnixStream {
            let stream = UnixStream::connect(self.dir.path().join("console.sock")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream
        }
    }

    #[tokio::test]
    async fn clients_read_and_type_and_a_new_qemu_takes_over() {
        let mut fixture = console().await;
        let mut clients = [fixture.attach().await, fixture.attach().await];
        fixture.qemu.write_all(b"hello").await.unwrap();
        let mut text = [0; 5];
        for client in &mut clients {
            client.read_exact(&mut text).await.unwrap();
            assert_eq!(&text, b"hello");
        }
        clients[1].write_all(b"typed").await.unwrap();
        fixture.qemu.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"typed");
        let (mut qemu, ours) = UnixStream::pair().unwrap();
        fixture.serials.send(ours).await.unwrap();
        qemu.write_all(b"again").await.unwrap();
        clients[0].read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"again");
        let log = fs::read_to_string(fixture.dir.path().join("console.log")).unwrap();
        assert_eq!(log, "helloagain");
    }

    #[tokio::test]
    async fn a_stuck_client_is_dropped_and_the_guest_goes_on() {
        let mut fixture = console().await;
        let mut stuck = fixture.attach().await;
        let mut reading = fixture.attach().await;
        let reader = tokio::spawn(async move {
            let mut total = 0;
            let mut buffer = vec![0; 65536];
            while total < 4 << 20 {
                total += reading.read(&mut buffer).await.unwrap();
            }
        });
        let flood = vec![b'x'; 64 * 1024];
        for _ in 0..64 {
            let write = fixture.qemu.write_all(&flood);
            tokio::time::timeout(Duration::from_secs(5), write).await.unwrap().unwrap();
            tokio::task::yield_now().await;
        }
        tokio::time::timeout(Duration::from_secs(10), reader).await.unwrap().unwrap();
        // What it was sent before it was dropped, and then the end.
        let mut rest = Vec::new();
        let read = stuck.read_to_end(&mut rest);
        tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
        assert!(rest.len() < 2 << 20, "{}", rest.len());
        let size = |file| fs::metadata(fixture.dir.path().join(file)).unwrap().len();
        assert!(size("console.log") <= LOG_MAX && size("console.log.1") <= LOG_MAX);
    }
}
