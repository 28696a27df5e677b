//! The open connections. When there are too many, one that waits for its client gives way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// An open connection.
pub(super) struct Connection {
    peer: IpAddr,
    /// Since when it waits for its client: for a request, or for the rest of one. `None` while a request is answered.
    waits: Mutex<Option<Instant>>,
    /// Told when it has to give way.
    pub gives_way: Notify,
}

/// A connection whose request is complete; until it is dropped, the connection does not give way.
pub(super) struct Busy<'a>(&'a Connection);

impl Connection {
    fn set(&self, waits: Option<Instant>) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = waits;
    }

    fn waits(&self) -> Option<Instant> {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a request that has come as a whole.
    pub fn busy(&self) -> Busy<'_> {
        self.set(None);
        Busy(self)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(Some(Instant::now()));
    }
}

/// All open connections.
#[derive(Default)]
pub(super) struct Connections(Mutex<Vec<Arc<Connection>>>);

impl Connections {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one. If there are `most` already, another gives way.
    pub fn add(&self, peer: IpAddr, most: usize) -> Arc<Connection> {
        let waits = Mutex::new(Some(Instant::now()));
        let connection = Arc::new(Connection { peer, waits, gives_way: Notify::new() });
        if self.lock().len() >= most {
            self.give_way();
        }
        self.lock().push(connection.clone());
        connection
    }

    /// Removes one that is closed.
    pub fn remove(&self, connection: &Arc<Connection>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// Closes the connection that has waited longest, of the address that has the most of those that wait.
    pub fn give_way(&self) {
        let mut open = self.lock();
        let mut waiting = HashMap::<IpAddr, (usize, Instant, usize)>::new();
        for (at, connection) in open.iter().enumerate() {
            let Some(since) = connection.waits() else { continue };
            let (count, oldest, index) = waiting.entry(connection.peer).or_insert((0, since, at));
            *count += 1;
            if since < *oldest {
                (*oldest, *index) = (since, at);
            }
        }
        if let Some((_, _, index)) = waiting.into_values().max_by_key(|&(count, ..)| count) {
            // Removed here, so that the next call takes another.
            open.swap_remove(index).gives_way.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_address_with_the_most_gives_way() {
        let connections = Connections::default();
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|peer| peer.parse::<IpAddr>().unwrap());
        let alone = connections.add(two, 9);
        let many: Vec<_> = (0..3).map(|_| connections.add(one, 9)).collect();
        let busy = many[0].busy();
        let left = || {
            let open = connections.lock();
            (many.iter().map(|this| open.iter().any(|other| Arc::ptr_eq(this, other))).collect::<Vec<_>>(), open.len())
        };
        connections.give_way();
        assert_eq!(left(), (vec![true, false, true], 3), "the first is busy");
        drop(busy);
        drop(many[2].busy());
        connections.add(two, 3);
        assert_eq!(left(), (vec![false, false, true], 3), "the last answered later");
        connections.remove(&alone);
        assert_eq!(connections.lock().len(), 2);
    }
}
