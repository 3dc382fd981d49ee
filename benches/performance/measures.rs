//! The measures that compare.

use std::path::Path;

use crate::{
    Outcome,
    contender::{Contender, OURS, RTSPSRC},
    document::{Section, number},
    plot,
    run::{Bench, Load},
    samples::Samples,
};

/// The head of a column, and the name of the value in it.
type Column = (&'static str, &'static str);

/// Ratios for the plot: what was measured, and who got which.
type Groups = Vec<(String, Vec<(String, f64)>)>;

/// Everything against `rtspsrc`.
pub(crate) fn compare(bench: &Bench) -> Outcome<Section> {
    let mut section = Section::new("compare");
    section.paragraph(&format!(
        "Taken on: {}. {} interleaved runs each, twice as many of start and stop. In brackets: the \
         ratio to `rtspsrc`, median of the rounds.",
        bench.machine(),
        bench.runs()
    ));
    let elements = Contender::elements();
    let mut groups = Groups::new();
    unthrottled(bench, &elements, &mut section, &mut groups)?;
    paced(bench, &elements, &mut section, &mut groups)?;
    for streams in [16, 64] {
        start_and_stop(bench, &elements, streams, &mut section, &mut groups)?;
    }
    let plot = plot::bars("Ratio to rtspsrc, less is better", &groups);
    section.plot("ratios.svg", "Ratios to rtspsrc", plot);
    Ok(section)
}

fn unthrottled(
    bench: &Bench,
    elements: &[Contender],
    section: &mut Section,
    groups: &mut Groups,
) -> Outcome {
    let samples = bench.rounds(elements, Load::unthrottled(64), bench.runs())?;
    section.paragraph("**64 streams, unthrottled: the server sends as fast as it is read**");
    let columns = [
        ("CPU s/Gbit", "cpu-per-gbit"),
        ("Gbit/s", "gbits-per-second"),
        ("dropped, % of packets", "dropped"),
        ("connections", "connections"),
        ("threads", "threads"),
        ("resident MB", "memory"),
    ];
    table(RTSPSRC, section, elements, &samples, &columns);
    groups.push(group(
        "CPU per Gbit, unthrottled",
        elements,
        &samples,
        "cpu-per-gbit",
    ));
    Ok(())
}

fn paced(
    bench: &Bench,
    elements: &[Contender],
    section: &mut Section,
    groups: &mut Groups,
) -> Outcome {
    let mut all = elements.to_vec();
    all.extend(Contender::ffmpeg());
    let samples = bench.rounds(&all, Load::paced(64, 4000), bench.runs())?;
    section.paragraph("**64 streams of 4 Mbit/s**");
    let columns = [
        ("CPU, % of a core", "cpu"),
        ("threads", "threads"),
        ("resident MB", "memory"),
        ("connections", "connections"),
        ("requests", "requests"),
        ("allocations per picture, but for C", "allocations"),
    ];
    table(RTSPSRC, section, &all, &samples, &columns);
    for (title, name) in [
        ("CPU, 64 x 4 Mbit/s", "cpu"),
        ("threads", "threads"),
        ("resident memory", "memory"),
    ] {
        groups.push(group(title, elements, &samples, name));
    }
    Ok(())
}

/// Cheap, and noisier than the rest: so there are twice as many runs.
fn start_and_stop(
    bench: &Bench,
    elements: &[Contender],
    streams: usize,
    section: &mut Section,
    groups: &mut Groups,
) -> Outcome {
    let samples = bench.rounds(elements, Load::start(streams), 2 * bench.runs())?;
    section.paragraph(&format!(
        "**{streams} streams of 500 kbit/s, start and stop on loopback**"
    ));
    let columns = [
        ("all first pictures, ms", "start"),
        ("stopped, ms", "stop"),
        ("connections", "connections"),
    ];
    table(RTSPSRC, section, elements, &samples, &columns);
    groups.push(group(
        &format!("start of {streams}"),
        elements,
        &samples,
        "start",
    ));
    groups.push(group(
        &format!("stop of {streams}"),
        elements,
        &samples,
        "stop",
    ));
    Ok(())
}

/// This build of the element against another one, in the same rounds.
pub(crate) fn builds(bench: &Bench, base: &Path) -> Outcome<Section> {
    const BASE: &str = "the other build";
    let ours = Contender::element(OURS, OURS, &[]);
    let contenders = [
        Contender::element(RTSPSRC, RTSPSRC, &[]),
        ours.clone().built_as(BASE, base),
        ours,
    ];
    let mut section = Section::new("builds");
    section.paragraph(&format!(
        "Taken on: {}. In brackets: the ratio to {BASE}, median of the rounds.",
        bench.machine()
    ));
    let rates = [("CPU s/Gbit", "cpu-per-gbit"), ("resident MB", "memory")];
    let shares = [
        ("CPU, % of a core", "cpu"),
        ("threads", "threads"),
        ("resident MB", "memory"),
        ("requests", "requests"),
        ("allocations per picture, but for C", "allocations"),
    ];
    let starts = [
        ("all first pictures, ms", "start"),
        ("stopped, ms", "stop"),
        ("connections", "connections"),
    ];
    let mut measure = |title: &str, load, runs, columns: &[Column]| -> Outcome {
        let samples = bench.rounds(&contenders, load, runs)?;
        section.paragraph(&format!("**{title}, {runs} rounds**"));
        table(BASE, &mut section, &contenders, &samples, columns);
        Ok(())
    };
    let runs = bench.runs();
    measure(
        "64 streams, unthrottled",
        Load::unthrottled(64),
        runs,
        &rates,
    )?;
    measure(
        "64 streams of 4 Mbit/s",
        Load::paced(64, 4000),
        runs,
        &shares,
    )?;
    for streams in [1, 4, 16, 64] {
        let title = format!("start and stop, streams of 500 kbit/s: {streams}");
        measure(&title, Load::start(streams), 4 * runs, &starts)?;
    }
    Ok(section)
}

