//! Where a behaviour runs: makes the element by the name under test, notes what is observed, and compares.

use std::cell::RefCell;
use std::fmt::{Display, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, OnceLock};
use std::time::Duration;

use gst::{glib, prelude::*};
use gstreamer as gst;

use crate::media::MediaServer;
use crate::proxy::Proxy;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const REFERENCE: &str = "rtspsrc";
/// In place of the name of a factory: `rtspsrc` of the shim.
const SHIM: &str = "shim";
const ELEMENT: &str = "DROP_IN_ELEMENT";
const PLUGIN_PATH: &str = "DROP_IN_PLUGIN_PATH";
/// Set for the process in which the element of another plugin path runs: where it writes what it observed.
const OUTPUT: &str = "DROP_IN_OUTPUT";

/// What the properties of `rtspsrc` are called, for a process that has another one.
const PROPERTIES: &str = "DROP_IN_PROPERTIES";

/// Behaviours in which our element differs on purpose: `docs/differences.md` has the reasons.
const DIFFERENCES: [&str; 4] = [
    "an_end_when_the_connection_is_cut",
    "an_error_for_protocols_without_tcp_at_a_tcp_server",
    "a_query_in_the_location_reads_back",
    "what_a_pause_returns",
];

pub(crate) type Behaviour = fn(&Stage);

/// Whether our element differs on purpose from the `rtspsrc` that is here.
fn is_meant(behaviour: &str) -> bool {
    let (major, minor, micro, _) = gst::version();
    let version = (major, minor, micro);
    // 1.22.11 and 1.24.1 return NO_PREROLL too.
    let pauses_like_ours = version >= (1, 24, 1) || (minor == 22 && version >= (1, 22, 11));
    let is_like_theirs = match behaviour {
        "what_a_pause_returns" => pauses_like_ours,
        // The shim is for programs that read it.
        "a_query_in_the_location_reads_back" => is_shim(),
        _ => false,
    };
    let is_ours = is_shim() || candidate() != REFERENCE;
    is_ours && DIFFERENCES.contains(&behaviour) && !is_like_theirs
}

/// Makes a test of each behaviour.
macro_rules! behaviours {
    ($($behaviour:ident)*) => {
        mod same {
            $(#[test]
            fn $behaviour() {
                crate::stage::compare(stringify!($behaviour), super::$behaviour);
            })*
        }
    };
}
pub(crate) use behaviours;

/// Runs a behaviour with both elements, and compares.
pub(crate) fn compare(behaviour: &str, run: Behaviour) {
    if let Ok(output) = std::env::var(OUTPUT) {
        init(false);
        let seen = observe(&candidate(), run);
        std::fs::write(output, text(&seen)).unwrap();
        return;
    }
    if std::env::var("DROP_IN_ALONE").is_ok() {
        return alone(run);
    }
    let (theirs, ours) = std::thread::scope(|scope| {
        let (path, test) = (plugin_path(), std::thread::current());
        let is_here = path.is_none();
        let ours = scope.spawn(move || match path {
            Some(path) => observe_elsewhere(&path, test.name().unwrap()),
            None => {
                init(true);
                observe(&candidate(), run)
            }
        });
        init(is_here);
        (observe(REFERENCE, run), ours.join().unwrap())
    });
    assert!(!theirs.is_empty(), "nothing was observed");
    let differences = differences(&theirs, &ours);
    if is_meant(behaviour) {
        assert!(!differences.is_empty(), "no longer differs: {behaviour}");
    } else {
        let shown = differences.concat();
        assert!(differences.is_empty(), "theirs (-) and ours (+):\n{shown}");
    }
}

