//! When sessions leave, as the library's log and the users tell it.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// All sessions, by what the log calls them.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    stays: BTreeMap<String, Stay>,
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

    /// A user has its session of a camera torn down. Which one that is, only one that is alone tells.
    pub(crate) fn tear_down(&mut self, connection: u64, path: &str) {
        let staying = self.of_mut(connection, path).filter(|s| s.left.is_none());
        if let [stay] = staying.collect::<Vec<_>>().as_mut_slice() {
            stay.left = Some(Instant::now());
        }
    }

    /// All leave.
    pub(crate) fn shut_down(&mut self) {
        self.shut_down.get_or_insert_with(Instant::now);
    }

    /// When the sessions of a camera left a connection.
    pub(crate) fn of(&mut self, connection: u64, path: &str) -> Vec<Instant> {
        let shut_down = self.shut_down;
        let left = |stay: &mut Stay| stay.left.into_iter().chain(shut_down).min();
        self.of_mut(connection, path).filter_map(left).collect()
    }

    fn of_mut(&mut self, connection: u64, path: &str) -> impl Iterator<Item = &mut Stay> {
        let of = format!("c{connection}/");
        let is_it = move |(session, stay): &(&String, &mut Stay)| {
            session.starts_with(&of) && stay.uri.ends_with(path)
        };
        self.stays.iter_mut().filter(is_it).map(|(_, stay)| stay)
    }
}
