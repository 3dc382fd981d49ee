//! What `rtspmuxsrc` costs, against `rtspsrc` and others that are installed: CPU, threads, memory,
//! start and stop, and how that grows with streams, bits and connections. `./bench --help`.
//!
//! One program in several roles, each a process of its own: it measures, and for that runs itself as
//! a load server and as the client that is looked at. Contenders take turns within each round, so
//! that whatever else the machine does falls on all of them, and what counts is their ratio.

mod arguments;
mod client;
mod clock;
mod contender;
mod document;
mod encode;
mod machine;
mod measures;
mod options;
mod plot;
mod run;
mod samples;
mod scale;
mod server;

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests' parser, of which the load server uses a part"
)]
#[path = "../../tests/support/rtsp.rs"]
mod rtsp;

use std::{error::Error, process::ExitCode};

use arguments::Arguments;
use options::{Options, Part};
use run::Bench;

/// What a role gives.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let mut words = std::env::args().skip(1).peekable();
    let role = words.next_if(|word| word.starts_with("role:"));
    let Some(role) = role else {
        return match Options::parse(words)? {
            Some(options) => measure(&options),
            None => {
                println!("{}", options::HELP);
                Ok(())
            }
        };
    };
    let arguments = Arguments::parse(words)?;
    machine::pin(&arguments)?;
    match role.as_str() {
        "role:server" => server::run(&arguments),
        "role:elements" => client::elements::run(&arguments),
        "role:ffmpeg" => client::ffmpeg::run(&arguments),
        "role:library" => client::library::run(&arguments),
        "role:bare" => client::bare::run(&arguments),
        _ => Err(format!("no such role: {role}").into()),
    }
}

fn measure(options: &Options) -> Outcome {
    let bench = Bench::new(options)?;
    println!("{}", bench.machine());
    if let Some(base) = &options.base {
        println!("{}", measures::builds(&bench, base)?.text());
        return Ok(());
    }
    for part in &options.parts {
        let section = match part {
            Part::Compare => measures::compare(&bench)?,
            Part::Core => measures::core(&bench)?,
            Part::Latency => measures::latency(&bench)?,
            Part::Scale => scale::measure(&bench)?,
        };
        println!("{}\n", section.text());
        if options.quick {
            println!("(a short look: docs/performance.md is left as it is)\n");
        } else {
            section.write()?;
        }
    }
    Ok(())
}
