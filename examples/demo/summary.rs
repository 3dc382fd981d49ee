//! What came out.

use std::fmt;
use std::time::{Duration, Instant};

use crate::camera::{self, Camera};
use crate::check::{self, Content};
use crate::gst_server::Counts;
use crate::options::Options;
use crate::progress::megabytes;

/// The element that shares; of another one a connection per camera is expected.
const MULTIPLEXER: &str = "rtspmuxsrc";
/// Its default `max-sessions-per-connection`.
const SESSIONS_PER_CONNECTION: usize = 16;
/// Its default `max-connections-per-server`.
const CONNECTIONS_PER_SERVER: usize = 4;

pub(crate) struct Summary {
    counts: Counts,
    max_connections: usize,
    last_first_frame: Option<Duration>,
    bytes: u64,
    cameras: usize,
    files: Vec<Content>,
    /// A line for everything that is not as it should be.
    complaints: Vec<String>,
}

impl Summary {
    /// Plays every file to know.
    pub(crate) fn new(
        options: &Options,
        cameras: &[Camera],
        started: Instant,
        counts: Counts,
    ) -> Self {
        let mut summary = Self {
            counts,
            max_connections: max_connections(options),
            last_first_frame: last_first_frame(cameras, started),
            bytes: cameras.iter().map(Camera::bytes).sum(),
            cameras: cameras.len(),
            files: Vec::new(),
            complaints: Vec::new(),
        };
        summary.check_server();
        for camera in cameras {
            summary.check_file(camera);
        }
        summary
    }

    pub(crate) fn is_good(&self) -> bool {
        self.complaints.is_empty()
    }

    fn check_server(&mut self) {
        let counts = self.counts;
        if counts.accepted > self.max_connections {
            self.complaints.push(format!(
                "{} connections were made, {} are enough",
                counts.accepted, self.max_connections
            ));
        }
        if counts.teardowns < counts.sessions {
            self.complaints.push(format!(
                "{} sessions, but {} TEARDOWNs",
                counts.sessions, counts.teardowns
            ));
        }
    }

    fn check_file(&mut self, camera: &Camera) {
        let name = camera.file().display();
        if let Some(failure) = camera.failure() {
            self.complaints.push(format!("{name}: {failure}"));
        }
        match check::play(camera.file(), camera.number()) {
            Ok(content) => {
                if camera::has_audio(camera.number()) && !content.has_audio {
                    self.complaints.push(format!("{name}: no sound"));
                }
                self.files.push(content);
            }
            Err(error) => self.complaints.push(format!("{name}: {error}")),
        }
    }
}

/// How many connections these cameras may take.
fn max_connections(options: &Options) -> usize {
    if options.element == MULTIPLEXER {
        let needed = options.cameras.div_ceil(SESSIONS_PER_CONNECTION);
        needed.min(CONNECTIONS_PER_SERVER)
    } else {
        options.cameras
    }
}

/// `None` as long as a camera has none.
fn last_first_frame(cameras: &[Camera], started: Instant) -> Option<Duration> {
    cameras
        .iter()
        .map(Camera::first_frame)
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()
        .map(|last| last.duration_since(started))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let frames: u64 = self.files.iter().map(|file| file.frames).sum();
        let lost: u64 = self.files.iter().map(|file| file.lost).sum();
        let with_sound = self.files.iter().filter(|file| file.has_audio).count();
        writeln!(f)?;
        writeln!(
            f,
            "connections        {} (counted by the server, for {} sessions; {} TEARDOWNs)",
            counts.accepted, counts.sessions, counts.teardowns
        )?;
        match self.last_first_frame {
            Some(time) => writeln!(
                f,
                "last first frame   {} ms after the start of the pipelines",
                time.as_millis()
            )?,
            None => writeln!(f, "last first frame   never: not every camera played")?,
        }
        writeln!(f, "written            {}", megabytes(self.bytes))?;
        write!(
            f,
            "files              {} of {} playable, {with_sound} with sound; \
             {frames} frames decoded, {lost} lost",
            self.files.len(),
            self.cameras
        )?;
        for complaint in &self.complaints {
            write!(f, "\nnot good           {complaint}")?;
        }
        Ok(())
    }
}
