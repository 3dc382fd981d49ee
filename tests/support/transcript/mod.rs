//! Reader of transcripts: dialogues between application, client and server, one step per line.
//!
//! The format is described in `fixtures/README.md`. A transcript is data; the one who plays it decides what it
//! is a transcript of: the pure core in simulated time, or a real socket against the mock server.

mod line;
mod pattern;

pub use pattern::{ExpectedFrame, ExpectedMessage, ExpectedStart, HeaderPattern, glob};

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use line::ServerMessage;

/// The host name that stands for the server in every transcript.
pub const HOST: &str = "nvr";

/// A transcript, read whole.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// The file, for messages.
    pub name: String,
    /// The first comment: the one thing this transcript shows.
    pub intent: String,
    /// What happens, in order.
    pub steps: Vec<Step>,
    source: String,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// `A>`: the application does something with its session of that label.
    Action {
        /// Line of the file, from 1.
        line: usize,
        /// The number the transcript gives the session.
        label: u32,
        /// The words; a quoted one is unescaped, each byte a `char` below U+0100 (see [`word_bytes`]).
        words: Vec<String>,
    },
    /// `C>`: the message the client sends next.
    Request {
        /// Line of the file, from 1.
        line: usize,
        /// What it must look like.
        expected: ExpectedMessage,
    },
    /// `C$`: the interleaved frame the client sends.
    ClientFrame {
        /// Line of the file, from 1.
        line: usize,
        /// What it must look like.
        expected: ExpectedFrame,
    },
    /// `S>`, `S$`, `S! raw`: bytes from the server. Adjacent ones may be glued or split at will.
    ServerBytes {
        /// Line of the file, from 1.
        line: usize,
        /// As they go over the wire.
        bytes: Vec<u8>,
        /// What these bytes cause.
        expect: Option<Expect>,
    },
    /// `S! eof`, `S! reset`.
    ServerClose {
        /// Line of the file, from 1.
        line: usize,
        /// RST instead of FIN.
        reset: bool,
        /// What this causes.
        expect: Option<Expect>,
    },
    /// `+15s`: time passes.
    Advance {
        /// Line of the file, from 1.
        line: usize,
        /// How much.
        time: Duration,
    },
    /// `@...` on a line of its own, or at the end of an `A>`, `C>`, `C$` or `+` line.
    Expect {
        /// Line of the file, from 1.
        line: usize,
        /// What must have happened since the step before.
        expect: Expect,
    },
}

impl Step {
    /// Line of the file, from 1.
    pub fn line(&self) -> usize {
        match self {
            Self::Action { line, .. }
            | Self::Request { line, .. }
            | Self::ClientFrame { line, .. }
            | Self::ServerBytes { line, .. }
            | Self::ServerClose { line, .. }
            | Self::Advance { line, .. }
            | Self::Expect { line, .. } => *line,
        }
    }
}

/// `@packet session=2 stream=0`, `@ 1 failed status=404`, `@nothing`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expect {
    /// The session: the number after `@ `, or the value of `session=`.
    pub label: Option<u32>,
    /// The first word.
    pub what: String,
    /// The `key=value` words but `session=`; a bare word has an empty value.
    pub fields: BTreeMap<String, String>,
}

impl Expect {
    /// A field, read as a number or whatever the caller asks for; `None` when it is not there.
    ///
    /// # Panics
    /// When it is there and is not of that type.
    pub fn field<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        let value = self.fields.get(key)?;
        match value.parse() {
            Ok(v) => Some(v),
            Err(_) => panic!("expectation {self}: {key}={value} is of the wrong type"),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("@")?;
        if let Some(label) = self.label {
            write!(f, " {label} ")?;
        }
        f.write_str(&self.what)?;
        self.fields
            .iter()
            .try_for_each(|(key, value)| match value.as_str() {
                "" => write!(f, " {key}"),
                value => write!(f, " {key}={value}"),
            })
    }
}

/// What is wrong with a transcript, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscriptError {
    /// The file.
    pub name: String,
    /// Line of the file, from 1; 0 for the whole.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for TranscriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.name, self.line, self.message)
    }
}

impl std::error::Error for TranscriptError {}

impl Transcript {
    /// Reads a transcript from text; `name` is for messages.
    ///
    /// # Errors
    /// On the first line that does not follow the format, or when the intent is missing.
    pub fn parse(name: &str, text: &str) -> Result<Self, TranscriptError> {
        let error = |line, message| TranscriptError {
            name: name.to_owned(),
            line,
            message,
        };
        let mut reader = Reader::default();
        for (index, text) in text.lines().enumerate() {
            let line = index + 1;
            reader.line(line, text).map_err(|m| error(line, m))?;
        }
        reader.flush();
        let intent = reader.intent.ok_or_else(|| {
            error(
                0,
                "no intent: the first comment says what this is about".to_owned(),
            )
        })?;
        Ok(Self {
            name: name.to_owned(),
            intent,
            steps: reader.steps,
            source: text.to_owned(),
        })
    }

