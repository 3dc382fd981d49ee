//! retina (<https://github.com/scottlamb/retina>) as a client of `./bench core`: all streams on one
//! thread, each on a connection of its own, as retina has it. Takes packets as they come, and says
//! what the bench's other clients say.

#[path = "../../performance/arguments.rs"]
#[allow(dead_code, reason = "this client needs a part of it")]
mod arguments;
#[path = "../../performance/client/usage.rs"]
#[allow(dead_code, reason = "this client needs a part of it")]
mod usage;

use std::{
    cell::Cell,
    error::Error,
    rc::Rc,
    time::{Duration, Instant},
};

use arguments::Arguments;
use futures::StreamExt as _;
use retina::client::{
    PacketItem, PlayOptions, Session, SessionOptions, SetupOptions, TcpTransportOptions, Transport,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::{runtime::Builder, task::LocalSet, time::sleep};
use url::Url;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Octets and packets taken so far.
type Meter = Rc<Cell<(u64, u64)>>;

fn main() -> Outcome {
    // The first word is the role, of which there is one here.
    let arguments = Arguments::parse(std::env::args().skip(2))?;
    if let Some(cpu) = arguments.optional("cpu")? {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set)?;
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, play(&arguments))
}

async fn play(arguments: &Arguments) -> Outcome {
    let (port, pace): (u16, String) = (arguments.value("port")?, arguments.value("pace")?);
    let warm_up = Duration::from_millis(arguments.value("warm-up")?);
    let window = Duration::from_millis(arguments.value("window")?);
    let meter = Meter::default();
    let mut sessions = Vec::new();
    for stream in 0..arguments.value("streams")? {
        let url = Url::parse(&format!("rtsp://127.0.0.1:{port}/{pace}/{stream}"))?;
        sessions.push(tokio::task::spawn_local(take(url, Rc::clone(&meter))));
    }
    sleep(warm_up).await;
    let (before, cpu, (bytes, packets)) = (Instant::now(), usage::cpu_time(), meter.get());
    sleep(window).await;
    let cpu = (usage::cpu_time() - cpu).as_secs_f64();
    let seconds = before.elapsed().as_secs_f64();
    if sessions.iter().any(tokio::task::JoinHandle::is_finished) {
        return Err("a session has ended".into());
    }
    let (bytes_now, packets_now) = meter.get();
    let gbits = (bytes_now - bytes) as f64 * 8e-9;
    println!("cpu={}", 100.0 * cpu / seconds);
    println!("gbits-per-second={}", gbits / seconds);
    println!("cpu-per-gbit={}", cpu / gbits);
    println!(
        "packets-per-cpu-second={}",
        (packets_now - packets) as f64 / cpu
    );
    let (threads, memory) = usage::threads_and_memory("self");
    println!("threads={threads}\nmemory={memory}");
    // Without the TEARDOWNs of so many connections, which are not measured.
    std::process::exit(0);
}

/// Plays one stream, and takes what comes.
async fn take(url: Url, meter: Meter) -> Result<(), retina::Error> {
    let mut session = Session::describe(url, SessionOptions::default()).await?;
    let tcp = Transport::Tcp(TcpTransportOptions::default());
    let options = SetupOptions::default().transport(tcp);
    session.setup(0, options).await?;
    let mut session = session.play(PlayOptions::default()).await?;
    while let Some(item) = session.next().await {
        if let PacketItem::Rtp(packet) = item? {
            let (bytes, packets) = meter.get();
            meter.set((bytes + packet.raw().len() as u64, packets + 1));
        }
    }
    Ok(())
}
