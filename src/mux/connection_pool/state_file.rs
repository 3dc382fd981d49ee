//! What was learned of servers, on disk: read when the pool is made, written when something changes.
//!
//! A line for each thing known, under a line that says which kind of file it is:
//!
//! ```text
//! rtspmux-state 4
//! key 0123456789abcdef0123456789abcdef
//! yes nvr:8554 1700000000 0 - in-band 20100 3000 - - -
//! played rtsp://nvr:8554/1 rtsp://nvr:8554/1/ v=0%0D%0A...
//! ```
//!
//! A line that cannot be read is left out; a file of another kind or version holds none. The key is that
//! of the [hashes](redaction) which are shown in place of secrets.
//!
//! A thread of its own ([`Saver`]) reads and writes the file, since disks may be slow: the thread
//! that moves bytes never waits for one. [`disk`] knows what may stand in the file's place.

mod disk;

use std::{
    collections::HashSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering, mpsc},
    time::Duration,
};

use tokio::sync::watch;

use self::disk::{Existing, Identity, MAX_SIZE};
use super::{
    ConnectionPool,
    descriptions::{line, parse},
    server::Server,
};
use crate::mux::{
    clock,
    event::{MuxEvent, StateFileProblem},
    ids::{Moment, PresentationUri},
    policy::{
        server_speed::ServerSpeed,
        sharing::{Sharing, persist},
    },
    proto::{Presentation, wire::redaction},
    release::lock,
    server_key::ServerId,
};

const HEADER: &str = "rtspmux-state 4";
const KEY: &str = "key";
/// More than one installation has; a bound on what a broken file may cost.
const MAX_LINES: usize = 65_536;
/// Sixty-four cameras that start together are written down together.
const SAVED_AFTER: Duration = Duration::from_secs(1);
/// How long making a pool waits for the file: a local one is there within a millisecond. If it comes
/// later, only what is not known by then is taken from it.
const LOAD_PATIENCE: Duration = Duration::from_millis(250);

/// What one line says.
enum StateLine {
    Server(ServerId, Sharing, ServerSpeed),
    Played(PresentationUri, Presentation),
}

impl StateLine {
    fn parse(line: &str, now: Moment) -> Option<Self> {
        if let Some((id, sharing, speed)) = persist::parse_line(line, now) {
            return Some(Self::Server(id, sharing, speed));
        }
        let (uri, presentation) = parse(line)?;
        Some(Self::Played(uri, presentation))
    }

    /// None if it is not to be written down.
    fn line(&self, now: Moment) -> Option<String> {
        match self {
            Self::Server(id, sharing, speed) => persist::line(id, sharing, speed, now),
            Self::Played(uri, presentation) => line(uri, presentation),
        }
    }
}

impl ConnectionPool {
    /// Takes over what is remembered. A file that cannot be read is ignored: everything in it can be
    /// learned again.
    pub(crate) fn load(&self) {
        let Some(saver) = self.0.saver.clone() else {
            return;
        };
        let pool = Arc::downgrade(&self.0);
        let (reading, read) = mpsc::channel::<()>();
        let load = move || {
            let found = Existing::open(&saver.path).and_then(|found| {
                let Some(found) = found else { return Ok(None) };
                let identity = found.identity.clone();
                found.text().map(|text| Some((text, identity)))
            });
            if let Some(pool) = pool.upgrade().map(Self) {
                pool.on_read(&saver, found);
            }
            drop(reading);
            disk::remove_left_overs(&saver.path, clock::moment().wall);
        };
        match clock::in_background(THREAD, load) {
            // Dropped unused at the end, or by a panic.
            Ok(()) => drop(read.recv_timeout(LOAD_PATIENCE)),
            Err(error) => self.on_state_file_unusable("not read", &error),
        }
    }

