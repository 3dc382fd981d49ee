//! The command line.

pub(crate) const HELP: &str = "\
Measures rtspmuxsrc against rtspsrc, and against rtspsrc2 and FFmpeg where they are installed;
writes the tables and plots of docs/performance.md. Keep the machine quiet meanwhile.

  ./bench [PART...] [OPTION...]

  compare     CPU, threads, memory, start and stop of 64 streams (about 8 minutes)
  core        the library without GStreamer against a loop that only reads (a minute)
  latency     from the server's send to the pad, wake-ups and CPU of 1 to 256 cameras
              of 2 Mbit/s (about 12 minutes)
  scale       1 to 128 sessions on a connection, 400 sessions on 200 servers: what
              a stream, a Mbit/s and a connection cost (about 6 minutes)
              without a part: all of them

  --base PROGRAM
              measures this build against another one alone, and writes nothing: PROGRAM is this
              benchmark as another commit built it (target/release/deps/performance-*)
  --runs N    rounds of each measure (5)
  --quick     a short look: 2 short rounds, nothing is written
  --help";

use std::path::PathBuf;

/// A section of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Compare,
    Core,
    Latency,
    Scale,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) parts: Vec<Part>,
    /// This benchmark as another commit built it.
    pub(crate) base: Option<PathBuf>,
    pub(crate) runs: usize,
    pub(crate) quick: bool,
}

impl Options {
    /// `None`: help is asked for, or this is a `cargo bench` of everything, which must not take a
    /// quarter of an hour: only `./bench` says `--run`.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            parts: Vec::new(),
            base: None,
            runs: 0,
            quick: false,
        };
        let mut is_to_run = false;
        while let Some(word) = words.next() {
            match word.as_str() {
                "compare" => options.parts.push(Part::Compare),
                "core" => options.parts.push(Part::Core),
                "latency" => options.parts.push(Part::Latency),
                "scale" => options.parts.push(Part::Scale),
                "--run" => is_to_run = true,
                "--quick" => options.quick = true,
                "--base" => {
                    let program = words.next().ok_or("--base needs a program")?;
                    options.base = Some(program.into());
                }
                "--runs" => {
                    let value = words.next().ok_or("--runs needs a number")?;
                    options.runs = value.parse().map_err(|_| format!("--runs {value}"))?;
                }
                // What cargo adds to every benchmark.
                "--bench" => {}
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown: {word}; see --help")),
            }
        }
        if !is_to_run {
            return Ok(None);
        }
        if options.parts.is_empty() {
            options.parts = vec![Part::Compare, Part::Core, Part::Latency, Part::Scale];
        }
        if options.runs == 0 {
            options.runs = if options.quick { 2 } else { 5 };
        }
        Ok(Some(options))
    }
}
