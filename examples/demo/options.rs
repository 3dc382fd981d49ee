//! The command line.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Records cameras of an embedded RTSP server through one connection.

  --cameras N     how many cameras (16)
  --seconds S     for how long (10); Ctrl-C ends it earlier
  --output DIR    where to, as camera-NN.mkv (recordings)
  --keep          do not remove the recordings of an earlier run first
  --element NAME  play with another element than rtspmuxsrc, to compare: rtspsrc
  --help";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) cameras: usize,
    pub(crate) seconds: Duration,
    pub(crate) output: PathBuf,
    pub(crate) keep: bool,
    pub(crate) element: String,
}

impl Options {
    /// `None`: help is asked for.
    pub(crate) fn parse(
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, String> {
        let mut options = Self {
            cameras: 16,
            seconds: Duration::from_secs(10),
            output: PathBuf::from("recordings"),
            keep: false,
            element: crate::ELEMENT.to_owned(),
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