    fn on_read(&self, saver: &Saver, found: io::Result<Option<(String, Identity)>>) {
        let (text, identity) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => return self.on_state_file_unusable("not read", &error),
        };
        if let Some(key) = lines_of(&text).find_map(parse_key) {
            redaction::use_key(key);
        }
        let now = clock::moment();
        let entries: Vec<StateLine> = lines_of(&text)
            .filter_map(|line| StateLine::parse(line, now))
            .collect();
        let mut state = self.lock();
        for entry in entries {
            match entry {
                StateLine::Server(id, sharing, speed) => {
                    let server = state.servers.entry(id);
                    server.or_insert_with(|| Server::with(sharing, speed));
                }
                StateLine::Played(uri, presentation) => state.descriptions.load(uri, presentation),
            }
        }
        drop(state);
        let mut seen = lock(&saver.seen);
        seen.identity = Some(identity);
    }

    /// Has written what is known, soon. On failure the next change tries again.
    pub(super) fn save(&self) {
        let Some(saver) = &self.0.saver else {
            return;
        };
        let pool = self.clone();
        let path = Arc::clone(saver);
        let write = move || {
            if let Err(error) = pool.write(&path) {
                pool.on_state_file_unusable("not written", &error);
            }
        };
        if let Err(error) = saver.request(write) {
            self.on_state_file_unusable("not written", &error);
        }
    }

    /// Writes what is known, and what another process has learned of other servers and cameras.
    fn write(&self, saver: &Saver) -> io::Result<()> {
        let now = clock::moment();
        let mut seen = lock(&saver.seen);
        let _locked = disk::lock(&saver.path);
        let existing = Existing::open(&saver.path)?;
        if let Some(changed) =
            existing.filter(|found| seen.identity.as_ref() != Some(&found.identity))
        {
            // One that cannot be read as a whole has nothing worth keeping.
            let text = changed.text().unwrap_or_default();
            seen.others = lines_of(&text).map(str::to_owned).collect();
        }
        let others = seen.others.iter();
        let others = others.filter_map(|line| StateLine::parse(line, now));
        let text = file_of(written(self.entries().into_iter().chain(others), now));
        seen.identity = Some(disk::replace(&saver.path, &text)?);
        Ok(())
    }

    /// What is known, the most useful first.
    fn entries(&self) -> Vec<StateLine> {
        let state = self.lock();
        let servers = state.servers.iter();
        let mut entries: Vec<StateLine> = servers
            .map(|(id, server)| StateLine::Server(id.clone(), server.sharing.clone(), server.speed))
            .collect();
        let descriptions = state.descriptions.latest_first().into_iter();
        entries.extend(descriptions.map(|(uri, known)| StateLine::Played(uri, known)));
        entries
    }

    /// Told once for the life of a pool; a disk that is full says so again and again.
    fn on_state_file_unusable(&self, what: &str, error: &io::Error) {
        let Some(saver) = &self.0.saver else { return };
        let problem = StateFileProblem {
            path: saver.path.clone(),
            reason: format!("{what}: {error}"),
        };
        tracing::debug!("{problem}");
        let mut first = lock(&self.0.state_file_problem);
        if first.is_none() {
            *first = Some(problem.clone());
            self.tell(MuxEvent::StateFile(problem));
        }
    }

    /// Writes what is known in a moment, together with what else will have been learned by then.
    pub(super) fn save_soon(&self) {
        let Some(runtime) = self.0.runtime.get() else {
            return;
        };
        if self.0.saver.is_none() || self.0.is_save_due.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::downgrade(&self.0);
        clock::later(runtime, SAVED_AFTER, move || {
            if let Some(shared) = shared.upgrade() {
                shared.is_save_due.store(false, Ordering::Relaxed);
                Self(shared).save();
            }
        });
    }
}

/// The lines to write, servers and cameras apart. Of two entries for one of them the first counts,
/// unless it is one that is not written down.
fn written(entries: impl Iterator<Item = StateLine>, now: Moment) -> (Vec<String>, Vec<String>) {
    let (mut known, mut played) = (HashSet::new(), HashSet::new());
    let (mut servers, mut cameras) = (Vec::new(), Vec::new());
    for entry in entries {
        let Some(line) = entry.line(now) else {
            continue;
        };
        match entry {
            StateLine::Server(id, ..) if known.insert(id.clone()) => servers.push(line),
            StateLine::Played(uri, _) if played.insert(uri.clone()) => cameras.push(line),
            _ => {}
        }
    }
    (servers, cameras)
}

/// The lines of a file; none if it is of another version.
fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines();
    let is_known = lines.next() == Some(HEADER);
    lines.take(if is_known { MAX_LINES } else { 0 })
}

/// What does not fit is left out. Servers go first, for they are more useful and small; then what was
/// used last. The file is read in the other direction, so that this again counts as used last.
fn file_of((servers, cameras): (Vec<String>, Vec<String>)) -> String {
    let [first, second] = redaction::key();
    let key = format!("{KEY} {first:016x}{second:016x}");
    let mut size = HEADER.len() + key.len() + 2;
    let fits = |line: &String| {
        size += line.len() + 1;
        size <= MAX_SIZE
    };
    let lines = servers.into_iter().chain(cameras);
    let mut lines: Vec<String> = lines.take_while(fits).take(MAX_LINES).collect();
    lines.extend([key, HEADER.to_owned()]);
    lines.reverse();
    lines.push(String::new());
    lines.join("\n")
}

fn parse_key(line: &str) -> Option<[u64; 2]> {
    let digits = line.strip_prefix(KEY)?.strip_prefix(' ')?;
    let is_number = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(digits, 16)
        .ok()
        .filter(|_| is_number)?;
    Some([(number >> 64) as u64, number as u64])
}

