//! What goes into the core and comes out of it. Into it: commands, receiver reports. Out of it: events
//! for the pool and for sessions, packets for consumers, bytes for the socket.
//!
//! Before an idle connection is used again, the driver reads what the server sent while it was idle.
//! Otherwise the core would take half a frame for the start of the answer to the first request. tokio
//! may not know yet that the socket is readable, so the driver asks the system.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::time::timeout;

use super::{
    Driver, DriverEvent, WIRE,
    link::{Command, DriverHandle, NewSession, Report, SessionGuard},
    socket::write_out,
};
use crate::mux::{
    clock,
    proto::{
        CredentialReport, Event, OutgoingRequest, Reply, Retirement, ServerAnswer, ServerRequest,
        SharingViolation, wire::redacted,
    },
    release::lock,
};

impl Driver {
    /// Processes all outputs of the core, and writes what the socket takes.
    pub(super) fn settle(&mut self) {
        loop {
            let now = clock::now();
            self.drain_events(now);
            while let Some(message) = self.core.poll_transmit() {
                self.outbox.unsplit(message);
            }
            if !self.flush(now) {
                break;
            }
        }
        if !self.told_of_digest && self.core.has_seen_digest() {
            self.told_of_digest = true;
            self.events.handle(DriverEvent::DigestSeen);
        }
        if !self.told_of_ssrc && self.core.is_ssrc_disproved() {
            self.told_of_ssrc = true;
            self.events.handle(DriverEvent::SsrcDisproved);
        }
        self.pass_on_server_info();
        let backlog = self.core.backlog();
        if *self.ends.backlog.borrow() != backlog {
            self.ends.backlog.send_replace(backlog);
        }
        // The counters are updated before the callers that may read them are notified.
        self.update_counters();
        // A caller that hears of the answer finds all packets that came before it: a seek tells old ones by
        // that.
        let handed_over = self.sessions.hand_over(clock::now());
        self.sessions.answer();
        self.read_pacing
            .on_handed_over(handed_over, self.handle.budget.used());
    }

    /// Writes what the socket takes; true if the core heard of it and may have more output.
    fn flush(&mut self, now: Instant) -> bool {
        if self.outbox.is_empty() || self.over.is_some() {
            return false;
        }
        let coming_up = self
            .core
            .is_about_to_play()
            .then(|| self.core.sessions_coming_up());
        self.held_until = coming_up.and_then(|count| self.play_batching.until(now, count));
        if self.held_until.is_some() {
            return false;
        }
        match write_out(&mut *self.transport, &mut self.outbox) {
            Ok(written) => {
                self.handle.counters.bytes_sent.add(written as u64);
                self.core.handle_write_progress(now, self.outbox.len());
                if self.outbox.is_empty() {
                    // The core can use the memory again.
                    self.outbox = BytesMut::new();
                    self.play_batching.on_written();
                }
                written > 0
            }
            Err(error) => {
                self.on_io_error(&error);
                true
            }
        }
    }

