//! What the pool does for a session that is tried on a shared connection: under the lock, since
//! whether something plays and who comes next must not change in between.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{
    Aftermath, ConnectionHandle, ConnectionPool, State,
    intent::{Intent, IntentId},
    server::Server,
    table::{ConnectionId, PresentationUri, Purpose},
};
use crate::mux::{
    driver,
    event::{MuxEvent, SharingChange, SharingVerdict},
    proto::SessionKey,
    server_key::{ConnectionKey, ServerId},
    sharing::{
        Sharing, Stance, Verdict,
        gate::{FENCE, Facts, Gate, REGROUP, gate, intent_patience, patience},
    },
};

/// How long after a refusal a server may still close the connection for it (gortsplib).
const CLOSE_MAY_FOLLOW: Duration = Duration::from_millis(200);

/// How long a session's DESCRIBE took, and when it was answered.
#[derive(Clone, Copy, Debug)]
pub(in crate::mux) struct Described {
    pub(in crate::mux) took: Duration,
    pub(in crate::mux) at: Instant,
}

/// Verdict, reason for a No, age.
type SharingStats = (SharingVerdict, Option<String>, Option<Duration>);

/// What is known of the trial on one connection.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// When an answer last came that somebody may wait for.
    progress: Option<Instant>,
    /// A session was set up on it.
    has_set_up: bool,
    /// Until when the server may still close it.
    suspect_until: Option<Instant>,
    /// The session that goes on here although others are to leave.
    claimant: Option<SessionKey>,
    /// Two URIs were described alike: the server may stay with the first one it saw, and which that
    /// was, only the control URLs can tell.
    is_mixed: bool,
    /// URIs described here, each with its first control URL.
    described: Vec<(PresentationUri, PresentationUri)>,
}

impl Trial {
    /// Until when a session waits for the others: from its own answer on, or the last one that
    /// came, for a server may work requests off one by one (live555: 100 ms for each file).
    fn until(&self, described: Described) -> Instant {
        let progress = self
            .progress
            .map_or(described.at, |at| at.max(described.at));
        progress + patience(described.took)
    }
}

impl ConnectionPool {
    /// Announces a session.
    pub(in crate::mux) fn intend(&self, key: ConnectionKey) -> Intent {
        let id = self.lock().intend(&key);
        Intent::new(self.clone(), key, id)
    }

    /// Learns something of a server's sharing.
    pub(in crate::mux) fn learn(&self, server: &ServerId, lesson: impl FnOnce(&mut Sharing)) {
        self.change(|state, aftermath| state.learn(server, driver::now(), lesson, aftermath));
    }

    /// What is known of a server's sharing.
    pub(in crate::mux) fn sharing<T>(
        &self,
        server: &ServerId,
        question: impl FnOnce(&Sharing) -> T,
    ) -> T {
        question(&self.lock().server(server).sharing)
    }

    /// Verdict, reason and age, for people.
    pub(in crate::mux) fn sharing_stats(&self, server: &ServerId) -> SharingStats {
        self.lock().sharing_stats(server, driver::now())
    }

    /// Told whenever something changes at a server.
    pub(in crate::mux) fn watch(&self, server: &ServerId) -> watch::Receiver<()> {
        self.lock().server(server).watch()
    }

    /// A presentation was described. True if another URI of the same connection was described as
    /// the very same presentation.
    pub(in crate::mux) fn on_described(
        &self,
        id: ConnectionId,
        uri: &PresentationUri,
        control: &PresentationUri,
    ) -> bool {
        self.lock().on_described(id, driver::now(), uri, control)
    }

    /// Whether a session that is described may be set up on its connection.
    pub(in crate::mux) fn may_set_up(
        &self,
        id: ConnectionId,
        key: SessionKey,
        uri: &PresentationUri,
        control: &PresentationUri,
    ) -> bool {
        self.lock()
            .may_set_up(id, driver::now(), key, (uri, control))
    }

    /// Whether what was described to a session may be another one's.
    pub(in crate::mux) fn is_doubtful(
        &self,
        id: ConnectionId,
        uri: &PresentationUri,
        control: &PresentationUri,
    ) -> bool {
        let state = self.lock();
        let registered = state.registered.get(&id);
        registered.is_some_and(|registered| registered.trial.is_mixed) && !uri.is_above(control)
    }

    /// A session is set up.
    pub(in crate::mux) fn on_set_up(&self, handle: &ConnectionHandle) {
        if !handle.mark_set_up() {
            return;
        }
        let id = handle.link().id;
        self.change(|state, aftermath| state.on_set_up(id, driver::now(), aftermath));
    }