/// From the server's send to the pad, and what waking up costs, by the number of cameras.
pub(crate) fn latency(bench: &Bench) -> Outcome<Section> {
    let mut elements = vec![Contender::element(RTSPSRC, RTSPSRC, &[])];
    elements.extend(Contender::ours());
    let mut section = Section::new("latency");
    section.paragraph(&format!(
        "Taken on: {}. {} interleaved runs each. In brackets: the ratio to `rtspsrc`, median of the rounds.",
        bench.machine(),
        bench.runs()
    ));
    let columns = [
        ("p50, ms", "latency-p50"),
        ("p99, ms", "latency-p99"),
        ("p99.9, ms", "latency-p99.9"),
        ("wake-ups a second", "waits"),
        ("CPU, % of a core", "cpu"),
        ("threads", "threads"),
        ("resident MB", "memory"),
    ];
    for cameras in [1, 4, 16, 64, 256] {
        let samples = bench.rounds(&elements, Load::stamped(cameras, 2000), bench.runs())?;
        section.paragraph(&format!("**Cameras of 2 Mbit/s: {cameras}**"));
        table(RTSPSRC, &mut section, &elements, &samples, &columns);
    }
    Ok(section)
}

/// The library alone against a loop that reads and slices.
pub(crate) fn core(bench: &Bench) -> Outcome<Section> {
    const BARE: &str = "reading and slicing";
    let mut contenders = vec![
        Contender::bare(BARE, "role:bare"),
        Contender::bare("library", "role:library"),
    ];
    contenders.extend(Contender::retina());
    let mut section = Section::new("core");
    section.paragraph(&format!(
        "Taken on: {}. {} interleaved runs of 64 streams, on one connection if nothing else is said. In brackets: the ratio to \
         the loop that reads and slices.",
        bench.machine(),
        bench.runs()
    ));
    let columns = [
        ("CPU s/Gbit", "cpu-per-gbit"),
        ("Gbit/s", "gbits-per-second"),
        ("packets per CPU second", "packets-per-cpu-second"),
        ("packets taken at once", "packets-per-batch"),
        ("allocations per 1000 packets", "allocations"),
        ("dropped, % of packets", "dropped"),
        ("threads", "threads"),
        ("resident MB", "memory"),
    ];
    for (title, load) in [
        (
            "**64 streams of 16 Mbit/s, 1 Gbit/s in all**",
            Load::paced(64, 16_000),
        ),
        ("**Unthrottled**", Load::unthrottled(64)),
    ] {
        let samples = bench.rounds(&contenders, load, bench.runs())?;
        section.paragraph(title);
        table(BARE, &mut section, &contenders, &samples, &columns);
    }
    Ok(section)
}

fn table(
    baseline: &str,
    section: &mut Section,
    contenders: &[Contender],
    samples: &Samples,
    columns: &[Column],
) {
    let mut head = vec![""];
    head.extend(columns.iter().map(|column| column.0));
    let rows: Vec<Vec<String>> = contenders
        .iter()
        .map(|contender| {
            let cells = columns
                .iter()
                .map(|column| cell(samples, &contender.name, baseline, column.1));
            std::iter::once(contender.name.clone())
                .chain(cells)
                .collect()
        })
        .collect();
    section.table(&head, &rows);
    for (contender, errors) in samples.failures() {
        section.paragraph(&format!(
            "Runs of {contender} that failed: {} (the last: {}).",
            errors.len(),
            errors[errors.len() - 1]
        ));
    }
}

/// The median, and the ratio where that says something.
fn cell(samples: &Samples, contender: &str, baseline: &str, name: &str) -> String {
    let Some(median) = samples.median(contender, name) else {
        return "-".to_owned();
    };
    match samples.ratio(contender, baseline, name) {
        Some(ratio) if contender != baseline => format!("{} ({ratio:.2})", number(median)),
        _ => number(median),
    }
}

/// The bars of everybody but `rtspsrc`.
fn group(
    title: &str,
    contenders: &[Contender],
    samples: &Samples,
    name: &str,
) -> (String, Vec<(String, f64)>) {
    let bars = contenders
        .iter()
        .filter(|contender| contender.name != RTSPSRC)
        .filter_map(|contender| {
            let ratio = samples.ratio(&contender.name, RTSPSRC, name)?;
            Some((contender.name.clone(), ratio))
        });
    (title.to_owned(), bars.collect())
}