// One thread at a time writes the state file; it lives while there is something to write. A disk
// that stalls holds up neither sockets nor callers, and the changes that come meanwhile are written
// together.

/// The name of threads that read or write the file.
const THREAD: &str = "rtspmux-state";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SaveProgress {
    /// All that was learned is written, or could not be written.
    Idle,
    /// A thread writes what was learned so far.
    Writing,
    /// The pool has learned more since, or the thread has not begun.
    Due,
}

/// The file as this pool last read or wrote it.
#[derive(Debug, Default)]
struct Seen {
    identity: Option<Identity>,
    /// Lines that were in it and not taken over: what other processes have written. They are written
    /// again each time.
    others: Vec<String>,
}

/// The file, and what is being done to it.
#[derive(Debug)]
pub(super) struct Saver {
    path: PathBuf,
    progress: watch::Sender<SaveProgress>,
    seen: Mutex<Seen>,
}

impl Saver {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            progress: watch::Sender::new(SaveProgress::Idle),
            seen: Mutex::default(),
        }
    }

    /// Has `write` called on a thread of its own, and once more for all requests that come while it
    /// runs.
    ///
    /// # Errors
    ///
    /// The system gives no thread; the next request tries again.
    fn request(self: &Arc<Self>, write: impl Fn() + Send + 'static) -> io::Result<()> {
        if self.progress.send_replace(SaveProgress::Due) != SaveProgress::Idle {
            return Ok(());
        }
        let saver = Arc::clone(self);
        let started = clock::in_background(THREAD, move || {
            while saver.take_up() {
                // However it ends, the next request is written.
                let _ = catch_unwind(AssertUnwindSafe(&write));
            }
        });
        if started.is_err() {
            self.progress.send_replace(SaveProgress::Idle);
        }
        started
    }

    /// Whether there is something to write.
    fn take_up(&self) -> bool {
        let mut is_due = false;
        self.progress.send_modify(|progress| {
            is_due = *progress == SaveProgress::Due;
            *progress = match is_due {
                true => SaveProgress::Writing,
                false => SaveProgress::Idle,
            };
        });
        is_due
    }

    /// Waits until everything that was learned so far is written, or could not be written.
    pub(super) async fn written(&self) {
        let mut progress = self.progress.subscribe();
        // The sender is ours.
        let _ = progress
            .wait_for(|progress| *progress == SaveProgress::Idle)
            .await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        time::{Instant, SystemTime},
    };

    use tokio::runtime::Handle;

    use super::*;
    use crate::mux::connection_pool::PoolConfig;

    fn now() -> Moment {
        Moment {
            monotonic: Instant::now() + Duration::from_secs(1_000_000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_100),
        }
    }

    fn entries(lines: &[String], now: Moment) -> Vec<StateLine> {
        let lines = lines.iter();
        lines
            .map(|line| StateLine::parse(line, now).unwrap())
            .collect()
    }

    fn server(name: &str, verdict: &str) -> String {
        let evidence = if verdict == "no" { "closed" } else { "-" };
        format!("{verdict} {name}:554 1700000000 0 {evidence} - - - - - -")
    }

    fn played(camera: usize, length: usize) -> String {
        let text = "x".repeat(length);
        let sdp = format!("v=0%0Di={text}%0Dm=video%200%20RTP/AVP%2096%0Da=control:1%0D");
        format!("played rtsp://nvr/{camera} rtsp://nvr/{camera} {sdp}")
    }

    #[test]
    fn a_file_of_another_version_holds_nothing() {
        assert_eq!(lines_of("").count(), 0);
        assert_eq!(
            lines_of("rtspmux-state 3\nno nvr:554 1 1 closed").count(),
            0
        );
        let file = file_of((vec!["one".to_owned()], vec!["two".to_owned()]));
        let key = lines_of(&file).next().unwrap();
        assert_eq!(file, format!("rtspmux-state 4\n{key}\ntwo\none\n"));
        assert!(lines_of(&file).eq([key, "two", "one"]));
        assert_eq!(parse_key(key), Some(redaction::key()));
        for broken in ["", "key", "key 12", "key +000000000000000+000000000000000"] {
            assert_eq!(parse_key(broken), None, "{broken}");
        }
    }

    /// Two processes with one file: neither forgets what only the other one has learned.
    #[test]
    fn what_another_process_has_learned_is_kept_unless_ours_is_about_the_same() {
        let ours = [server("a", "yes"), server("b", "no"), played(1, 1)];
        let theirs = [
            server("a", "no"),
            server("c", "yes"),
            played(1, 2),
            played(2, 1),
        ];
        let now = now();
        let all = entries(&ours, now).into_iter();
        let (servers, cameras) = written(all.chain(entries(&theirs, now)), now);
        assert_eq!(servers, [&ours[0], &ours[1], &theirs[1]].map(Clone::clone));
        assert_eq!(cameras, [&ours[2], &theirs[3]].map(Clone::clone));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_servers_do_not_give_way() {
        let cameras: Vec<String> = (0..40).map(|number| played(number, 500_000)).collect();
        let file = file_of((vec![server("a", "yes")], cameras.clone()));
        assert!((MAX_SIZE - 600_000..=MAX_SIZE).contains(&file.len()));
        let lines: Vec<&str> = lines_of(&file).collect();
        assert_eq!(lines.last().unwrap(), &server("a", "yes"));
        assert_eq!(lines[lines.len() - 2], cameras[0], "the last one used");
    }

    fn pool(path: PathBuf) -> ConnectionPool {
        ConnectionPool::new(PoolConfig {
            runtime: Some(Handle::current()),
            state_file: Some(path),
            ..PoolConfig::default()
        })
    }

    /// A disk that does not answer.
    #[tokio::test]
    async fn f48_shutdown_waits_for_a_disk_until_its_deadline() {
        let pool = pool(std::env::temp_dir().join("rtspmux-never-written"));
        let (go_on, stalled) = mpsc::channel::<()>();
        let saver = pool.0.saver.clone().unwrap();
        let write = move || assert!(stalled.recv().is_err());
        saver.request(write).unwrap();
        pool.shutdown(Duration::from_millis(20)).await;
        assert!(!saver.path.exists());
        drop(go_on);
        saver.written().await;
    }

    /// What is read late does not take the place of what was learned meanwhile.
    #[tokio::test]
    async fn f48_a_file_that_comes_late_tells_what_is_not_known_yet() {
        let pool = pool(std::env::temp_dir().join("rtspmux-never-read"));
        let now = clock::moment();
        let seconds = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let today = |line: String| line.replace("1700000000", &seconds.as_secs().to_string());
        let early = today(server("a", "yes"));
        let late = [today(server("a", "no")), today(server("b", "no"))];
        let Some(StateLine::Server(a, sharing, speed)) = StateLine::parse(&early, now) else {
            unreachable!()
        };
        let learned = Server::with(sharing, speed);
        pool.lock().servers.insert(a, learned);
        let saver = pool.0.saver.clone().unwrap();
        let text = file_of((late.to_vec(), Vec::new()));
        let path = std::env::temp_dir().join(format!("rtspmux-late-{}", std::process::id()));
        let identity = disk::replace(&path, &text).unwrap();
        std::fs::remove_file(path).unwrap();
        pool.on_read(&saver, Ok(Some((text, identity))));
        let known = pool.entries().into_iter();
        let (mut servers, _) = written(known, clock::moment());
        let verdict = |line: &mut String| line.truncate("yes a:554".len());
        servers.iter_mut().for_each(verdict);
        servers.sort();
        assert_eq!(servers, ["no b:554 ", "yes a:554"]);
    }
}

