//! One run: a load server and a client, each in a process of its own.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{BufRead as _, BufReader, IsTerminal as _, Read as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use gstreamer as gst;

use crate::{
    Outcome, arguments::Arguments, contender::Contender, encode, machine::Machine,
    options::Options, samples::Samples,
};

/// Longer than any client takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(10);

/// What all contenders of a measure have to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) streams: usize,
    pub(crate) servers: usize,
    pub(crate) kbits: u32,
    /// How the server sends: `paced`, `stamped` or `unthrottled`.
    pub(crate) pace: &'static str,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Server and client on a processor each.
    pub(crate) is_pinned: bool,
}

impl Load {
    /// Of one server, at the clip's own pace.
    pub(crate) fn paced(streams: usize, kbits: u32) -> Self {
        Self {
            streams,
            servers: 1,
            kbits,
            pace: "paced",
            // Longer than threads are kept that only the start has needed.
            warm_up: Duration::from_secs(3),
            window: Duration::from_secs(4),
            is_pinned: true,
        }
    }

    pub(crate) fn unthrottled(streams: usize) -> Self {
        Self {
            pace: "unthrottled",
            warm_up: Duration::from_secs(1),
            window: Duration::from_secs(3),
            ..Self::paced(streams, 4000)
        }
    }

    /// The times in the packets are those at which they are sent.
    pub(crate) fn stamped(streams: usize, kbits: u32) -> Self {
        Self {
            pace: "stamped",
            ..Self::paced(streams, kbits)
        }
    }

    /// Start and stop only.
    pub(crate) fn start(streams: usize) -> Self {
        Self {
            warm_up: Duration::from_millis(200),
            window: Duration::from_millis(200),
            is_pinned: false,
            ..Self::paced(streams, 500)
        }
    }
}

pub(crate) struct Bench {
    machine: Machine,
    runs: usize,
    is_quick: bool,
    /// For clips; below `target`.
    folder: PathBuf,
    clips: RefCell<BTreeMap<u32, Rc<PathBuf>>>,
}

impl Bench {
    pub(crate) fn new(options: &Options) -> Outcome<Self> {
        gst::init()?;
        gstrtspmux::plugin_register_static()?;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            machine: Machine::look(),
            runs: options.runs,
            is_quick: options.quick,
            folder,
            clips: RefCell::default(),
        })
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.is_quick
    }

    /// All contenders take their turns, for `runs` rounds. One that fails loses that run.
    pub(crate) fn rounds(
        &self,
        contenders: &[Contender],
        load: Load,
        runs: usize,
    ) -> Outcome<Samples> {
        let mut samples = Samples::default();
        for round in 0..runs {
            for contender in contenders {
                show(&format!(
                    "{} x {}: {}, {} of {runs}",
                    load.streams,
                    rate(load),
                    contender.name,
                    round + 1
                ));
                match self.run(contender, load) {
                    Ok(values) => samples.add(round, &contender.name, &values),
                    Err(error) => {
                        show("");
                        eprintln!("{}: {error}", contender.name);
                        samples.fail(&contender.name, error.to_string());
                    }
                }
            }
        }
        show("");
        Ok(samples)
    }

    fn run(&self, contender: &Contender, load: Load) -> Outcome<Arguments> {
        let clip = self.clip(load.kbits)?;
        let is_pinned = load.is_pinned && self.machine.can_pin();
        let on = |arguments: Arguments, cpu: usize| match is_pinned {
            true => arguments.with("cpu", cpu),
            false => arguments,
        };
        let server = on(Arguments::default().with("clip", clip.display()), 0);
        let mut server = Process::start(std::env::current_exe()?, "role:server", &server)?;
        let port = server.line()?;
        let warm_up = if self.is_quick {
            load.warm_up / 2
        } else {
            load.warm_up
        };
        let window = if self.is_quick {
            load.window / 2
        } else {
            load.window
        };
        let client = on(contender.arguments(), 1)
            .with("port", port.trim_start_matches("port="))
            .with("streams", load.streams)
            .with("servers", load.servers)
            .with("kbits", load.kbits)
            .with("pace", load.pace)
            .with("warm-up", warm_up.as_millis())
            .with("window", window.as_millis());
        let client = Process::start(contender.program()?, contender.role(), &client)?.finish()?;
        let server = server.finish()?;
        if server.value::<u64>("dropped-frames")? > 0 {
            return Err("the server had to leave pictures out".into());
        }
        let all = client.words().chain(server.words());
        Ok(Arguments::parse(all)?)
    }

    /// Encoded once for each rate.
    fn clip(&self, kbits: u32) -> Outcome<Rc<PathBuf>> {
        if let Some(clip) = self.clips.borrow().get(&kbits) {
            return Ok(Rc::clone(clip));
        }
        let clip = Rc::new(self.folder.join(format!("{kbits}.clip")));
        encode::encode(kbits, &clip)?;
        self.clips.borrow_mut().insert(kbits, Rc::clone(&clip));
        Ok(clip)
    }
}

fn rate(load: Load) -> String {
    match load.pace {
        "unthrottled" => load.pace.to_owned(),
        _ => format!("{} kbit/s", load.kbits),
    }
}

/// One line for people, written over the last one.
fn show(progress: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{progress}");
    }
}

/// This program in another role, or another program in its role.
struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(program: PathBuf, role: &str, arguments: &Arguments) -> Outcome<Self> {
        let mut child = Command::new(program)
            .arg(role)
            .args(arguments.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, output })
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Ends its input, waits for its end and gives what it has said.
    fn finish(mut self) -> Outcome<Arguments> {
        drop(self.child.stdin.take());
        let end = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > end => {
                    return Err(format!("no end after {PATIENCE:?}").into());
                }
                None => std::thread::sleep(TICK),
            }
        };
        let (mut said, mut errors) = (String::new(), String::new());
        self.output.read_to_string(&mut said)?;
        if let Some(mut output) = self.child.stderr.take() {
            output.read_to_string(&mut errors)?;
        }
        if !status.success() {
            let last = errors.lines().last().unwrap_or("no word");
            let last = last.trim_start_matches("bench: ");
            return Err(format!("{last} ({status})").into());
        }
        Ok(Arguments::parse(said.lines().map(str::to_owned))?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
