//! A session that plays, watched: every packet is its own camera's, and none is missing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gstrtspmux::mux::{Packet, PacketKind, Session, SessionMonitor};

use crate::support::mock_server::Camera;

#[derive(Default)]
struct Seen {
    /// Packets received, by stream.
    packets: Vec<u32>,
    /// The first thing that was wrong.
    fault: Option<String>,
}

impl Seen {
    fn take(&mut self, camera: u32, packet: &Packet) {
        if packet.kind != PacketKind::Rtp {
            return;
        }
        if self.packets.len() <= packet.stream {
            self.packets.resize(packet.stream + 1, 0);
        }
        let expected = self.packets[packet.stream];
        let number = Camera::number_of(&packet.payload);
        let index = Camera::index_of(&packet.payload);
        if (number, index) != (Some(camera), Some(expected)) {
            self.fault.get_or_insert_with(|| {
                format!(
                    "instead of its packet {expected} came packet {index:?} of camera {number:?}"
                )
            });
        }
        self.packets[packet.stream] += 1;
    }
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a session until the runtime ends.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    monitor: SessionMonitor,
}

impl Watch {
    pub(crate) fn start(camera: u32, mut session: Session) -> Self {
        let shared = Arc::<Shared>::default();
        let watching = Arc::clone(&shared);
        let monitor = session.monitor();
        tokio::spawn(async move {
            while let Some(packet) = session.next().await {
                watching.lock().take(camera, &packet);
                watching.changed.notify_all();
            }
            let reason = session.end_reason().map(|error| error.to_string());
            let text = format!("its session ended: {}", reason.unwrap_or_default());
            watching.lock().fault.get_or_insert(text);
            watching.changed.notify_all();
        });
        Self { shared, monitor }
    }

    /// The session's id, as the client knows it.
    pub(crate) fn session_id(&self) -> String {
        self.monitor.stats().session_id.unwrap_or_default()
    }

    /// What was wrong so far.
    pub(crate) fn fault(&self) -> Option<String> {
        self.shared.lock().fault.clone()
    }

    /// Waits until so many packets of each track are there, and says what is wrong otherwise.
    pub(crate) fn wait_for(&self, sent: &[u32], patience: Duration) -> Result<(), String> {
        let is_waiting = |seen: &mut Seen| seen.fault.is_none() && seen.packets != sent;
        let seen = self.shared.lock();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(seen, patience, is_waiting);
        let (seen, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &seen.fault {
            Some(fault) => Err(fault.clone()),
            None if seen.packets != sent => Err(format!(
                "of {sent:?} packets sent, {:?} arrived",
                seen.packets
            )),
            None => Ok(()),
        }
    }
}
