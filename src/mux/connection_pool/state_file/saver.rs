//! One thread at a time writes the state file; it lives while there is something to write. A disk
//! that stalls holds up neither sockets nor callers, and the changes that come meanwhile are written
//! together.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;

use super::disk::Identity;
use crate::mux::clock;

/// The name of threads that read or write the file.
pub(super) const THREAD: &str = "rtspmux-state";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// All that was learned is written, or could not be written.
    Idle,
    /// A thread writes what was learned so far.
    Writing,
    /// The pool has learned more since, or the thread has not begun.
    Due,
}

/// The file as this pool last read or wrote it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) identity: Option<Identity>,
    /// Lines that were in it and not taken over: what other processes have written. They are written
    /// again each time.
    pub(super) others: Vec<String>,
}

/// The file, and what is being done to it.
#[derive(Debug)]
pub(crate) struct Saver {
    pub(super) path: PathBuf,
    progress: watch::Sender<Progress>,
    pub(super) seen: Mutex<Seen>,
}

impl Saver {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            progress: watch::Sender::new(Progress::Idle),
            seen: Mutex::default(),
        }
    }

    /// Has `write` called on a thread of its own, and once more for all requests that come while it
    /// runs.
    ///
    /// # Errors
    ///
    /// The system gives no thread; the next request tries again.
    pub(super) fn request(self: &Arc<Self>, write: impl Fn() + Send + 'static) -> io::Result<()> {
        if self.progress.send_replace(Progress::Due) != Progress::Idle {
            return Ok(());
        }
        let mut writer = Writer {
            saver: Arc::clone(self),
            has_ended: false,
        };
        clock::in_background(THREAD, move || {
            while writer.take_up() {
                write();
            }
        })
    }

    /// Waits until everything that was learned so far is written, or could not be written.
    pub(crate) async fn written(&self) {
        let mut progress = self.progress.subscribe();
        // The sender is ours.
        let _ = progress
            .wait_for(|progress| *progress == Progress::Idle)
            .await;
    }
}

/// Held by the thread: however the thread ends, the next request starts another one.
struct Writer {
    saver: Arc<Saver>,
    /// The next thread may have begun.
    has_ended: bool,
}

impl Writer {
    /// Whether there is something to write.
    fn take_up(&mut self) -> bool {
        let mut is_due = false;
        self.saver.progress.send_modify(|progress| {
            is_due = *progress == Progress::Due;
            *progress = match is_due {
                true => Progress::Writing,
                false => Progress::Idle,
            };
        });
        self.has_ended = !is_due;
        is_due
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.has_ended {
            self.saver.progress.send_replace(Progress::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
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
