//! What was learned of servers, on disk: read when the pool is made, written when something changes.
//!
//! A line for each thing known, under a line that says which kind of file it is:
//!
//! ```text
//! rtspmux-state 4
//! yes nvr:8554 1700000000 0 - in-band 20100 3000 - - -
//! played rtsp://nvr:8554/1 rtsp://nvr:8554/1/ v=0%0D%0A...
//! ```
//!
//! A line that cannot be read is left out; a file of another kind or version holds none.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use super::{ConnectionPool, descriptions::line, server::Server};
use crate::mux::{driver, sharing::memory};

const HEADER: &str = "rtspmux-state 4";
/// More than anybody has; a bound on what a broken file may cost.
const MAX_LINES: usize = 65_536;
/// Sixty-four cameras that start together are written down together.
const SAVED_AFTER: Duration = Duration::from_secs(1);

impl ConnectionPool {
    /// Takes over what is remembered. A file that cannot be read is ignored: everything in it can be
    /// learned again.
    pub(in crate::mux) fn load(&self) {
        let Some(path) = &self.0.state_file else {
            return;
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                return tracing::warn!("{}: not read: {error}", path.display());
            }
        };
        let Some(lines) = lines_of(&text) else {
            return tracing::warn!("{}: not a file of ours, ignored", path.display());
        };
        let now = driver::moment();
        let mut state = self.lock();
        for line in lines {
            if let Some((id, sharing, pace)) = memory::parse_line(line, now) {
                state.servers.insert(id, Server::with(sharing, pace));
            } else {
                state.descriptions.load(line);
            }
        }
    }

    /// Writes what is known. On failure the next change tries again.
    pub(super) fn save(&self) {
        let Some(path) = &self.0.state_file else {
            return;
        };
        let _saving = self.0.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let now = driver::moment();
        let (verdicts, descriptions) = {
            let state = self.lock();
            let servers = state.servers.iter();
            let verdicts: BTreeSet<String> = servers
                .filter_map(|(id, server)| memory::line(id, &server.sharing, &server.pace, now))
                .collect();
            (verdicts, state.descriptions.all())
        };
        // With the lock let go of: each is looked through for secrets.
        let descriptions: BTreeSet<String> = descriptions
            .iter()
            .filter_map(|(uri, presentation)| line::line(uri, presentation))
            .collect();
        if let Err(error) = replace(path, &file_of(verdicts.into_iter().chain(descriptions))) {
            tracing::warn!("{}: not written: {error}", path.display());
        }
    }

    /// Writes what is known in a moment, together with what else will have been learned by then.
    pub(super) fn save_soon(&self) {
        let Some(runtime) = self.0.runtime.get() else {
            return;
        };
        if self.0.state_file.is_none() || self.0.is_save_due.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::downgrade(&self.0);
        driver::later(runtime, SAVED_AFTER, move || {
            if let Some(shared) = shared.upgrade() {
                shared.is_save_due.store(false, Ordering::Relaxed);
                Self(shared).save();
            }
        });
    }
}

/// The lines of a file; none if it is another kind of file.
fn lines_of(text: &str) -> Option<impl Iterator<Item = &str>> {
    let mut lines = text.lines();
    (lines.next()? == HEADER).then(|| lines.take(MAX_LINES))
}

fn file_of(lines: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("{HEADER}\n");
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Whoever reads the file finds the old one or the new one, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new: PathBuf = path.with_file_name(name);
    write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
}

/// For nobody else to read: which cameras there are is their owner's business.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_kind_holds_nothing() {
        assert!(lines_of("").is_none());
        assert!(lines_of("something else\nno nvr:554 1 1 closed - -").is_none());
        let lines = ["one", "two"];
        let file = file_of(lines.map(str::to_owned));
        assert!(lines_of(&file).unwrap().eq(lines));
    }
}