    /// Reads `fixtures/<path>`.
    ///
    /// # Panics
    /// With file and line when it cannot be read.
    pub fn fixture(path: &str) -> Self {
        Self::read(&fixtures().join(path))
    }

    /// Every transcript (`*.rtsp.txt`) of `fixtures/<folder>`, by name.
    ///
    /// # Panics
    /// When the folder or one of the files cannot be read.
    pub fn fixtures_in(folder: &str) -> Vec<Self> {
        let folder = fixtures().join(folder);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_string_lossy().ends_with(".rtsp.txt"))
            .collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path
            .strip_prefix(env!("CARGO_MANIFEST_DIR"))
            .unwrap_or(path);
        Self::parse(&name.to_string_lossy(), &text).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The same dialogue with a server of another name: `127.0.0.1:4711` instead of `nvr`, in URIs, headers and
    /// bodies alike (so `Content-Length` changes with it).
    ///
    /// # Panics
    /// Never for a transcript that was read once.
    pub fn with_authority(&self, authority: &str) -> Self {
        let text = self
            .source
            .replace(&format!("rtsp://{HOST}"), &format!("rtsp://{authority}"));
        Self::parse(&self.name, &text).unwrap_or_else(|e| panic!("{e}"))
    }

    /// `fixtures/x.rtsp.txt:12`, for messages about that line.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The bytes of a quoted word of an action.
///
/// # Panics
/// When the word holds a character beyond U+00FF, which only an unquoted one can.
pub fn word_bytes(word: &str) -> Vec<u8> {
    word.chars()
        .map(|c| u8::try_from(u32::from(c)).expect("a quoted word"))
        .collect()
}

/// The state while reading: a server message stays open for its body lines.
#[derive(Default)]
struct Reader {
    intent: Option<String>,
    steps: Vec<Step>,
    open: Option<(usize, ServerMessage, Option<Expect>)>,
}

impl Reader {
    fn flush(&mut self) {
        if let Some((line, message, expect)) = self.open.take() {
            let bytes = message.into_bytes();
            self.steps.push(Step::ServerBytes {
                line,
                bytes,
                expect,
            });
        }
    }

    fn line(&mut self, line: usize, text: &str) -> Result<(), String> {
        if let Some(comment) = text.strip_prefix('#') {
            self.intent.get_or_insert_with(|| comment.trim().to_owned());
            return Ok(());
        }
        if let Some(body) = text.strip_prefix("S|") {
            let (_, message, _) = self.open.as_mut().ok_or("S| follows an S> line")?;
            message.push_body_line(body.strip_prefix(' ').unwrap_or(body));
            return Ok(());
        }
        let text = text.trim_end();
        if text.is_empty() {
            return Ok(());
        }
        self.flush();
        if let Some(expect) = text.strip_prefix('@') {
            let expect = line::expect(expect)?;
            self.steps.push(Step::Expect { line, expect });
            return Ok(());
        }
        let (text, expect) = line::split_expect(text)?;
        self.event(line, text, expect)
    }

    /// A line that causes something, the expectation cut off.
    fn event(&mut self, line: usize, text: &str, expect: Option<Expect>) -> Result<(), String> {
        if let Some(rest) = text.strip_prefix('+') {
            let (time, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let time = line::duration(time)?;
            self.steps.push(Step::Advance { line, time });
            return match rest.trim_start() {
                "" => self.then_expect(line, expect),
                rest => self.event(line, rest, expect),
            };
        }
        let (mark, rest) = text
            .split_at_checked(2)
            .ok_or("what kind of line is this?")?;
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match mark {
            "S>" => {
                self.open = Some((line, ServerMessage::parse(rest)?, expect));
                return Ok(());
            }
            "S$" => {
                let bytes = line::server_frame(rest)?;
                self.steps.push(Step::ServerBytes {
                    line,
                    bytes,
                    expect,
                });
                return Ok(());
            }
            "S!" => {
                self.steps.push(line::server_event(line, rest, expect)?);
                return Ok(());
            }
            "A>" => {
                let (label, words) = line::action(rest)?;
                self.steps.push(Step::Action { line, label, words });
            }
            "C>" => {
                let expected = ExpectedMessage::parse(rest)?;
                self.steps.push(Step::Request { line, expected });
            }
            "C$" => {
                let expected = ExpectedFrame::parse(rest)?;
                self.steps.push(Step::ClientFrame { line, expected });
            }
            _ => return Err(format!("unknown kind of line {mark:?}")),
        }
        self.then_expect(line, expect)
    }

    fn then_expect(&mut self, line: usize, expect: Option<Expect>) -> Result<(), String> {
        if let Some(expect) = expect {
            self.steps.push(Step::Expect { line, expect });
        }
        Ok(())
    }
}
