//! What the drivers report of their connections, and what the pool does about it.

use std::time::{Duration, Instant};

use super::{ConnectionPool, accounts::Member, connection::ConnectionRecord, state::LockedPool};
use crate::mux::{
    clock,
    driver::{Command, DriverEvent, DriverHandle},
    ids::ConnectionId,
    policy::{
        credential_gate::{Notice, Notices},
        redial::Redial,
        sharing::{Sharing, join_history::Joins},
    },
    proto::{CloseReason, CredentialReport, KeepAliveMethod},
    server_key::ServerId,
};

/// How long a server keeps sessions whose connection ended without TEARDOWN: the session timeout of
/// nearly all servers.
const GHOSTS_LIVE: Duration = Duration::from_secs(60);

/// By then all connections have reported what the server said to them.
const SECOND_LOOK: Duration = Duration::from_millis(100);

impl ConnectionPool {
    /// Something happened to a connection.
    pub(super) fn on_driver_event(&self, id: ConnectionId, event: DriverEvent) {
        let early = self.change(|state| state.on_driver_event(id, event));
        if let (Some(report), Ok(runtime)) = (early, self.runtime()) {
            let pool = self.clone();
            clock::later(runtime, SECOND_LOOK, move || {
                pool.change(|state| state.on_credentials(clock::now(), id, report, false));
            });
        }
    }
}

