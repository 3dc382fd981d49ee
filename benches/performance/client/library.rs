//! The multiplexer without GStreamer: all streams on one connection, one thread for everything.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use gstrtspmux::mux::{Mux, Opening, SessionOptions};
use tokio::{
    runtime::{Builder, Handle},
    task::LocalSet,
    time::sleep,
};

use super::{Task, allocations::allocations, usage};
use crate::{Outcome, arguments::Arguments};

/// What was taken so far.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    bytes: u64,
    packets: u64,
    /// At once: for each of them the consumer was woken.
    batches: u64,
}

type Meter = Rc<Cell<Taken>>;

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let task = Task::new(arguments)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, play(&task))
}

async fn play(task: &Task) -> Outcome {
    let mux = Mux::builder().runtime(Handle::current()).build();
    let options = (0..task.streams)
        .map(|stream| {
            let mut options = SessionOptions::new(&task.url(stream))?;
            options.pooling.max_connections_per_server = 1;
            options.pooling.max_sessions_per_connection = 128;
            Ok(options)
        })
        .collect::<Outcome<Vec<_>>>()?;
    let meter = Meter::default();
    let openings = mux.open_many(options);
    let monitors: Vec<_> = openings.iter().map(Opening::monitor).collect();
    let sessions: Vec<_> = openings
        .into_iter()
        .map(|opening| tokio::task::spawn_local(take(opening, Rc::clone(&meter))))
        .collect();
    sleep(task.warm_up).await;
    report(task.window, &meter).await;
    if let Some(ended) = sessions
        .iter()
        .position(tokio::task::JoinHandle::is_finished)
    {
        return Err(format!("session {ended} has ended").into());
    }
    let (mut packets, mut drops) = (0, 0);
    for stream in monitors.iter().flat_map(|monitor| monitor.stats().streams) {
        packets += stream.count.packets;
        drops += stream.count.dropped;
    }
    println!("dropped={}", 100.0 * drops as f64 / packets.max(1) as f64);
    sessions.iter().for_each(tokio::task::JoinHandle::abort);
    mux.shutdown(Duration::from_secs(3)).await;
    Ok(())
}

/// Plays one session, and takes what comes.
async fn take(opening: Opening, meter: Meter) -> Result<(), gstrtspmux::mux::Error> {
    let mut session = opening.describe().await?.setup_all().await?.play().await?;
    let mut batch = Vec::new();
    while session.next_batch(&mut batch).await {
        let bytes: u64 = batch.iter().map(|packet| packet.payload.len() as u64).sum();
        let before = meter.get();
        meter.set(Taken {
            bytes: before.bytes + bytes,
            packets: before.packets + batch.len() as u64,
            batches: before.batches + 1,
        });
        batch.clear();
    }
    Ok(())
}

async fn report(window: Duration, meter: &Meter) {
    let (before, cpu, taken) = (Instant::now(), usage::cpu_time(), meter.get());
    let allocated = allocations();
    sleep(window).await;
    let cpu = (usage::cpu_time() - cpu).as_secs_f64();
    let seconds = before.elapsed().as_secs_f64();
    let now = meter.get();
    let packets = now.packets - taken.packets;
    print(seconds, cpu, now.bytes - taken.bytes, packets);
    print_allocations(allocated, packets);
    let batches = now.batches - taken.batches;
    println!("packets-per-batch={}", packets as f64 / batches as f64);
}

/// Since there were so many.
pub(super) fn print_allocations(before: u64, packets: u64) {
    let allocations = 1e3 * (allocations() - before) as f64;
    println!("allocations={}", allocations / packets as f64);
}

/// The same lines for this client and the bare one.
pub(super) fn print(seconds: f64, cpu: f64, bytes: u64, packets: u64) {
    let gbits = bytes as f64 * 8e-9;
    println!("cpu={}", 100.0 * cpu / seconds);
    println!("gbits-per-second={}", gbits / seconds);
    println!("cpu-per-gbit={}", cpu / gbits);
    println!("packets-per-cpu-second={}", packets as f64 / cpu);
    let (threads, memory) = usage::threads_and_memory("self");
    println!("threads={threads}\nmemory={memory}");
}