#[cfg(test)]
mod saver_tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A disk that stalls: `write` does not come back before it is told to.
    #[tokio::test]
    async fn f48_what_becomes_due_while_the_disk_stalls_is_written_together_afterwards() {
        let saver = Arc::new(Saver::new(PathBuf::new()));
        let (begun, beginnings) = mpsc::channel();
        let (go_on, stalled) = mpsc::channel();
        let stalled = Arc::new(Mutex::new(stalled));
        let request = || {
            let (begun, stalled) = (begun.clone(), Arc::clone(&stalled));
            let write = move || {
                begun.send(()).unwrap();
                stalled.lock().unwrap().recv().unwrap();
            };
            saver.request(write).unwrap();
        };
        request();
        beginnings.recv_timeout(PATIENCE).unwrap();
        request();
        request();
        let waiting = tokio::time::timeout(Duration::from_millis(1), saver.written());
        assert!(waiting.await.is_err());
        go_on.send(()).unwrap();
        beginnings.recv_timeout(PATIENCE).unwrap();
        go_on.send(()).unwrap();
        saver.written().await;
        assert!(beginnings.try_recv().is_err(), "twice for three requests");
    }

    #[tokio::test]
    async fn a_thread_that_panics_holds_up_nothing() {
        let saver = Arc::new(Saver::new(PathBuf::new()));
        saver.request(|| panic!("as it should")).unwrap();
        saver.written().await;
        let (done, is_done) = mpsc::channel();
        saver.request(move || done.send(()).unwrap()).unwrap();
        saver.written().await;
        is_done.recv_timeout(PATIENCE).unwrap();
    }
}
