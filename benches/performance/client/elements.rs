//! A pipeline of many `ELEMENT ! rtph264depay ! fakesink`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstreamer as gst;

use super::{Task, allocations::allocations, usage};
use crate::{Outcome, arguments::Arguments, clock::Latencies, contender::OURS};

/// For all first pictures.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(50);

/// What has come out of the depayloaders.
#[derive(Default)]
struct Meter {
    bytes: AtomicU64,
    units: AtomicU64,
    /// Of the packets that leave the sources, where their times are those at which they were sent.
    latencies: Option<Latencies>,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    gst::init()?;
    gstrtspmux::plugin_register_static()?;
    let task = Task::new(arguments)?;
    let element: String = arguments.value("element")?;
    let is_stamped = task.pace == "stamped";
    let meter = Arc::new(Meter {
        latencies: is_stamped.then(Latencies::default),
        ..Meter::default()
    });
    let (first, firsts) = channel();
    let pipeline = gst::Pipeline::new();
    let sources = (0..task.streams)
        .map(|stream| {
            let source = gst::ElementFactory::make(&element).build()?;
            source.set_property("location", task.url(stream));
            for (name, value) in arguments.under("set.") {
                if source.find_property(name).is_none() {
                    return Err(format!("{element} has no property {name}").into());
                }
                source.set_property_from_str(name, value);
            }
            add(&pipeline, &source, &meter, first.clone())?;
            Ok(source)
        })
        .collect::<Outcome<Vec<_>>>()?;
    drop(first);

    let started = Instant::now();
    pipeline.set_state(gst::State::Playing)?;
    wait_for_all(&pipeline, &firsts, task.streams)?;
    println!("start={}", started.elapsed().as_secs_f64() * 1e3);
    watch(&pipeline, task.warm_up)?;
    // Of an element in C there are none to be seen.
    let allocations = (element == OURS).then_some(allocations as fn() -> u64);
    look(&pipeline, &task, &meter, allocations)?;
    report_drops(&sources);

    let stopping = Instant::now();
    pipeline.set_state(gst::State::Null)?;
    println!("stop={}", stopping.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// CPU and media of the window, threads and memory at its end.
fn look(
    pipeline: &gst::Pipeline,
    task: &Task,
    meter: &Meter,
    allocations: Option<fn() -> u64>,
) -> Outcome {
    let (before, cpu) = (Instant::now(), usage::cpu_time());
    let bytes = meter.bytes.load(Ordering::Relaxed);
    let units = meter.units.load(Ordering::Relaxed);
    let allocated = allocations.map(|count| count());
    let waits = usage::Waits::now();
    meter.latencies.iter().for_each(Latencies::clear);
    watch(pipeline, task.window)?;
    let cpu = (usage::cpu_time() - cpu).as_secs_f64();
    let seconds = before.elapsed().as_secs_f64();
    let waited = usage::Waits::now().since(&waits);
    println!("waits={}", waited as f64 / seconds);
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let latencies = meter.latencies.as_ref();
        if let Some(latency) = latencies.and_then(|latencies| latencies.quantile(share)) {
            println!("latency-{name}={latency}");
        }
    }
    let gbits = (meter.bytes.load(Ordering::Relaxed) - bytes) as f64 * 8e-9;
    println!("cpu={}", 100.0 * cpu / seconds);
    println!("gbits-per-second={}", gbits / seconds);
    println!("cpu-per-gbit={}", cpu / gbits);
    let units = meter.units.load(Ordering::Relaxed) - units;
    println!("pictures-per-second={}", units as f64 / seconds);
    if let (Some(before), Some(count)) = (allocated, allocations) {
        println!("allocations={}", (count() - before) as f64 / units as f64);
    }
    let (threads, memory) = usage::threads_and_memory("self");
    println!("threads={threads}\nmemory={memory}");
    Ok(())
}

fn add(
    pipeline: &gst::Pipeline,
    source: &gst::Element,
    meter: &Arc<Meter>,
    first: Sender<()>,
) -> Outcome {
    let depay = gst::ElementFactory::make("rtph264depay").build()?;
    let sink = gst::ElementFactory::make("fakesink").build()?;
    pipeline.add_many([source, &depay, &sink])?;
    depay.link(&sink)?;
    let input = depay.static_pad("sink").ok_or("no sink pad")?;
    let of_source = Arc::clone(meter);
    source.connect_pad_added(move |source, pad| {
        if of_source.latencies.is_some() {
            watch_latency(pad, Arc::clone(&of_source));
        }
        if let Err(error) = pad.link(&input) {
            gst::element_error!(source, gst::StreamError::Failed, ["{error}"]);
        }
    });
    let output = depay.static_pad("src").ok_or("no source pad")?;
    let meter = Arc::clone(meter);
    let is_first = AtomicBool::new(true);
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    output.add_probe(mask, move |_, info| {
        let (units, bytes) = match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => (1, buffer.size()),
            Some(gst::PadProbeData::BufferList(list)) => {
                (list.len(), list.iter().map(gst::BufferRef::size).sum())
            }
            _ => (0, 0),
        };
        meter.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        meter.units.fetch_add(units as u64, Ordering::Relaxed);
        if is_first.swap(false, Ordering::Relaxed) {
            // The other side does not wait any more if that took too long.
            let _ = first.send(());
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn watch_latency(pad: &gst::Pad, meter: Arc<Meter>) {
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(mask, move |_, info| {
        if let Some(latencies) = &meter.latencies {
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => latencies.on_buffer(buffer),
                Some(gst::PadProbeData::BufferList(list)) => {
                    list.iter().for_each(|buffer| latencies.on_buffer(buffer));
                }
                _ => {}
            }
        }
        gst::PadProbeReturn::Ok
    });
}

fn wait_for_all(pipeline: &gst::Pipeline, firsts: &Receiver<()>, streams: usize) -> Outcome {
    let end = Instant::now() + PATIENCE;
    let mut seen = 0;
    while seen < streams {
        match firsts.recv_timeout(TICK) {
            Ok(()) => seen += 1,
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => {
                watch(pipeline, Duration::ZERO)?;
            }
            Err(_) => return Err(format!("{seen} of {streams} streams after {PATIENCE:?}").into()),
        }
    }
    Ok(())
}

/// Takes what is on the bus, for so long.
fn watch(pipeline: &gst::Pipeline, time: Duration) -> Outcome {
    let bus = pipeline.bus().ok_or("no bus")?;
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let message = bus.timed_pop(gst::ClockTime::try_from(left)?);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => return Err(error.error().to_string().into()),
            Some(_) => {}
            None if Instant::now() >= end => return Ok(()),
            None => {}
        }
    }
}

/// Packets dropped of all, where the element says so.
fn report_drops(sources: &[gst::Element]) {
    let (mut packets, mut drops) = (0, 0);
    for source in sources {
        if source.find_property("stats").is_none() {
            return;
        }
        let stats: gst::Structure = source.property("stats");
        let streams = stats.get::<gst::Array>("streams");
        for stream in streams.iter().flat_map(|streams| streams.iter()) {
            if let Ok(stream) = stream.get::<gst::Structure>() {
                packets += stream.get::<u64>("packets").unwrap_or(0);
                drops += stream.get::<u64>("drops").unwrap_or(0);
            }
        }
    }
    println!("dropped={}", 100.0 * drops as f64 / packets.max(1) as f64);
}