/// Without `rtspsrc`, some versions of which provoke CRITICALs: none is allowed here, and no element may be
/// left.
fn alone(run: Behaviour) {
    init(true);
    glib::log_set_always_fatal(glib::LogLevels::LEVEL_CRITICAL);
    let tracers = gst::active_tracers().into_iter();
    let leaks = tracers.filter(|it| it.type_().name() == "GstLeaksTracer");
    let mut counts: Vec<_> = leaks.map(ElementCount::start).collect();
    let seen = observe(&candidate(), run);
    assert!(!seen.is_empty(), "nothing was observed");
    let deadline = std::time::Instant::now() + PATIENCE;
    for count in &mut counts {
        // A thread may hold an element a moment longer.
        while count.now() > 0 {
            let is_late = std::time::Instant::now() >= deadline;
            assert!(!is_late, "elements left: {}", count.count);
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// The elements of ours, as the leaks tracer counts them. Its list of objects cannot be used: who drops the list
/// drops references of which the tracer has taken none.
struct ElementCount {
    tracer: gst::Tracer,
    count: usize,
}

impl ElementCount {
    fn start(tracer: gst::Tracer) -> Self {
        tracer.emit_by_name::<()>("activity-start-tracking", &[]);
        Self { tracer, count: 0 }
    }

    fn now(&mut self) -> usize {
        let changes: gst::Structure = self.tracer.emit_by_name("activity-get-checkpoint", &[]);
        let count = |list: &str| {
            let objects = changes.get::<gst::List>(list).unwrap();
            let objects = objects
                .iter()
                .filter_map(|it| it.get::<gst::Structure>().ok());
            let names = objects.filter_map(|it| it.get::<String>("type-name").ok());
            names.filter(|it| it.contains("RtspMuxSrc")).count()
        };
        self.count = self.count + count("objects-created-list") - count("objects-removed-list");
        self.count
    }
}

fn is_shim() -> bool {
    std::env::var(ELEMENT).is_ok_and(|it| it == SHIM)
}

fn candidate() -> String {
    let named = std::env::var(ELEMENT).ok().filter(|_| !is_shim());
    named.unwrap_or_else(|| match plugin_path() {
        Some(_) => REFERENCE.to_owned(),
        None => "rtspmuxsrc".to_owned(),
    })
}

/// Where the element under test is looked for, if not in this process: that of a plugin of the same name.
fn plugin_path() -> Option<PathBuf> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let named = std::env::var_os(PLUGIN_PATH).map(PathBuf::from);
        named.or_else(|| is_shim().then(shim))
    });
    path.clone()
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A folder with the plugin file of this build under the name of the shim.
fn shim() -> PathBuf {
    let folder = scratch().join("drop_in_shim");
    std::fs::create_dir_all(&folder).unwrap();
    let program = std::env::current_exe().unwrap();
    let plugin = program.with_file_name("libgstrtspmux.so");
    // The process of another test may have made it.
    let _ = std::os::unix::fs::symlink(plugin, folder.join("libgstrtsp.so"));
    folder
}

fn init(with_ours: bool) {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        if with_ours {
            gstrtspmux::plugin_register_static().unwrap();
        }
    });
}

fn observe(element: &str, run: Behaviour) -> Vec<Seen> {
    let stage = Stage::new(element);
    let ran = catch_unwind(AssertUnwindSafe(|| run(&stage)));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()));
        let text = text.unwrap_or_default();
        stage.note("panic", stage.clean(&text));
        let is_reference = element == REFERENCE && std::env::var(OUTPUT).is_err();
        assert!(!is_reference, "{element}: {text}");
    }
    stage.seen.into_inner()
}

/// The names of the properties of `rtspsrc`.
pub(crate) fn properties() -> Vec<String> {
    if let Ok(names) = std::env::var(PROPERTIES) {
        return names.split(',').map(str::to_owned).collect();
    }
    let theirs = gst::ElementFactory::make(REFERENCE).build().unwrap();
    let specs = theirs.list_properties();
    specs.iter().map(|it| it.name().to_owned()).collect()
}

