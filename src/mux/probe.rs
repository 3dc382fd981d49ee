//! What a user's own server does: whether its cameras play, whether it shares connections, and if not, why.
//!
//! All cameras are opened together, as a pipeline does it, so that a server that is not known yet is
//! tried before anything plays. A camera that is the only one of its server is opened twice.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    task::Poll,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::{
    Error, ErrorKind, Mux, Opening, PacketKind, ServerStats, Session, SessionOptions,
    SharingVerdict, clock, proto::limits::with_defaults,
};

with_defaults! {
    /// How long one session may take from DESCRIBE to its first packet, and how long the last of them is
    /// watched then.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ProbePatience {
        /// Until the first packet.
        pub start: Duration = Duration::from_secs(20),
        /// While all play.
        pub play: Duration = Duration::from_secs(3),
    }
}

/// What was found out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProbeReport {
    /// In the order in which they were given; a camera that was opened twice stands there twice.
    pub cameras: Vec<CameraReport>,
    /// By host and port, while the sessions played.
    pub servers: Vec<ServerStats>,
}

/// One session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CameraReport {
    /// The URL without user and password.
    pub camera: String,
    /// How it plays, or why it does not.
    pub result: Result<CameraPlays, Error>,
}

/// How a session plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CameraPlays {
    /// Streams that were set up.
    pub streams: usize,
    /// From the start to the first packet of media.
    pub first_packet: Duration,
    /// Packets of media.
    pub packets: u64,
}

impl ProbeReport {
    /// Whether each camera plays.
    pub fn all_play(&self) -> bool {
        self.cameras.iter().all(|camera| camera.result.is_ok())
    }
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for report in &self.cameras {
            let camera = &report.camera;
            match &report.result {
                Ok(plays) => writeln!(
                    f,
                    "plays: {camera}: first packet after {:.2} s, {} packets, streams: {}",
                    plays.first_packet.as_secs_f64(),
                    plays.packets,
                    plays.streams
                )?,
                Err(error) if error.camera() == Some(camera) => {
                    writeln!(f, "does not play: {error}")?;
                }
                Err(error) => writeln!(f, "does not play: {camera}: {error}")?,
            }
        }
        for server in &self.servers {
            let name = &server.server;
            match (server.sharing, &server.cannot_share) {
                (SharingVerdict::Yes, _) => write!(f, "shares: {name}")?,
                (SharingVerdict::No, Some(reason)) => {
                    write!(f, "does not share: {name}: {reason}")?;
                }
                _ => write!(f, "not known whether it shares: {name}")?,
            }
            let connections = server.connections.iter();
            let sessions: u64 = connections.map(|connection| connection.sessions).sum();
            writeln!(
                f,
                "; connections: {}, sessions: {sessions}",
                server.connections.len()
            )?;
        }
        Ok(())
    }
}

/// Plays all of `cameras` at the same time with `mux`, and reports. Its sessions are torn down then.
///
/// # Errors
///
/// There is no runtime to wait in.
pub async fn probe(
    mux: &Mux,
    cameras: Vec<SessionOptions>,
    patience: ProbePatience,
) -> Result<ProbeReport, Error> {
    let runtime = mux.pool().runtime()?;
    let cameras = in_company(cameras);
    let names: Vec<String> = cameras.iter().map(SessionOptions::camera).collect();
    let started = clock::now();
    let begin = |opening| begin(runtime, opening, started, patience.start);
    let begun = all(mux.open_many(cameras).into_iter().map(begin)).await;
    let servers = mux.stats().servers;
    let until = clock::now() + patience.play;
    let watched = begun.into_iter().map(|begun| watch(runtime, begun, until));
    let results = all(watched).await;
    let report = |(camera, result)| CameraReport { camera, result };
    Ok(ProbeReport {
        cameras: names.into_iter().zip(results).map(report).collect(),
        servers,
    })
}

/// Whether a server shares shows where two sessions are set up.
fn in_company(cameras: Vec<SessionOptions>) -> Vec<SessionOptions> {
    let server = |options: &SessionOptions| {
        let key = options.connection_key().ok()?;
        Some(key.server().to_string())
    };
    let mut counts = BTreeMap::<_, usize>::new();
    for options in &cameras {
        *counts.entry(server(options)).or_default() += 1;
    }
    let again = |options: &SessionOptions| match counts.get(&server(options)) {
        Some(1) => vec![options.clone(); 2],
        _ => vec![options.clone()],
    };
    cameras.iter().flat_map(again).collect()
}

/// Until the first packet of media.
async fn begin(
    runtime: &Handle,
    opening: Opening,
    started: Instant,
    limit: Duration,
) -> Result<(Session, Duration), Error> {
    let beginning = async {
        let ready = opening.describe().await?.setup_all().await?;
        let mut session = ready.play().await?;
        loop {
            match session.next().await {
                Some(packet) if packet.kind == PacketKind::Rtp => return Ok(session),
                Some(_) => {}
                None => return Err(session.end_reason().unwrap_or_else(no_packet)),
            }
        }
    };
    let begun = clock::within(runtime, limit, beginning).await;
    let session = begun.unwrap_or_else(|_| Err(no_packet()))?;
    Ok((session, clock::now().saturating_duration_since(started)))
}

async fn watch(
    runtime: &Handle,
    begun: Result<(Session, Duration), Error>,
    until: Instant,
) -> Result<CameraPlays, Error> {
    let (mut session, first_packet) = begun?;
    let mut plays = CameraPlays {
        streams: session.streams().len(),
        first_packet,
        packets: 1,
    };
    loop {
        let left = until.saturating_duration_since(clock::now());
        match clock::within(runtime, left, session.next()).await {
            Ok(Some(packet)) => plays.packets += u64::from(packet.kind == PacketKind::Rtp),
            Ok(None) => return Err(session.end_reason().unwrap_or_else(no_packet)),
            Err(_) => break,
        }
    }
    // What the server says to that is not what was asked.
    let _ = session.teardown().await;
    Ok(plays)
}

/// The outputs of all futures, which run beside each other.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        for (future, output) in &mut running {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        match running.iter().all(|(_, output)| output.is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    let outputs = running.into_iter().filter_map(|(_, output)| output);
    outputs.collect()
}

fn no_packet() -> Error {
    Error::new(ErrorKind::TimedOut, "no packet came in time")
}