    pub(super) fn drain_events(&mut self, now: Instant) {
        while let Some(message) = self.core.poll_wire() {
            let id = self.handle.id;
            match message.session {
                Some(session) => tracing::trace!(target: WIRE, "{id}/{session}: {message}"),
                None => tracing::trace!(target: WIRE, "{id}/-: {message}"),
            }
        }
        while let Some(event) = self.core.poll_event() {
            self.on_event(now, event);
        }
        while let Some(loss) = self.core.poll_framing_loss() {
            self.events.handle(DriverEvent::FramingLost(now, loss));
        }
        while let Some(undescribed) = self.core.poll_undescribed() {
            self.sessions.on_undescribed(&undescribed);
        }
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        let id = self.handle.id;
        match event {
            Event::Packet(packet) => self.sessions.deliver(now, packet),
            Event::HeldPacket { packet, received } => self.sessions.deliver(received, packet),
            Event::Completed {
                session,
                request,
                result,
            } => {
                match &result {
                    Ok(Reply::TornDown) => {}
                    Ok(_) => self.handle.is_proven.store(true, Ordering::Relaxed),
                    Err(failure) => tracing::debug!("{id}/{session}: {failure}"),
                }
                self.sessions.complete(request, result);
            }
            Event::SessionLost { session, failure } => {
                tracing::info!("{id}/{session}: lost: {failure}");
                lock(&self.handle.server_info).keep_alive = self.core.keep_alive_method();
                self.events.handle(DriverEvent::SessionLost(now, session));
                self.sessions.on_lost(session, &failure);
            }
            Event::Redirected { session, redirect } => {
                tracing::info!("{id}/{session}: the server sends it elsewhere: {redirect:?}");
                self.handle.redirect(session, redirect);
                self.sessions.touch_all();
            }
            Event::SessionClosed(session) => {
                tracing::debug!("{id}/{session}: closed");
                self.sessions.remove(session);
                self.handle.take_redirect(session);
            }
            Event::Credentials(report) => {
                if let CredentialReport::Refused(_) = report {
                    tracing::info!("{id}/-: credentials refused");
                }
                self.events.handle(DriverEvent::Credentials(now, report));
            }
            Event::NoMoreSessions(reason) => {
                tracing::info!("{id}/-: takes no more sessions: {reason:?}");
                self.events.handle(DriverEvent::NoMoreSessions);
                if reason == Retirement::CannotShare(SharingViolation::SameChannels) {
                    self.handle.is_tainted.store(true, Ordering::Relaxed);
                    self.sessions.touch_all();
                }
            }
            Event::BeforeSend { number, request } => self.show(number, request),
            Event::ServerRequest {
                number,
                request,
                answer,
            } => self.ask(number, request, answer),
            Event::Probed(outcome) => {
                tracing::debug!("{id}/-: a DESCRIBE of nothing: {outcome:?}");
                self.events.handle(DriverEvent::Probed(outcome));
                if let Some(waiter) = self.probed.take() {
                    // The receiver may be gone.
                    let _ = waiter.send(outcome);
                }
            }
            Event::IdleExpired => {
                if self.events.try_retire() {
                    tracing::debug!("{id}/-: idle timeout");
                    self.core.close(now);
                }
            }
            Event::Closed(reason) => {
                lock(&self.handle.server_info).keep_alive = self.core.keep_alive_method();
                self.events.handle(DriverEvent::Retired);
                // A connection ends once.
                let _ = self.handle.close_reason.set(reason.clone());
                self.over = Some(reason);
            }
        }
    }

    /// Shows a request to the user, on a thread of its own. If the user panics or there is no thread, the
    /// request is held back.
    fn show(&self, number: u64, mut request: OutgoingRequest) {
        let seen = ShownRequest {
            handle: Arc::clone(&self.handle),
            number,
            headers: None,
        };
        let Some(before_send) = self.before_send.clone() else {
            return;
        };
        let thread = thread::Builder::new().name("rtspmux-request".to_owned());
        let started = thread.spawn(move || {
            let mut seen = seen;
            let is_sent = before_send.look(&mut request);
            seen.headers = is_sent.then_some(request.headers);
        });
        if let Err(error) = started {
            tracing::error!("{}/-: no thread to show a request: {error}", self.handle.id);
        }
    }

    /// Asks the user for the answer to a request of the server, on a thread of its own. Without an answer the
    /// core's own goes out after a while.
    fn ask(&self, number: u64, request: ServerRequest, mut answer: ServerAnswer) {
        let (Some(on_request), handle) = (self.on_request.clone(), self.handle.clone()) else {
            return;
        };
        let thread = thread::Builder::new().name("rtspmux-request".to_owned());
        let started = thread.spawn(move || {
            on_request.answer(&request, &mut answer);
            handle.send(Command::Answer { number, answer });
        });
        if let Err(error) = started {
            let id = self.handle.id;
            tracing::error!("{id}/-: no thread for a request of the server: {error}");
        }
    }

    /// Passes on what the core has learned of the server, if a request was answered since the last
    /// time.
    fn pass_on_server_info(&mut self) {
        let answers = self.core.counters().answers;
        if answers == self.answers {
            return;
        }
        self.answers = answers;
        let mut info = lock(&self.handle.server_info);
        info.measures = self.core.measures();
        info.server_header = self.core.server_header().map(str::to_owned);
        info.public_header = self.core.public_header().map(str::to_owned);
        info.is_serial = !self.core.is_pipelining();
        info.keep_alive = self.core.keep_alive_method();
    }

    fn update_counters(&mut self) {
        *lock(&self.handle.counts) = self.core.counters();
        self.update_pending_teardowns();
        let counters = &self.handle.counters;
        counters.packets.set(self.sessions.packets);
        counters.sessions.set(self.core.session_count() as u64);
    }

