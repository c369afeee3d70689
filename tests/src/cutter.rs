//! A TCP forwarder that cuts each connection after a given number of bytes from the server: at any byte of a stream.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub struct Cutter {
    pub port: u16,
    calm: Arc<AtomicBool>,
    cuts: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cutter {
    /// To the server at `port`. `limit` says after how many bytes the next connection is cut.
    pub fn before(port: u16, limit: impl FnMut() -> usize + Send + 'static) -> Cutter {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let own = listener.local_addr().expect("bound").port();
        let (calm, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let cuts = Arc::<AtomicU32>::default();
        let shared = (Arc::clone(&calm), Arc::clone(&stop), Arc::clone(&cuts));
        let thread = std::thread::spawn(move || accept(&listener, port, shared, limit));
        Cutter {
            port: own,
            calm,
            cuts,
            stop,
            thread: Some(thread),
        }
    }

    /// From here on nothing is cut.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }

    pub fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Shared = (Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicU32>);

fn accept(
    listener: &TcpListener,
    port: u16,
    (calm, stop, cuts): Shared,
    mut limit: impl FnMut() -> usize,
) {
    let mut running = Vec::new();
    for client in listener.incoming().flatten() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
            continue;
        };
        let (limit, calm, stop, cuts) = (limit(), calm.clone(), stop.clone(), cuts.clone());
        running.push(std::thread::spawn(move || {
            forward(client, server, limit, &calm, &stop, &cuts);
        }));
    }
    for thread in running {
        let _ = thread.join();
    }
}

/// Both directions, until either side ends, `stop`, or `limit` bytes have come from the server.
fn forward(
    client: TcpStream,
    server: TcpStream,
    limit: usize,
    calm: &AtomicBool,
    stop: &Arc<AtomicBool>,
    cuts: &AtomicU32,
) {
    let tick = Some(Duration::from_millis(20));
    for socket in [&client, &server] {
        socket.set_read_timeout(tick).expect("above zero");
        socket.set_nodelay(true).expect("a socket");
    }
    let (Ok(up), Ok(down)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let stopped = stop.clone();
    let other = std::thread::spawn(move || {
        copy(up, &down, &stopped, |_| None);
        let _ = down.shutdown(Shutdown::Both);
    });
    let mut left = limit;
    copy(server.try_clone().expect("open"), &client, stop, |n| {
        if calm.load(Ordering::SeqCst) {
            return None;
        }
        let cut = (n >= left).then_some(left);
        left = left.saturating_sub(n);
        if cut.is_some() {
            cuts.fetch_add(1, Ordering::SeqCst);
        }
        cut
    });
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = other.join();
}

/// `cut` is told how many bytes came and may say how many of them are the last to be passed on.
fn copy(
    mut from: TcpStream,
    mut to: &TcpStream,
    stop: &AtomicBool,
    mut cut: impl FnMut(usize) -> Option<usize>,
) {
    let mut buffer = [0; 8192];
    while !stop.load(Ordering::SeqCst) {
        let n = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => n,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                continue;
            }
            Err(_) => return,
        };
        let last = cut(n);
        if to.write_all(&buffer[..last.unwrap_or(n)]).is_err() || last.is_some() {
            return;
        }
    }
}