impl LockedPool<'_> {
    /// Gives back a report on credentials that cannot be judged yet: it is to be made again in a moment.
    fn on_driver_event(
        &mut self,
        id: ConnectionId,
        event: DriverEvent,
    ) -> Option<CredentialReport> {
        let server = self.table.entry(id)?.server().clone();
        match event {
            DriverEvent::Connected => self.table.on_connected(id),
            DriverEvent::Retired => {
                self.table.retire(id);
                let driver = self.table.record_mut(id)?.driver.clone();
                self.measure(&driver);
                let sessions = self.table.entry(id)?.set_up;
                self.table.record_mut(id)?.joins.on_end(sessions);
            }
            DriverEvent::NoMoreSessions => {
                self.table.on_no_more_sessions(id);
                self.serve(&server);
            }
            DriverEvent::Credentials(now, report) => {
                return self.on_credentials(now, id, report, true);
            }
            DriverEvent::Sampled(now, sample) => self.on_sampled(id, now, &sample),
            DriverEvent::FramingLost(now, loss) => self.on_framing_lost(id, now, loss),
            DriverEvent::SessionLost(now, lost) => {
                let driver = self.table.record_mut(id)?.driver.clone();
                self.measure(&driver);
                self.on_broken(id, now, |sharing, sessions, joins| {
                    sharing.on_join_history(now, |history| {
                        history.on_session_lost(now, sessions, joins, lost)
                    });
                });
            }
            DriverEvent::TornDown => self.known(&server).notify(),
            DriverEvent::Suspended => self.table.record_mut(id)?.joins.on_suspend(),
            DriverEvent::Probed(outcome) => {
                self.learn(&server, clock::now(), |sharing| sharing.on_probed(outcome));
                self.deferred.has_learned = true;
            }
            DriverEvent::SsrcDisproved => {
                self.server(&server).sharing.is_ssrc_disproved = true;
                self.deferred.has_learned = true;
            }
            DriverEvent::DigestSeen => _ = self.digest_servers.insert(server),
        }
        None
    }

    /// The connection died, or the server ended one of its sessions.
    fn on_broken(
        &mut self,
        id: ConnectionId,
        now: Instant,
        lesson: impl FnOnce(&mut Sharing, u32, &Joins),
    ) {
        let Some(entry) = self.table.entry(id) else {
            return;
        };
        let (server, joins) = (entry.server().clone(), entry.record.joins.clone());
        let sessions = joins.sessions(entry.set_up);
        self.learn(&server, now, |sharing| lesson(sharing, sessions, &joins));
    }

    /// A session got this connection, or none could be made: that explains why connections died
    /// before.
    pub(super) fn on_connection(&mut self, server: &ServerId, connection: Option<ConnectionId>) {
        if self.known(server).sharing.joins.has_unexplained() {
            let now = clock::now();
            self.learn(server, now, |sharing| {
                sharing.on_join_history(now, |history| history.on_connection(now, connection))
            });
        }
    }

    /// A session has got a connection that is connected.
    pub(super) fn on_reached(&mut self, driver: &DriverHandle, now: Instant) {
        self.on_connection(&driver.server, Some(driver.id));
        let reached = |redial: &mut Redial| redial.on_reached(now, driver.id);
        self.redials.change(&driver.server, reached);
    }

    /// A connection reports something of its credentials. Gives the report back if it `may_wait`, and is
    /// to be made again in a moment.
    fn on_credentials(
        &mut self,
        now: Instant,
        id: ConnectionId,
        report: CredentialReport,
        may_wait: bool,
    ) -> Option<CredentialReport> {
        let account = self.table.entry(id)?.record.account.clone()?;
        if let CredentialReport::Challenged {
            presentation: Some(presentation),
            realm,
            ..
        } = report
        {
            let realms = &mut self.server(&account.0).realms;
            realms.on_challenged(presentation, realm);
        }
        let is_news = matches!(report, CredentialReport::Proven(_));
        let accounts = &mut self.accounts;
        match accounts.on_report(now, &account, id, report, may_wait) {
            Ok(notices) => self.notify_credentials(notices),
            Err(report) => return Some(report),
        }
        if is_news {
            self.server(&account.0).notify();
        }
        None
    }

    fn notify_credentials(&self, notices: Notices<Member>) {
        for (member, notice) in notices {
            if let Some(told) = self.table.entry(member.connection) {
                told.record.driver.send(match notice {
                    Notice::Status(status) => Command::Credentials(status),
                    Notice::Verdict(verdict) => Command::RefusalVerdict(verdict),
                });
            }
        }
    }

    /// The connection's driver has ended.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        let now = clock::now();
        let Some(entry) = self.table.entry(id) else {
            return;
        };
        let reason = entry.record.driver.close_reason();
        if let Some(account) = entry.record.account.clone() {
            let notices = self.accounts.leave(now, &account, id);
            self.notify_credentials(notices);
        }
        if matches!(reason, CloseReason::PeerClosed | CloseReason::Io(_))
            && !self.is_describe_only_without_sessions(id)
        {
            let newest = self.table.newest();
            self.on_broken(id, now, |sharing, sessions, joins| {
                sharing.joins.on_death(now, sessions, joins, newest);
            });
        }
        let Some(entry) = self.table.remove(id) else {
            return;
        };
        let ConnectionRecord { driver, joins, .. } = entry.record;
        let sessions = joins.sessions(entry.set_up);
        // A connection that the server closed behind a 401 is no loss: the session answers the
        // challenge on the next connection.
        if sessions > 1 && reason != CloseReason::Challenged {
            let suspect = joins.suspect(now);
            let queue = self.redials.queue(now, &driver.server);
            queue.redial.on_broken(now, sessions, suspect);
        }
        self.measure(&driver);
        if entry.set_up > 0 {
            let server = self.server(&driver.server);
            server.sharing.on_unclean_end(now, GHOSTS_LIVE);
        }
        if self.table.connections_to(&driver.server) == 0
            && self.servers.get(&driver.server).is_some_and(|server| {
                server.intents.is_empty()
                    && !server.is_watched()
                    && server.sharing.is_forgettable(now)
                    && !server.speed.is_serial
            })
        {
            self.servers.remove(&driver.server);
        }
        self.serve(&driver.server);
        self.update_gauges(&driver.server);
    }

    /// Takes over what a connection has measured, unless the server has been forgotten.
    pub(super) fn measure(&mut self, driver: &DriverHandle) {
        let Some(server) = self.state.servers.get_mut(&driver.server) else {
            return;
        };
        let (before, server_info) = (server.speed, driver.server_info());
        let (connect_time, measures) = (server_info.connect_time, server_info.measures);
        server.speed.on_measured(connect_time, measures);
        server.on_lone_describe(&measures);
        let keep_alive = server_info.keep_alive;
        let has_learned = keep_alive != KeepAliveMethod::Named && keep_alive != server.keep_alive;
        if has_learned {
            server.keep_alive = keep_alive;
        }
        let speed = &mut server.speed;
        speed.is_serial |= server_info.is_serial;
        // A new round trip time alone is not worth a write.
        self.deferred.has_learned |=
            (before.batch(), before.is_serial) != (speed.batch(), speed.is_serial);
        if has_learned {
            // Its sessions must not have to be lost as well.
            for (_, other) in self.state.table.entries_of(&driver.server) {
                other.record.driver.send(Command::KeepAlive(keep_alive));
            }
        }
    }
}
