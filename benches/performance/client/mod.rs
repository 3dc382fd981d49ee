//! The clients that are measured, each in a process of its own. Common to them: they warm up, look
//! for a while and say what they saw as `name=value` lines.

mod allocations;
pub(crate) mod bare;
pub(crate) mod elements;
pub(crate) mod ffmpeg;
pub(crate) mod library;
mod usage;

use std::time::Duration;

use crate::arguments::Arguments;

/// How many streams of which server, and for how long.
struct Task {
    port: u16,
    streams: usize,
    /// Addresses of the server that they are spread over.
    servers: usize,
    /// `paced`, `stamped` or `unthrottled`.
    pace: String,
    warm_up: Duration,
    window: Duration,
}

impl Task {
    fn new(arguments: &Arguments) -> Result<Self, String> {
        Ok(Self {
            port: arguments.value("port")?,
            streams: arguments.value("streams")?,
            servers: arguments.optional("servers")?.unwrap_or(1),
            pace: arguments.value("pace")?,
            warm_up: Duration::from_millis(arguments.value("warm-up")?),
            window: Duration::from_millis(arguments.value("window")?),
        })
    }

    fn url(&self, stream: usize) -> String {
        let server = stream % self.servers;
        format!(
            "rtsp://127.0.{}.{}:{}/{}/{stream}",
            server / 200,
            server % 200 + 1,
            self.port,
            self.pace
        )
    }
}