/// In a process with another plugin path.
fn observe_elsewhere(plugin_path: &Path, test: &str) -> Vec<Seen> {
    init(false);
    let output = scratch().join(format!("drop_in_{}_{test}", std::process::id()));
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(OUTPUT, &output)
        .env(PROPERTIES, properties().join(","))
        .env_remove(ELEMENT)
        .env(PLUGIN_PATH, plugin_path)
        .env("GST_PLUGIN_PATH", plugin_path)
        .env("GST_REGISTRY", scratch().join("drop_in_registry.bin"))
        .output()
        .unwrap();
    let seen = std::fs::read_to_string(&output);
    let _ = std::fs::remove_file(&output);
    let said = String::from_utf8_lossy(&ran.stderr);
    parse(&seen.unwrap_or_else(|_| panic!("{}: {said}", ran.status)))
}

/// One observation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    label: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Same(String),
    /// A figure, and how far the other may be from it.
    Near(f64, f64),
}

impl Seen {
    fn is_like(&self, other: &Self) -> bool {
        let is_like = match (&self.value, &other.value) {
            (Value::Near(one, within), Value::Near(two, _)) => (one - two).abs() <= *within,
            (one, two) => one == two,
        };
        is_like && self.label == other.label
    }
}

impl Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Value::Same(text) => write!(f, "{}: {text:?}", self.label),
            Value::Near(figure, within) => write!(f, "{}: {figure} (within {within})", self.label),
        }
    }
}

fn text(seen: &[Seen]) -> String {
    seen.iter().fold(String::new(), |mut text, it| {
        let (kind, value) = match &it.value {
            Value::Same(value) => ('=', value.replace('\\', "\\\\").replace('\n', "\\n")),
            Value::Near(figure, within) => ('~', format!("{figure} {within}")),
        };
        let _ = writeln!(text, "{kind}\t{}\t{value}", it.label);
        text
    })
}

fn parse(text: &str) -> Vec<Seen> {
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, '\t');
        let (kind, label, value) = (parts.next()?, parts.next()?, parts.next()?);
        let value = match kind {
            "~" => {
                let (figure, within) = value.split_once(' ')?;
                Value::Near(figure.parse().ok()?, within.parse().ok()?)
            }
            _ => Value::Same(value.replace("\\n", "\n").replace("\\\\", "\\")),
        };
        let label = label.to_owned();
        Some(Seen { label, value })
    });
    lines.collect()
}

/// What only one of them has, in the order of the labels of both.
fn differences(theirs: &[Seen], ours: &[Seen]) -> Vec<String> {
    if theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(one, two)| one.is_like(two)) {
        return Vec::new();
    }
    let only = |these: &[Seen], those: &[Seen], sign: char| -> Vec<String> {
        let alone = these.iter().filter(|it| {
            let same = |list: &[Seen]| list.iter().filter(|other| it.is_like(other)).count();
            same(those) != same(these)
        });
        alone.map(|it| format!("{sign} {it}\n")).collect()
    };
    let mut lines = only(theirs, ours, '-');
    lines.extend(only(ours, theirs, '+'));
    if lines.is_empty() {
        lines.extend(theirs.iter().map(|it| format!("- {it}\n")));
        lines.extend(ours.iter().map(|it| format!("+ {it}\n")));
    }
    lines
}

/// The element under test, and what is observed of it.
pub(crate) struct Stage {
    element: String,
    seen: RefCell<Vec<Seen>>,
    proxy: OnceLock<Proxy>,
}

impl Stage {
    fn new(element: &str) -> Self {
        Self {
            element: element.to_owned(),
            seen: RefCell::default(),
            proxy: OnceLock::new(),
        }
    }

    /// The name of its factory.
    pub(crate) fn name(&self) -> &str {
        &self.element
    }

    pub(crate) fn factory(&self) -> gst::ElementFactory {
        gst::ElementFactory::find(&self.element).unwrap()
    }

    /// As the factory makes it.
    pub(crate) fn bare(&self) -> gst::Element {
        self.factory().create().build().unwrap()
    }

    /// Plays over TCP.
    pub(crate) fn make(&self) -> gst::Element {
        let element = self.bare();
        element.set_property_from_str("protocols", "tcp");
        element
    }

    /// Ends with an error where `rtspsrc` does; our element would try again.
    pub(crate) fn final_in_failure(&self, element: &gst::Element) {
        if element.has_property("reconnect") {
            element.set_property("reconnect", false);
        }
    }

