//! The whole multiplexer in simulated time: pool, verdicts, connections, drivers, credentials and
//! delivery, over a network and servers that follow from a seed.
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "support/certificates.rs"]
mod certificates;
mod support;

#[path = "sim/bytes.rs"]
mod bytes;
#[path = "sim/cold.rs"]
mod cold;
#[path = "sim/coverage.rs"]
mod coverage;
#[path = "sim/dead_channels.rs"]
mod dead_channels;
#[path = "sim/departures.rs"]
mod departures;
#[path = "sim/drip.rs"]
mod drip;
#[path = "sim/executor.rs"]
mod executor;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/flood.rs"]
mod flood;
#[path = "sim/memory.rs"]
mod memory;
#[path = "sim/month.rs"]
mod month;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/recovery.rs"]
mod recovery;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/schedule.rs"]
mod schedule;
#[path = "sim/schedules.rs"]
mod schedules;
#[path = "sim/server.rs"]
mod server;
#[path = "sim/storms.rs"]
mod storms;
#[path = "sim/strays.rs"]
mod strays;
#[path = "sim/tls.rs"]
mod tls;
#[path = "sim/trace.rs"]
mod trace;
#[path = "sim/user.rs"]
mod user;
#[path = "sim/viewers.rs"]
mod viewers;
#[path = "sim/wire.rs"]
mod wire;
