//! Ports to listen on.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::Mutex,
};

use anyhow::{Result, anyhow};

/// Below the ports the kernel gives to outgoing connections. From among those, a client that keeps trying a stopped
/// broker can be given the broker's own port, connect to itself, and keep the broker from ever coming back.
const RANGE: Range<u16> = 15_000..32_000;

/// A port that nobody listens on, and that this process has not handed out before.
pub(super) fn free() -> Result<u16> {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut taken = TAKEN.lock().map_err(|_| anyhow!("a thread panicked while it looked for a port"))?;
    let taken = taken.get_or_insert_default();
    // Another test process starts its search elsewhere.
    let start = RandomState::new().hash_one(std::process::id()) % RANGE.len() as u64;
    let port = RANGE
        .cycle()
        .skip(usize::try_from(start)?)
        .take(RANGE.len())
        .find(|port| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| anyhow!("no free port in {RANGE:?}"))?;
    taken.insert(port);
    Ok(port)
}
