//! Commands and receiver reports on their path into the core, and the check of an idle connection
//! before it is used again.
//!
//! What the server sent while the connection was idle has to be decoded as such: otherwise half a
//! frame would be taken for the start of the answer to the first request. tokio may not know yet
//! that the socket is readable, so the driver asks the system.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    Driver,
    link::{Command, Report, SessionGuard},
};
use crate::mux::{clock, proto::wire::uri::redacted};

/// The most commands in a row: with more of them reads and timers would wait.
const MAX_COMMANDS: usize = 64;
/// How long tokio may take to learn of bytes that the system has; it never takes this long.
const PATIENCE: Duration = Duration::from_millis(100);

impl Driver {
    pub(super) fn on_reports(&mut self, first: Report) {
        let mut next = Some(first);
        for _ in 0..MAX_COMMANDS {
            let Some(report) = next else { return };
            self.core
                .send_rtcp(report.session, report.stream, &report.packet);
            next = self.reports.try_recv().ok();
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
            next = may_take.then(|| self.commands.try_recv().ok()).flatten();
        }
    }

    pub(super) fn on_command(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::Open { .. } => self.on_open(command),
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
                    self.update_pending_teardowns();
                    self.handle.on_released();
                }
            }
            Command::SetIdle(idle) => {
                self.core.set_idle(now, idle);
            }
            Command::Credentials(status) => self.core.handle_credential_status(now, status),
            Command::RefusalVerdict(verdict) => self.core.handle_refusal_verdict(now, verdict),
            Command::Close => self.core.close(now),
        }
    }

    fn on_open(&mut self, command: Command) {
        let Command::Open {
            config,
            producer,
            release,
            opened,
        } = command
        else {
            return;
        };
        let camera = redacted(&config.url);
        let session = match self.core.open_session(config) {
            Ok(session) => session,
            Err(failure) => {
                // The receiver may be gone. That does not matter: no session was opened.
                let _ = opened.send(Err(failure));
                return;
            }
        };
        tracing::debug!("{}/{session}: opened for {camera}", self.handle.id);
        self.sessions.insert(session, producer, camera, release);
        // If the receiver is gone, the guard is dropped here, which releases the session.
        let _ = opened.send(Ok(SessionGuard::new(session, &self.handle)));
    }

    /// If the command takes the connection out of idleness, reads what the server has sent.
    async fn look_before_reuse(&mut self, command: &Command) {
        if !matches!(command, Command::SetIdle(None)) || !self.transport.has_unread() {
            return;
        }
        // A failure shows at the next read.
        let _ = timeout(PATIENCE, self.transport.ready(true, false)).await;
        self.read();
    }
}
