//! How many instructions the core executes for a packet and for a request, counted by callgrind.
//!
//! The program runs itself under valgrind with once and twice the work; the difference is the work
//! alone, without start, set-up and end. Only the program's own instructions count, those of the C
//! library do not: its `memcpy` and `malloc` differ from system to system. Inputs are the same every
//! time.
//!
//! `cargo bench --bench instructions` compares with `counts.txt` beside this file and fails over
//! +5 %; `-- --update` writes that file. Another compiler writes other code: with another rustc or
//! on another architecture than the file was taken with the comparison is told, and fails nothing.

mod callgrind;
mod counts;
#[path = "../request_path/dialogue.rs"]
mod dialogue;
#[path = "../packet_path/playing.rs"]
mod playing;
#[path = "../packet_path/reader.rs"]
mod reader;

use std::{error::Error, process::ExitCode, time::Instant};

use bytes::BytesMut;
use counts::{Counts, Judgement};
use dialogue::Dialogue;
use reader::{Bare, Multiplexer, Reader};

const SESSIONS: u8 = 64;
/// What a read gives.
const CHUNK: usize = 64 * 1024;
/// Units of work in the shorter of the two runs.
const PACKETS: usize = 6_400;
const LIVES: usize = 200;

/// The work of one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Packets that are read and sliced only.
    BarePackets,
    /// Packets, from the bytes read to the consumer of their session.
    Packets,
    /// Requests, from the command to the reply.
    Requests,
}

impl Work {
    const ALL: [Self; 3] = [Self::BarePackets, Self::Packets, Self::Requests];

    fn name(self) -> &'static str {
        match self {
            Self::BarePackets => "bare-packet",
            Self::Packets => "packet",
            Self::Requests => "request",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.name() == name)
    }

    /// Packets or requests in the shorter run.
    fn units(self) -> u64 {
        match self {
            Self::BarePackets | Self::Packets => PACKETS as u64,
            Self::Requests => LIVES as u64 * dialogue::REQUESTS,
        }
    }

    /// Does it, once or twice.
    fn run(self, times: usize) {
        let now = Instant::now();
        match self {
            Self::BarePackets => read_packets(&mut Bare, times),
            Self::Packets => read_packets(&mut Multiplexer::new(SESSIONS, now), times),
            Self::Requests => {
                let mut dialogue = Dialogue::new(now);
                (0..times * LIVES).for_each(|_| dialogue.live_one_session());
            }
        }
    }
}

/// The chunks of both runs are made before either begins, so that making them is no difference.
fn read_packets(reader: &mut impl Reader, times: usize) {
    let bytes = playing::stream(SESSIONS, 2 * PACKETS);
    let frame = playing::PACKET + 4;
    let whole = CHUNK / frame * frame;
    let chunks: Vec<BytesMut> = bytes.chunks(whole).map(BytesMut::from).collect();
    let count = if times == 2 {
        chunks.len()
    } else {
        chunks.len() / 2
    };
    for mut chunk in chunks.into_iter().take(count) {
        reader.take(&mut chunk);
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["work", name, times] => work(name, times).map(|()| true),
        words => compare(words.contains(&"--update")),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(name: &str, times: &str) -> Result<(), Box<dyn Error>> {
    let work = Work::named(name).ok_or("no such work")?;
    work.run(times.parse()?);
    Ok(())
}

/// Gives whether nothing has become dearer.
fn compare(update: bool) -> Result<bool, Box<dyn Error>> {
    if !callgrind::is_installed() {
        println!("instructions: skipped, valgrind is not installed");
        return Ok(true);
    }
    let mut taken = Counts::of_this_build()?;
    for work in Work::ALL {
        let once = callgrind::count(&["work", work.name(), "1"])?;
        let twice = callgrind::count(&["work", work.name(), "2"])?;
        taken.set(work.name(), twice.saturating_sub(once) / work.units());
    }
    if update {
        taken.write()?;
        println!("{taken}");
        return Ok(true);
    }
    let committed = Counts::committed()?;
    let comparable = committed.is_comparable(&taken);
    if !comparable {
        println!(
            "instructions: counts.txt is of {}, this is {}: told, not judged",
            committed.build(),
            taken.build()
        );
    }
    let judgements = committed.judge(&taken);
    for judgement in &judgements {
        println!("instructions: {judgement}");
    }
    Ok(!comparable || judgements.iter().all(Judgement::is_good))
}