    pub(super) fn update_pending_teardowns(&mut self) {
        let tearing_down = self.core.teardown_count() as u64;
        let counter = &self.handle.counters.tearing_down;
        if counter.get() == tearing_down {
            return;
        }
        counter.set(tearing_down);
        if !self.handle.has_pending_teardowns() {
            self.events.handle(DriverEvent::TornDown);
        }
    }
}

/// The most commands in a row: with more of them reads and timers would wait.
const MAX_COMMANDS: usize = 64;
/// How long tokio may take to learn of bytes that the system has; it never takes this long.
const PATIENCE: Duration = Duration::from_millis(100);

impl Driver {
    pub(super) fn on_reports(&mut self, first: Report) {
        let mut next = Some(first);
        for _ in 0..MAX_COMMANDS {
            let Some(it) = next else { return };
            self.core
                .send_packet(it.session, it.stream, it.kind, &it.packet);
            next = self.ends.reports.try_recv().ok();
        }
    }

    pub(super) async fn on_commands(&mut self, first: Command) {
        self.detect_suspend();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(command) = next {
            self.look_before_reuse(&command).await;
            self.on_command(command);
            taken += 1;
            // Commands that are not processed here stay in the channel.
            let may_take = taken < MAX_COMMANDS;
            next = may_take
                .then(|| self.ends.commands.try_recv().ok())
                .flatten();
        }
    }

    pub(super) fn on_command(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::Open(session) => self.on_open(session),
            Command::Request {
                session,
                request,
                reply,
            } => {
                let id = self.sessions.on_request(reply);
                self.core.request(now, session, id, request);
            }
            Command::Probe {
                missing,
                known,
                done,
            } => {
                self.probed = Some(done);
                self.core.probe(now, missing, known);
            }
            Command::SetPatience { session, patience } => {
                self.core.set_patience(session, patience);
            }
            Command::Release { session, is_known } => {
                tracing::debug!("{}/{session}: released", self.handle.id);
                self.core.release(now, session);
                if is_known {
                    // From now on `tearing_down` counts the session.
                    self.update_pending_teardowns();
                    self.handle.released.fetch_sub(1, Ordering::Release);
                    if !self.handle.has_pending_teardowns() {
                        self.events.handle(DriverEvent::TornDown);
                    }
                }
            }
            Command::SetIdle(idle) => self.core.set_idle(now, idle),
            Command::Credentials(status) => self.core.handle_credential_status(now, status),
            Command::RefusalVerdict(verdict) => self.core.handle_refusal_verdict(now, verdict),
            Command::Seen { number, headers } => self.core.handle_seen(now, number, headers),
            Command::Answer { number, answer } => self.core.handle_server_answer(number, &answer),
            Command::KeepAlive(method) => self.core.set_keep_alive_method(method),
            Command::Close => self.core.close(now),
        }
    }

    fn on_open(&mut self, new: NewSession) {
        let camera = redacted(&new.config.url);
        let session = match self.core.open_session(new.config) {
            Ok(session) => session,
            Err(failure) => {
                // The receiver may be gone. That does not matter: no session was opened.
                let _ = new.opened.send(Err(failure));
                return;
            }
        };
        tracing::debug!("{}/{session}: opened for {camera}", self.handle.id);
        self.sessions
            .insert(session, new.producer, camera, new.release);
        // If the receiver is gone, the guard is dropped here, which releases the session.
        let _ = new
            .opened
            .send(Ok(SessionGuard::new(session, &self.handle)));
    }

    /// If the command takes the connection out of idleness, reads what the server has sent.
    async fn look_before_reuse(&mut self, command: &Command) {
        if !matches!(command, Command::SetIdle(None)) || !self.transport.has_unread() {
            return;
        }
        // A failure shows at the next read.
        let readable = poll_fn(|context| self.transport.poll_ready(context, true, false));
        let _ = timeout(PATIENCE, readable).await;
        self.read();
    }
}

/// Tells the core what the user has made of a request, when it is dropped.
struct ShownRequest {
    handle: Arc<DriverHandle>,
    number: u64,
    headers: Option<Vec<(String, String)>>,
}

impl Drop for ShownRequest {
    fn drop(&mut self) {
        self.handle.send(Command::Seen {
            number: self.number,
            headers: self.headers.take(),
        });
    }
}
