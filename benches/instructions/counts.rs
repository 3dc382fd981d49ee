//! Counts, those of the committed file and those just taken.

use std::{collections::BTreeMap, error::Error, fmt, path::PathBuf, process::Command};

/// How much dearer something may become, and how much cheaper before the file is to be renewed.
const TOLERANCE: f64 = 0.05;

const HEAD: &str = "\
# Instructions of the core for a packet read and sliced only, a packet, and a request.
# Written by `cargo bench --bench instructions -- --update`.
";

/// Instructions per unit by the name of the work, and what compiled it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    rustc: String,
    architecture: String,
    counts: BTreeMap<String, u64>,
}

impl Counts {
    /// Without counts yet.
    pub(crate) fn of_this_build() -> Result<Self, Box<dyn Error>> {
        let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
        let version = Command::new(rustc).arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout);
        Ok(Self {
            rustc: version.split(' ').nth(1).unwrap_or("unknown").to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            counts: BTreeMap::new(),
        })
    }

    pub(crate) fn committed() -> Result<Self, Box<dyn Error>> {
        let mut counts = Self::default();
        for line in std::fs::read_to_string(file())?.lines() {
            match line.split_once(' ') {
                _ if line.starts_with('#') => {}
                Some(("rustc", version)) => counts.rustc = version.to_owned(),
                Some(("architecture", name)) => counts.architecture = name.to_owned(),
                Some((work, count)) => counts.set(work, count.parse()?),
                None => return Err(format!("counts.txt: {line:?}").into()),
            }
        }
        Ok(counts)
    }

    pub(crate) fn set(&mut self, work: &str, count: u64) {
        self.counts.insert(work.to_owned(), count);
    }

    pub(crate) fn write(&self) -> std::io::Result<()> {
        std::fs::write(file(), format!("{HEAD}{self}"))
    }

    /// Compiled by the same compiler for the same machine?
    pub(crate) fn is_comparable(&self, other: &Self) -> bool {
        self.rustc == other.rustc && self.architecture == other.architecture
    }

    pub(crate) fn build(&self) -> String {
        format!("rustc {} on {}", self.rustc, self.architecture)
    }

    /// What became of each count.
    pub(crate) fn judge(&self, now: &Self) -> Vec<Judgement> {
        now.counts
            .iter()
            .map(|(work, &now)| Judgement {
                work: work.clone(),
                was: self.counts.get(work).copied(),
                now,
            })
            .collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "rustc {}\narchitecture {}",
            self.rustc, self.architecture
        )?;
        self.counts
            .iter()
            .try_for_each(|(work, count)| writeln!(f, "{work} {count}"))
    }
}

/// One count against the committed one.
#[derive(Debug)]
pub(crate) struct Judgement {
    work: String,
    was: Option<u64>,
    now: u64,
}

impl Judgement {
    /// A count that the file does not have is none to be judged by.
    fn change(&self) -> Option<f64> {
        let was = self.was.filter(|&was| was > 0)?;
        Some(self.now as f64 / was as f64 - 1.0)
    }

    pub(crate) fn is_good(&self) -> bool {
        self.change().is_some_and(|change| change <= TOLERANCE)
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.work, self.now)?;
        let Some(change) = self.change() else {
            return write!(f, ": not in counts.txt");
        };
        write!(f, " ({:+.1} %)", 100.0 * change)?;
        if change > TOLERANCE {
            write!(
                f,
                ": too many more; if it has to be so, say why and run with --update"
            )?;
        } else if change < -TOLERANCE {
            write!(f, ": well done, run with --update and commit counts.txt")?;
        }
        Ok(())
    }
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/counts.txt")
}