    /// Notes what has to be the same.
    pub(crate) fn note(&self, label: impl Display, value: impl Display) {
        self.push(label, Value::Same(value.to_string()));
    }

    /// Notes a figure from which the other's must not be further than this.
    pub(crate) fn near(&self, label: impl Display, figure: f64, within: f64) {
        self.push(label, Value::Near(figure, within));
    }

    fn push(&self, label: impl Display, value: Value) {
        let label = label.to_string();
        self.seen.borrow_mut().push(Seen { label, value });
    }

    /// The way of this stage to the server of all.
    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy
            .get_or_init(|| Proxy::before(MediaServer::of_all().port()))
    }

    /// Of a mount, through the proxy.
    pub(crate) fn url(&self, mount: &str) -> String {
        format!("rtsp://127.0.0.1:{}/{mount}", self.proxy().port())
    }

    /// Text without what differs by chance: ports, the numbers of elements, their names.
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(proxy) = self.proxy.get() {
            text = text.replace(&format!(":{}", proxy.port()), ":PORT");
        }
        let mut cleaned = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(&self.element) {
            cleaned.push_str(before);
            cleaned.push_str("SOURCE");
            rest = after.trim_start_matches(|it: char| it.is_ascii_digit());
        }
        cleaned + rest
    }

    /// A pipeline of this line, in which `SOURCE` is the element, playing over TCP.
    pub(crate) fn line(&self, line: &str) -> Show {
        let pipeline = gst::parse::launch(&line.replace("SOURCE", &self.element)).unwrap();
        Show::new(pipeline.downcast().unwrap())
    }

    /// A pipeline with the element alone; each pad that comes gets a sink.
    pub(crate) fn show(&self, mount: &str, properties: &[(&str, &str)]) -> Show {
        let source = self.make();
        source.set_property("location", self.url(mount));
        source.set_property("latency", 100u32);
        for (name, value) in properties {
            source.set_property_from_str(name, value);
        }
        Show::of(source)
    }

    /// The same, playing.
    pub(crate) fn play(&self, mount: &str, properties: &[(&str, &str)]) -> Show {
        let show = self.show(mount, properties);
        show.pipeline.set_state(gst::State::Playing).unwrap();
        show
    }
}

/// The number of a stream by the name of its pad: `recv_rtp_src_0_<ssrc>_<pt>` or `stream_0`.
pub(crate) fn stream_of(pad: &str) -> String {
    let number = pad
        .strip_prefix("recv_rtp_src_")
        .or_else(|| pad.strip_prefix("stream_"));
    match number.and_then(|it| it.split('_').next()) {
        Some(number) => format!("stream {number}"),
        None => pad.to_owned(),
    }
}

/// The name of a message's type.
pub(crate) fn kind(message: &gst::Message) -> &'static str {
    match message.type_() {
        gst::MessageType::Error => "error",
        gst::MessageType::Eos => "eos",
        gst::MessageType::Progress => "progress",
        gst::MessageType::Element => "element",
        gst::MessageType::Warning => "warning",
        _ => "another",
    }
}

/// What a pad let through.
#[derive(Clone, Default)]
pub(crate) struct Passed {
    pub(crate) stream: String,
    pub(crate) buffers: Vec<gst::Buffer>,
    pub(crate) events: Vec<gst::Event>,
}

#[derive(Default)]
struct Watched {
    pads: Mutex<Vec<Passed>>,
    changed: Condvar,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Vec<Passed>> {
        self.pads.lock().unwrap()
    }

    fn add(self: &Arc<Self>, pad: &gst::Pad) {
        let stream = stream_of(&pad.name());
        let mut pads = self.lock();
        let index = pads.len();
        let stream = Passed {
            stream,
            ..Passed::default()
        };
        pads.push(stream);
        drop(pads);
        let watched = Arc::clone(self);
        let wanted = gst::PadProbeType::BUFFER
            | gst::PadProbeType::EVENT_DOWNSTREAM
            | gst::PadProbeType::EVENT_FLUSH;
        pad.add_probe(wanted, move |_, info| {
            let mut pads = watched.lock();
            let passed = &mut pads[index];
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => passed.buffers.push(buffer.clone()),
                Some(gst::PadProbeData::Event(event)) => passed.events.push(event.clone()),
                _ => {}
            }
            watched.changed.notify_all();
            gst::PadProbeReturn::Ok
        });
    }
}

