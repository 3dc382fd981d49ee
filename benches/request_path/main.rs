//! What the protocol core needs for the requests of a session: to write them, to find their
//! answers, to read these. `cargo bench --bench request_path` prints the time of one session and
//! requests per second.

mod dialogue;

use std::time::Instant;

use criterion::{Criterion, Throughput};
use dialogue::{Dialogue, REQUESTS};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("request_path");
    group.throughput(Throughput::Elements(REQUESTS));
    let mut dialogue = Dialogue::new(Instant::now());
    group.bench_function("session", |bencher| {
        bencher.iter(|| dialogue.live_one_session());
    });
    group.finish();
    criterion.final_summary();
}
