//! What came out: the files, a table beside the reference, and the contact sheet.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::camera;
use crate::check::{self, Content};
use crate::gst_server::clip::FRAME_RATE;
use crate::options::Options;
use crate::progress::megabytes;
use crate::run::Run;
use crate::sheet;

/// The name of the contact sheet, beside the recordings.
pub(crate) const SHEET: &str = "contact-sheet.png";

/// Its default `max-sessions-per-connection`.
const SESSIONS_PER_CONNECTION: usize = 16;
/// Its default `max-connections-per-server`.
const CONNECTIONS_PER_SERVER: usize = 4;

pub(crate) struct Summary {
    run: Run,
    reference: Option<Run>,
    cameras: usize,
    files: Vec<Content>,
    /// Where the contact sheet is.
    sheet: Option<PathBuf>,
    /// A line for everything that is not as it should be.
    complaints: Vec<String>,
}

impl Summary {
    /// Plays every file to know.
    pub(crate) fn new(options: &Options, run: Run, reference: Option<Run>) -> Self {
        let mut summary = Self {
            run,
            reference,
            cameras: options.cameras,
            files: Vec::new(),
            sheet: None,
            complaints: Vec::new(),
        };
        summary.check_server();
        let tiles: Vec<_> = (0..options.cameras)
            .map(|number| summary.check_file(options, number))
            .collect();
        let sheet = options.output.join(SHEET);
        match sheet::write(&tiles, &sheet) {
            Ok(()) => summary.sheet = Some(sheet),
            Err(error) => {
                let complaint = format!("{}: {error}", sheet.display());
                summary.complaints.push(complaint);
            }
        }
        summary
    }

    pub(crate) fn is_good(&self) -> bool {
        self.complaints.is_empty()
    }

    fn check_server(&mut self) {
        let run = &self.run;
        let most = max_connections(&run.element, self.cameras);
        if run.connections > most {
            self.complaints.push(format!(
                "{} connections were made, {most} are enough",
                run.connections
            ));
        }
        if run.teardowns < run.sessions {
            self.complaints.push(format!(
                "{} sessions, but {} TEARDOWNs",
                run.sessions, run.teardowns
            ));
        }
    }

    /// Gives a picture of it.
    fn check_file(&mut self, options: &Options, number: usize) -> Option<sheet::Tile> {
        let file = options.output.join(camera::file_name(number));
        let name = file.display();
        if let Some(failure) = self.run.failures.get(&number) {
            self.complaints.push(format!("{name}: {failure}"));
        }
        match check::play(&file, number) {
            Ok(mut content) => {
                if camera::has_audio(number) && !content.has_audio {
                    self.complaints.push(format!("{name}: no sound"));
                }
                let picture = content.picture.take();
                self.files.push(content);
                picture
            }
            Err(error) => {
                self.complaints.push(format!("{name}: {error}"));
                None
            }
        }
    }

    /// Of the pictures of one camera, as they were recorded.
    fn megabits(&self) -> f64 {
        let bytes: u64 = self.files.iter().map(|file| file.video_bytes).sum();
        let frames: u64 = self.files.iter().map(|file| file.frames).sum();
        bytes as f64 * 8e-6 * FRAME_RATE as f64 / frames.max(1) as f64
    }
}

/// How many connections these cameras may take.
fn max_connections(element: &str, cameras: usize) -> usize {
    if element == crate::ELEMENT {
        let needed = cameras.div_ceil(SESSIONS_PER_CONNECTION);
        needed.min(CONNECTIONS_PER_SERVER)
    } else {
        cameras
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = &self.run;
        let frames: u64 = self.files.iter().map(|file| file.frames).sum();
        let lost: u64 = self.files.iter().map(|file| file.lost).sum();
        let with_sound = self.files.iter().filter(|file| file.has_audio).count();
        writeln!(f)?;
        self.table(f)?;
        writeln!(f)?;
        writeln!(
            f,
            "server         {} connections for {} sessions; {} TEARDOWNs",
            run.connections, run.sessions, run.teardowns
        )?;
        writeln!(
            f,
            "written        {} from cameras of {:.2} Mbit/s",
            megabytes(run.usage.bytes),
            self.megabits()
        )?;
        write!(
            f,
            "files          {} of {} playable, {with_sound} with sound; \
             {frames} frames decoded, {lost} lost",
            self.files.len(),
            self.cameras
        )?;
        if let Some(sheet) = &self.sheet {
            write!(f, "\ncontact sheet  {}", sheet.display())?;
        }
        for complaint in &self.complaints {
            write!(f, "\nnot good       {complaint}")?;
        }
        Ok(())
    }
}

/// What a row shows of a run.
type Column = fn(&Run) -> String;

impl Summary {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: [(&str, Column); 5] = [
            ("connections", |run| run.connections.to_string()),
            ("CPU, % of a core", |run| {
                let recorded = run.usage.recorded.as_secs_f64();
                format!("{:.1}", run.usage.cpu.as_secs_f64() / recorded * 100.0)
            }),
            ("threads", |run| run.usage.threads.to_string()),
            ("memory, MB", |run| {
                format!("{:.0}", run.usage.memory_kb as f64 / 1e3)
            }),
            ("all have a picture after, ms", |run| {
                run.usage.first_pictures.map_or("never".to_owned(), millis)
            }),
        ];
        let runs = || std::iter::once(&self.run).chain(&self.reference);
        write!(f, "{:30}", format!("{} cameras", self.cameras))?;
        for run in runs() {
            write!(f, "{:>12}", run.element)?;
        }
        writeln!(f)?;
        for (name, value) in rows {
            write!(f, "{name:30}")?;
            for run in runs() {
                write!(f, "{:>12}", value(run))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}