/// A pipeline; goes to NULL when it is dropped.
pub(crate) struct Show {
    pub(crate) pipeline: gst::Pipeline,
    watched: Arc<Watched>,
}

impl Show {
    pub(crate) fn new(pipeline: gst::Pipeline) -> Self {
        let watched = Arc::default();
        Self { pipeline, watched }
    }

    /// Each pad of the source gets a sink.
    pub(crate) fn of(source: gst::Element) -> Self {
        let show = Self::new(gst::Pipeline::new());
        let (bin, watched) = (show.pipeline.downgrade(), Arc::clone(&show.watched));
        source.connect_pad_added(move |_, pad| {
            let Some(bin) = bin.upgrade() else { return };
            watched.add(pad);
            let sink = gst::ElementFactory::make("fakesink")
                .property("sync", false)
                .property("async", false)
                .build()
                .unwrap();
            bin.add(&sink).unwrap();
            sink.sync_state_with_parent().unwrap();
            // Fails if the source has moved to another pipeline meanwhile.
            let _ = pad.link(&sink.static_pad("sink").unwrap());
        });
        show.pipeline.add(&source).unwrap();
        show
    }

    /// Of a pipeline made with [`Show::of`].
    pub(crate) fn source(&self) -> gst::Element {
        let mut elements = self.pipeline.iterate_sources().into_iter();
        elements.next().unwrap().unwrap()
    }

    pub(crate) fn element(&self, name: &str) -> gst::Element {
        self.pipeline.by_name(name).unwrap()
    }

    /// Watches the sink pad of the element with this name.
    pub(crate) fn watch(&self, name: &str) -> usize {
        let index = self.watched.lock().len();
        self.watched
            .add(&self.element(name).static_pad("sink").unwrap());
        index
    }

    pub(crate) fn playing(self) -> Self {
        self.pipeline.set_state(gst::State::Playing).unwrap();
        self
    }

    /// Waits until it is so, and returns what passed, in the order of the streams.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&[Passed]) -> bool) -> Vec<Passed> {
        let pads = self.watched.lock();
        let waited = self
            .watched
            .changed
            .wait_timeout_while(pads, PATIENCE, |pads| !is_so(pads));
        let pads = waited.unwrap().0;
        if !is_so(&pads) {
            let counts: Vec<_> = pads
                .iter()
                .map(|it| (it.stream.clone(), it.buffers.len()))
                .collect();
            drop(pads);
            panic!("no {what}: {counts:?}, {:?}", self.error());
        }
        let mut passed = pads.clone();
        passed.sort_by(|one, two| one.stream.cmp(&two.stream));
        passed
    }

    /// Waits for so many buffers on each of so many pads.
    pub(crate) fn buffers(&self, pads: usize, count: usize) -> Vec<Passed> {
        self.wait(&format!("{pads} pads with {count} buffers"), |passed| {
            passed.len() >= pads && passed.iter().all(|it| it.buffers.len() >= count)
        })
    }

    /// An error that has been posted.
    fn error(&self) -> Option<String> {
        let message = self
            .pipeline
            .bus()?
            .pop_filtered(&[gst::MessageType::Error]);
        Some(format!("{:?}", message?))
    }

    /// The first message of one of these types, or an error.
    pub(crate) fn message(&self, wanted: &[gst::MessageType]) -> gst::Message {
        let timeout = gst::ClockTime::try_from(PATIENCE).unwrap();
        let bus = self.pipeline.bus().unwrap();
        let message = bus.timed_pop_filtered(timeout, wanted);
        message.unwrap_or_else(|| panic!("no {wanted:?}"))
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
