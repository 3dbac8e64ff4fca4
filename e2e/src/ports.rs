//! Free ports on the loopback interface.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use anyhow::Context;

/// Below the ports that the kernel gives to outgoing connections (from 32768 on Linux) and that an API server gives to
/// Services (from 30000): a program takes seconds to listen on its port, and until then any connection of the run
/// could get a port out of those.
const RANGE: Range<u16> = 10_000..30_000;
const TRIES: usize = 1_000;

/// A port of 127.0.0.1 that nobody listens on now. It is not given out twice by this process, and picked at random, so
/// that two runs at the same time rarely meet.
pub fn free() -> anyhow::Result<u16> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_with(HashSet::new);
    (0..TRIES)
        .map(|_| rand::random_range(RANGE))
        .find(|&port| !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .inspect(|&port| {
            given.insert(port);
        })
        .with_context(|| {
            format!(
                "no free port on 127.0.0.1 between {} and {}",
                RANGE.start, RANGE.end
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_and_given_once() {
        let ports: HashSet<u16> = (0..50).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        for port in ports {
            assert!(RANGE.contains(&port));
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
}
