//! Choosing loopback ports.

use std::io;
use std::net::TcpListener;

use rand::Rng as _;

/// Below the range from which systems give ports to outgoing connections.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Whether somebody could listen there now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Some ports that are free now.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut found = [0; N];
    let mut count = 0;
    for _ in 0..10_000 {
        let port = rand::rng().random_range(RANGE);
        if !found.contains(&port) && is_free(port) {
            if let Some(place) = found.get_mut(count) {
                *place = port;
            }
            count += 1;
            if count >= N {
                return Ok(found);
            }
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "no free loopback ports between 20000 and 32000",
    ))
}