    /// Until when a DESCRIBE waits behind others; none if it is not to be moved.
    pub(in crate::mux) fn regrouping_at(&self, id: ConnectionId, sent: Instant) -> Option<Instant> {
        self.lock().regrouping_at(id, sent, driver::now())
    }

    /// Until when a session waits for those it is tried with; none if nothing is being tried.
    pub(in crate::mux) fn gathering_until(
        &self,
        id: ConnectionId,
        described: Described,
    ) -> Option<Instant> {
        self.lock().gathering_until(id, described, driver::now())
    }

    /// A session on the connection was refused: the connection itself may go.
    pub(in crate::mux) fn on_suspect(&self, id: ConnectionId) {
        self.lock().on_suspect(id, driver::now());
    }

    /// Sessions that are set up on the connection.
    pub(in crate::mux) fn sessions_on(&self, id: ConnectionId) -> u32 {
        self.lock().table.entry(id).map_or(0, |entry| entry.set_up)
    }

    /// Whether a session may play. If so, nobody is tried on its connection any more.
    pub(in crate::mux) fn gate(
        &self,
        id: ConnectionId,
        described: Described,
        may_send_canary: bool,
    ) -> Gate {
        self.lock()
            .gate(id, described, may_send_canary, driver::now())
    }

    /// Nothing is tried on the connection any more: its session does not wait for others.
    pub(in crate::mux) fn on_playing(&self, id: ConnectionId) {
        self.lock().table.on_playing(id);
    }

    /// Another reference to a connection, for a canary.
    pub(in crate::mux) fn join(&self, handle: &ConnectionHandle) -> Option<ConnectionHandle> {
        self.lock().join(handle.link().id).then(|| handle.sibling())
    }
}

impl State {
    pub(super) fn server(&mut self, server: &ServerId) -> &mut Server {
        self.servers
            .entry(server.clone())
            .or_insert_with(Server::new)
    }

    pub(super) fn stance(&self, server: &ServerId, now: Instant) -> Stance {
        self.servers
            .get(server)
            .map_or(Stance::Try, |server| server.sharing.stance(now))
    }

    pub(super) fn sharing_stats(&self, server: &ServerId, now: Instant) -> SharingStats {
        let verdict = self
            .servers
            .get(server)
            .map_or(Verdict::Unknown, |server| server.sharing.verdict(now));
        let (reason, since) = match verdict {
            Verdict::Unknown => (None, None),
            Verdict::Yes { since } => (None, Some(since)),
            Verdict::No { reason, since } => (Some(reason.to_string()), Some(since)),
        };
        let age = since.map(|since| now.saturating_duration_since(since));
        (verdict.into(), reason, age)
    }

    pub(super) fn learn(
        &mut self,
        name: &ServerId,
        now: Instant,
        lesson: impl FnOnce(&mut Sharing),
        aftermath: &mut Aftermath,
    ) {
        let server = self.server(name);
        let before = server.sharing.verdict(now);
        lesson(&mut server.sharing);
        let after = server.sharing.verdict(now);
        server.notify();
        if before != after {
            aftermath
                .events
                .push(MuxEvent::Sharing(sharing_change(name, after)));
        }
    }

    fn intend(&mut self, key: &ConnectionKey) -> IntentId {
        self.last_intent += 1;
        let id = IntentId(self.last_intent);
        let server = self.server(key.server());
        server.intents.push((id, key.clone()));
        id
    }

    pub(super) fn withdraw(&mut self, name: &ServerId, id: IntentId) {
        if let Some(server) = self.servers.get_mut(name) {
            server.intents.retain(|(intent, _)| *intent != id);
            server.notify();
        }
    }

    fn on_described(
        &mut self,
        id: ConnectionId,
        now: Instant,
        uri: &PresentationUri,
        control: &PresentationUri,
    ) -> bool {
        let Some(registered) = self.registered.get_mut(&id) else {
            return false;
        };
        let trial = &mut registered.trial;
        trial.progress = Some(now);
        let is_twin = trial
            .described
            .iter()
            .any(|(other, theirs)| other != uri && theirs == control);
        if !is_twin && !trial.described.iter().any(|(other, _)| other == uri) {
            trial.described.push((uri.clone(), control.clone()));
        }
        trial.is_mixed |= is_twin;
        let server = registered.link.server.clone();
        self.server(&server).notify();
        is_twin && !uri.is_above(control)
    }

