//! Verdicts on disk: read when the pool is made, written whenever one changes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{ConnectionPool, server::Server};
use crate::mux::{driver, sharing::memory};

impl ConnectionPool {
    /// Takes over what is remembered. A file that cannot be read is ignored: everything in it can be
    /// learned again.
    pub(in crate::mux) fn load_verdicts(&self) {
        let Some(path) = &self.0.verdicts else { return };
        let known = match fs::read_to_string(path) {
            Ok(text) => memory::parse(&text, driver::moment()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                return tracing::warn!("{}: not read: {error}", path.display());
            }
        };
        let Some(known) = known else {
            return tracing::warn!("{}: not a file of verdicts, ignored", path.display());
        };
        let mut state = self.lock();
        for (id, sharing, pace) in known {
            state.servers.insert(id, Server::with(sharing, pace));
        }
    }

    /// Writes what is known. On failure the next change tries again.
    pub(super) fn save_verdicts(&self) {
        let Some(path) = &self.0.verdicts else { return };
        let now = driver::moment();
        let mut lines: Vec<String> = self
            .lock()
            .servers
            .iter()
            .filter_map(|(id, server)| memory::line(id, &server.sharing, &server.pace, now))
            .collect();
        lines.sort();
        if let Err(error) = replace(path, &memory::file(lines)) {
            tracing::warn!("{}: not written: {error}", path.display());
        }
    }
}

/// Whoever reads the file finds the old one or the new one, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new: PathBuf = path.with_file_name(name);
    fs::write(&new, text)?;
    fs::rename(&new, path).inspect_err(|_| drop(fs::remove_file(&new)))
}
