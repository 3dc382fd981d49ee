//! How cost grows with streams, bits and connections: points, a model through them, and what it says
//! about machines.

mod model;

use crate::{
    Outcome,
    contender::{Contender, OURS},
    document::{Section, number},
    plot::{self, Line},
    run::{Bench, Load},
};
use model::Model;

/// A load at which is looked.
#[derive(Clone, Copy)]
struct Place {
    streams: usize,
    servers: usize,
    kbits: u32,
    /// `max-sessions-per-connection`.
    sessions: usize,
}

/// What was seen there.
struct Point {
    place: Place,
    connections: f64,
    cpu: f64,
    memory: f64,
    threads: f64,
    start: f64,
}

impl Point {
    fn mbits(&self) -> f64 {
        self.place.streams as f64 * f64::from(self.place.kbits) / 1000.0
    }

    fn loads(&self) -> [f64; 4] {
        [
            1.0,
            self.place.streams as f64,
            self.mbits(),
            self.connections,
        ]
    }
}

/// Beyond it a core has queues, and cost is not what it is below.
const FULL: f64 = 80.0;
/// Of what a machine has, for peaks.
const USED: f64 = 0.7;

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let mut section = Section::new("scale");
    // There are many points, and the model goes through all of them.
    let runs = if bench.is_quick() { 1 } else { 2 };
    section.paragraph(&format!(
        "Taken on: {}. `{OURS}` in its default settings but for the number of sessions on a connection; \
         means of {runs} runs.",
        bench.machine()
    ));
    let points = look(bench, &places(bench.is_quick()), runs, &mut section)?;
    let shown: Vec<Vec<String>> = {
        let model = Model::fit(&below_full(&points, |point| point.cpu));
        points
            .iter()
            .map(|point| row(point, model.at(point.loads())))
            .collect()
    };
    section.table(
        &[
            "streams",
            "servers",
            "connections",
            "Mbit/s each",
            "CPU, % of a core",
            "by the model",
            "resident MB",
            "threads",
            "all first pictures, ms",
        ],
        &shown,
    );
    plots(&mut section, &points);
    conclude(&mut section, &points);
    Ok(section)
}

fn places(is_quick: bool) -> Vec<Place> {
    let one = |streams, kbits| Place {
        streams,
        servers: 1,
        kbits,
        sessions: 128,
    };
    if is_quick {
        return vec![
            one(1, 1000),
            one(8, 1000),
            one(64, 1000),
            one(32, 4000),
            Place {
                sessions: 16,
                ..one(64, 1000)
            },
        ];
    }
    let mut places: Vec<Place> = [1, 2, 4, 8, 16, 32, 64, 96, 120, 128]
        .map(|streams| one(streams, 1000))
        .to_vec();
    places.extend([
        one(64, 250),
        one(64, 4000),
        one(16, 4000),
        one(16, 250),
        one(120, 4000),
    ]);
    places.extend([16, 4, 1].map(|sessions| Place {
        sessions,
        ..one(64, 1000)
    }));
    places.push(Place {
        streams: 400,
        servers: 200,
        kbits: 250,
        sessions: 16,
    });
    places.push(Place {
        streams: 400,
        servers: 25,
        kbits: 250,
        sessions: 16,
    });
    places
}

fn look(
    bench: &Bench,
    places: &[Place],
    runs: usize,
    section: &mut Section,
) -> Outcome<Vec<Point>> {
    let mut points = Vec::new();
    for &place in places {
        let sessions = place.sessions.to_string();
        let connections = place
            .streams
            .div_ceil(place.sessions * place.servers)
            .to_string();
        let contender = Contender::element(
            OURS,
            OURS,
            &[
                ("max-sessions-per-connection", &sessions),
                ("max-connections-per-server", &connections),
            ],
        );
        let load = Load {
            servers: place.servers,
            ..Load::paced(place.streams, place.kbits)
        };
        let samples = bench.rounds(&[contender], load, runs)?;
        for (_, errors) in samples.failures() {
            section.paragraph(&format!(
                "{} streams of {} kbit/s, {} a connection: {} of {runs} runs failed (the last: {}).",
                place.streams, place.kbits, place.sessions, errors.len(), errors[errors.len() - 1]
            ));
        }
        let value = |name| samples.median(OURS, name);
        let seen = (|| {
            Some(Point {
                place,
                connections: value("connections")?,
                cpu: value("cpu")?,
                memory: value("memory")?,
                threads: value("threads")?,
                start: value("start")?,
            })
        })();
        points.extend(seen);
    }
    Ok(points)
}

fn row(point: &Point, model: f64) -> Vec<String> {
    vec![
        point.place.streams.to_string(),
        point.place.servers.to_string(),
        number(point.connections),
        number(f64::from(point.place.kbits) / 1000.0),
        number(point.cpu),
        number(model),
        number(point.memory),
        number(point.threads),
        number(point.start),
    ]
}