    /// While others are on the connection of a server that cannot share, or is suspected of that,
    /// only one may go on: the one whose URI the server saw first there, for the server may stay
    /// with it (go2rtc, ZLMediaKit).
    fn may_set_up(
        &mut self,
        id: ConnectionId,
        now: Instant,
        key: SessionKey,
        (uri, control): (&PresentationUri, &PresentationUri),
    ) -> bool {
        let Some(entry) = self.table.entry(id) else {
            return true;
        };
        match self.stance(&entry.server, now) {
            Stance::Share | Stance::TryInBand | Stance::Try => true,
            Stance::Apart(_) if entry.references < 2 && entry.presentation == *uri => true,
            Stance::Apart(_) => {
                let is_first = uri.is_above(control) && entry.set_up == 0;
                let Some(registered) = self.registered.get_mut(&id) else {
                    return true;
                };
                is_first && *registered.trial.claimant.get_or_insert(key) == key
            }
        }
    }

    fn on_set_up(&mut self, id: ConnectionId, now: Instant, aftermath: &mut Aftermath) {
        let sessions = self.table.on_set_up(id, true);
        if let Some(registered) = self.registered.get_mut(&id) {
            registered.trial.has_set_up = true;
            let link = std::sync::Arc::clone(&registered.link);
            self.measure(&link, aftermath);
        }
        let Some(server) = self.server_of(id) else {
            return;
        };
        self.learn(
            &server,
            now,
            |sharing| {
                if sessions > 1 {
                    sharing.on_shared(now);
                }
            },
            aftermath,
        );
    }

    fn gathering_until(
        &self,
        id: ConnectionId,
        described: Described,
        now: Instant,
    ) -> Option<Instant> {
        let (entry, registered) = (self.table.entry(id)?, self.registered.get(&id)?);
        // With a No, too: it may have come while this session waited for an answer.
        let stance = self.stance(&entry.server, now);
        let is_open = stance != Stance::Share;
        let trial = &registered.trial;
        // Where one session is set up and another is not, the server may ignore the other one
        // (EvoStream); where none is, it holds all answers back.
        let fence = if trial.has_set_up {
            FENCE
        } else {
            Duration::ZERO
        };
        let has_others = entry.references > 1 || trial.has_set_up;
        (is_open && has_others).then(|| trial.until(described) + fence)
    }

    /// Until when a DESCRIBE that was sent at `sent` waits behind those of others.
    fn regrouping_at(&self, id: ConnectionId, sent: Instant, now: Instant) -> Option<Instant> {
        let (entry, registered) = (self.table.entry(id)?, self.registered.get(&id)?);
        let is_open = self.stance(&entry.server, now) != Stance::Share;
        let progress = registered.trial.progress.map_or(sent, |at| at.max(sent));
        // Whoever left may have left the request behind that holds up the others.
        let has_company = registered.link.peak_references() > 1;
        (is_open && has_company).then_some(progress + REGROUP)
    }

    fn on_suspect(&mut self, id: ConnectionId, now: Instant) {
        if let Some(registered) = self.registered.get_mut(&id) {
            registered.trial.suspect_until = Some(now + CLOSE_MAY_FOLLOW);
        }
    }

    fn gate(
        &mut self,
        id: ConnectionId,
        described: Described,
        may_send_canary: bool,
        now: Instant,
    ) -> Gate {
        let (Some(entry), Some(registered)) = (self.table.entry(id), self.registered.get(&id))
        else {
            // The connection is over; the PLAY will say so.
            return Gate::Play;
        };
        let Some(server) = self.servers.get(&entry.server) else {
            return Gate::Play;
        };
        let sharing = &server.sharing;
        let is_asked_for = self.table.could_share_beside(id)
            || entry.purpose == Purpose::Dedicated
            || sharing.wants_canary();
        let facts = Facts {
            stance: sharing.stance(now),
            references: entry.references,
            intents: server
                .intents
                .iter()
                .filter(|(_, key)| *key == entry.key)
                .count(),
            wants_canary: may_send_canary && is_asked_for && sharing.may_send_canary(now),
            suspect_until: registered.trial.suspect_until,
            until: registered.trial.until(described),
            intents_until: described.at + intent_patience(described.took),
        };
        let gate = gate(&facts, now);
        if gate == Gate::Play {
            self.table.on_playing(id);
        }
        gate
    }

    fn join(&mut self, id: ConnectionId) -> bool {
        let joined = self.table.join(id);
        if let Some(server) = self.server_of(id).filter(|_| joined) {
            self.update_gauges(&server);
        }
        joined
    }
}

/// What is told of a new verdict.
fn sharing_change(server: &ServerId, verdict: Verdict) -> SharingChange {
    SharingChange {
        server: server.to_string(),
        verdict: verdict.into(),
        reason: match verdict {
            Verdict::No { reason, .. } => Some(reason.to_string()),
            _ => None,
        },
    }
}
