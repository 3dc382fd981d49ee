//! FFmpeg, a process for each stream, as recorders run it. It copies into nothing.

use std::{
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Task, usage};
use crate::{Outcome, arguments::Arguments};

/// Ends with us, whatever happens.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let task = Task::new(arguments)?;
    let kbits: f64 = arguments.value("kbits")?;
    let mut processes = (0..task.streams)
        .map(|stream| {
            let child = Command::new("ffmpeg")
                .args(["-nostdin", "-loglevel", "error", "-rtsp_transport", "tcp"])
                .args(["-i", &task.url(stream), "-c", "copy", "-f", "null", "-"])
                .stdout(Stdio::null())
                .spawn()?;
            Ok(Process(child))
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    // It looks at a stream for a while before it plays it, which is no measure of steady use.
    sleep(task.warm_up + Duration::from_secs(4));
    let cpu = |processes: &[Process]| -> Duration {
        processes
            .iter()
            .map(|child| usage::cpu_time_of(child.0.id()))
            .sum()
    };
    let (before, cpu_before) = (Instant::now(), cpu(&processes));
    sleep(task.window);
    let cpu = (cpu(&processes) - cpu_before).as_secs_f64();
    let seconds = before.elapsed().as_secs_f64();
    for process in &mut processes {
        if let Some(status) = process.0.try_wait()? {
            return Err(format!("ffmpeg ended: {status}").into());
        }
    }
    let (mut threads, mut memory) = (0.0, 0.0);
    for process in &processes {
        let (its_threads, its_memory) = usage::threads_and_memory(&process.0.id().to_string());
        threads += its_threads;
        memory += its_memory;
    }
    println!("cpu={}", 100.0 * cpu / seconds);
    println!(
        "cpu-per-gbit={}",
        cpu / seconds / (kbits * task.streams as f64 * 1e-6)
    );
    println!("threads={threads}\nmemory={memory}");
    Ok(())
}