fn below_full(points: &[Point], value: fn(&Point) -> f64) -> Vec<([f64; 4], f64)> {
    points
        .iter()
        .filter(|point| point.cpu < FULL)
        .map(|point| (point.loads(), value(point)))
        .collect()
}

/// One connection, 1 Mbit/s each, over the number of sessions.
fn plots(section: &mut Section, points: &[Point]) {
    let line = |name: &str, value: &dyn Fn(&Point) -> f64| Line {
        name: name.to_owned(),
        points: points
            .iter()
            .filter(|point| point.place.sessions == 128 && point.place.kbits == 1000)
            .map(|point| (point.place.streams as f64, value(point)))
            .collect(),
    };
    let title = "One connection, 1 Mbit/s a session";
    let per_stream = line("CPU of a session, in 1/1000 of a core", &|point| {
        10.0 * point.cpu / point.place.streams as f64
    });
    let whole = line("CPU of all, % of a core", &|point| point.cpu);
    section.plot(
        "scale-cpu.svg",
        "CPU over the number of sessions",
        plot::lines(title, "sessions", "", &[whole, per_stream]),
    );
    let memory = line("resident MB", &|point| point.memory);
    let start = line("all first pictures, ms", &|point| point.start);
    section.plot(
        "scale-memory.svg",
        "Memory and start over the number of sessions",
        plot::lines(title, "sessions", "", &[memory, start]),
    );
}

/// The model, and what it says of machines.
fn conclude(section: &mut Section, points: &[Point]) {
    let cpu = Model::fit(&below_full(points, |point| point.cpu));
    let memory = Model::fit(&below_full(points, |point| point.memory));
    let error = points
        .iter()
        .filter(|point| point.cpu < FULL)
        .map(|point| (cpu.at(point.loads()) / point.cpu - 1.0).abs())
        .fold(0.0, f64::max);
    let [base, stream, mbit, connection] = cpu.factors;
    section.paragraph(&format!(
        "**The model**: CPU in % of a core = {} + {} x streams + {} x Mbit/s + {} x connections; at its worst it is \
         {:.0} % off a point of the table.",
        number(base), number(stream), number(mbit), number(connection), 100.0 * error
    ));
    let [base, stream_mb, mbit_mb, connection_mb] = memory.factors;
    section.paragraph(&format!(
        "Resident MB = {} + {} x streams + {} x Mbit/s + {} x connections.",
        number(base),
        number(stream_mb),
        number(mbit_mb),
        number(connection_mb)
    ));
    section.paragraph(&knees(points));
    section.paragraph(&format!(
        "**Carried by cores of this kind, extrapolated** from the model at {:.0} % of the cores, 16 sessions a connection, \
         nothing downstream but the depayloader. More cores than two were not measured; what limits them \
         otherwise is said below.",
        100.0 * USED
    ));
    let rows: Vec<Vec<String>> = [0.5, 1.0, 2.0, 4.0, 8.0]
        .into_iter()
        .map(|rate| {
            let each = stream + mbit * rate + connection / 16.0;
            let cameras = |cores: f64| (cores * 100.0 * USED / each).floor();
            vec![
                number(rate),
                number(cameras(1.0)),
                number(cameras(2.0)),
                number(cameras(16.0)),
                number(cameras(16.0) * rate / 1000.0),
                number(
                    (base + cameras(16.0) * (stream_mb + mbit_mb * rate + connection_mb / 16.0))
                        / 1000.0,
                ),
            ]
        })
        .collect();
    section.table(
        &[
            "Mbit/s a camera",
            "cameras, 1 core",
            "2 cores",
            "16 cores",
            "Gbit/s of 16 cores",
            "GB of 16 cores",
        ],
        &rows,
    );
}

/// Where doubling the sessions of one connection costs more than twice, or brings nothing.
fn knees(points: &[Point]) -> String {
    let line: Vec<&Point> = points
        .iter()
        .filter(|point| point.place.sessions == 128 && point.place.kbits == 1000)
        .collect();
    let each = |point: &Point| point.cpu / point.place.streams as f64;
    let Some(cheapest) = line.iter().min_by(|a, b| each(a).total_cmp(&each(b))) else {
        return String::new();
    };
    let dearer = line
        .iter()
        .filter(|point| point.place.streams > cheapest.place.streams)
        .find(|point| each(point) > 1.2 * each(cheapest));
    let knee = match dearer {
        Some(point) => format!(
            "from {} on it is dearer by a fifth and more",
            point.place.streams
        ),
        None => "up to the most that were measured it is not dearer by a fifth".to_owned(),
    };
    format!(
        "**Knees**: a session of 1 Mbit/s is cheapest at {} on the connection ({} % of a core); {knee}.",
        cheapest.place.streams,
        number(each(cheapest))
    )
}
