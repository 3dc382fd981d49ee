//! The command line.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Records cameras of an embedded RTSP server through one connection, then plays them with rtspsrc too, to compare.

  --cameras N      how many cameras (16)
  --seconds S      for how long with each element (4); Ctrl-C ends it earlier
  --output DIR     where to, as camera-NN.mkv and contact-sheet.png (recordings)
  --keep           do not remove the recordings of an earlier run first
  --element NAME   record with another element than rtspmuxsrc
  --no-comparison  do not play with rtspsrc afterwards
  --serve          only serve: prints the URL of a camera on each line, and ends with its input (Ctrl-D)
  --help";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) cameras: usize,
    pub(crate) seconds: Duration,
    pub(crate) output: PathBuf,
    pub(crate) keep: bool,
    pub(crate) element: String,
    pub(crate) comparison: bool,
    pub(crate) serve: bool,
    /// Set in the process that records: the server's URL without the camera's number.
    pub(crate) record: Option<String>,
}

impl Options {
    /// `None`: help is asked for.
    pub(crate) fn parse(
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, String> {
        let mut options = Self {
            cameras: 16,
            seconds: Duration::from_secs(4),
            output: PathBuf::from("recordings"),
            keep: false,
            element: crate::ELEMENT.to_owned(),
            comparison: true,
            serve: false,
            record: None,
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--cameras" => options.cameras = number(&name, &value()?)?,
                "--seconds" => {
                    options.seconds = Duration::from_secs(number(&name, &value()?)? as u64);
                }
                "--output" => options.output = PathBuf::from(value()?),
                "--element" => options.element = value()?,
                "--keep" => options.keep = true,
                "--no-comparison" => options.comparison = false,
                "--serve" => options.serve = true,
                "--record" => options.record = Some(value()?),
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {name}; see --help")),
            }
        }
        Ok(Some(options))
    }
}

fn number(name: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name} needs a number above 0, not {value:?}")),
    }
}
