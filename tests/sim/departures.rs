//! When sessions leave, as the library's log and the users tell it.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// All sessions, by what the log calls them.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    stays: BTreeMap<String, Stay>,
    /// When a user began to tear down the session of this id on this connection. The log calls sessions
    /// otherwise, and tells the end alone.
    torn_down: BTreeMap<(u64, String), Instant>,
    shut_down: Option<Instant>,
}

/// A session on a connection.
#[derive(Debug)]
struct Stay {
    uri: String,
    left: Option<Instant>,
}

impl Departures {
    /// A line of the log.
    pub(crate) fn hear(&mut self, line: &str) {
        let Some((session, what)) = line.split_once(": ") else {
            return;
        };
        if let Some(uri) = what.strip_prefix("opened for ") {
            let (uri, left) = (uri.to_owned(), None);
            self.stays.insert(session.to_owned(), Stay { uri, left });
        } else if what == "released"
            && let Some(stay) = self.stays.get_mut(session)
        {
            stay.left.get_or_insert_with(Instant::now);
        }
    }

    /// A user has its session torn down.
    pub(crate) fn tear_down(&mut self, connection: u64, id: String) {
        let torn_down = self.torn_down.entry((connection, id));
        torn_down.or_insert_with(Instant::now);
    }

    /// All leave.
    pub(crate) fn shut_down(&mut self) {
        self.shut_down.get_or_insert_with(Instant::now);
    }

    /// When the session of this id left a connection, or sessions of its camera did.
    pub(crate) fn of(&mut self, connection: u64, id: &str, path: &str) -> Vec<Instant> {
        let shut_down = self.shut_down;
        let torn_down = self.torn_down.get(&(connection, id.to_owned())).copied();
        let left = |stay: &mut Stay| stay.left.into_iter().chain(shut_down).min();
        let of_camera = self.of_mut(connection, path).filter_map(left);
        of_camera.chain(torn_down).collect()
    }

    fn of_mut(&mut self, connection: u64, path: &str) -> impl Iterator<Item = &mut Stay> {
        let of = format!("c{connection}/");
        let is_it = move |(session, stay): &(&String, &mut Stay)| {
            session.starts_with(&of) && stay.uri.ends_with(path)
        };
        self.stays.iter_mut().filter(is_it).map(|(_, stay)| stay)
    }
}
