//! What follows for a new session and its connection from the settings, from what the session has tried,
//! and from what the pool knows of the server.

use std::{sync::Arc, time::Instant};

use super::{
    CheckoutRequest,
    connection::Registration,
    state::{LockedPool, PoolState},
};
use crate::mux::{
    clock,
    config::Multiplex,
    driver::DriverParts,
    ids::ConnectionId,
    policy::{
        placement::{
            DescribeMode, Isolation, PlacementRequest, SESSION_CEILING, SharedWith, terms,
        },
        sharing::{SharingMode, play_gate::SHORTEST_PATIENCE},
    },
    proto::{ConnectionConfig, HeadOfLine},
    server_key::ServerId,
};

const DEFAULT_USER_AGENT: &str = concat!("rtspmux/", env!("CARGO_PKG_VERSION"));

/// Required by requests of sessions that send sound (ONVIF Streaming 5.3).
const BACKCHANNEL: &str = "www.onvif.org/ver20/backchannel";

impl PoolState {
    /// What the table has to know of a checkout.
    pub(super) fn placement_request(
        &self,
        checkout: &CheckoutRequest,
        now: Instant,
    ) -> PlacementRequest {
        let (name, uri) = (checkout.key.server(), checkout.presentation());
        let server = self.known(name);
        let (sharing, mode) = (&server.sharing, server.sharing.mode(now));
        let pooling = &checkout.options.pooling;
        let is_always = pooling.multiplex == Multiplex::Always;
        let terms = terms(pooling, mode);
        let (shared_with, overflows) = match terms {
            // With `multiplex=always` the limit holds for such a connection as well.
            Some((_, overflows)) if checkout.isolation != Isolation::Shared => {
                (SharedWith::Alone, overflows || !is_always)
            }
            terms => terms.unwrap_or((SharedWith::Alone, false)),
        };
        let describes = match checkout.needs_describe {
            false => DescribeMode::Nothing,
            true if checkout.no_new_connection || pooling.multiplex != Multiplex::Auto => {
                DescribeMode::InBand
            }
            true => self.describe_mode(checkout, now),
        };
        let (max, ceiling) = (pooling.max_connections_per_server, SESSION_CEILING);
        let ceiling = sharing
            .session_cap(now)
            .map_or(ceiling, |cap| cap.clamp(1, ceiling));
        let still_leaving = match mode {
            SharingMode::Share | SharingMode::TryInBand => Vec::new(),
            SharingMode::Try | SharingMode::Apart(_) => self.still_leaving(name),
        };
        PlacementRequest {
            key: checkout.key.clone(),
            max_connections: match checkout.no_new_connection {
                true => Some(0),
                false => (max > 0).then_some(max),
            },
            preferred_sessions: pooling.max_sessions_per_connection.clamp(1, ceiling),
            // The sessions of a server that is being tried are not spread: they are the trial.
            batch: server
                .speed
                .batch()
                .filter(|_| shared_with == SharedWith::Any || checkout.is_spread)
                .unwrap_or(u32::MAX),
            presentation: uri,
            is_dedicated: checkout.is_dedicated() || terms.is_none(),
            shared_with,
            ceiling,
            describes,
            // Without a limit each session gets a connection that counts.
            describe_only: checkout.is_spread.then(|| {
                let may = pooling.multiplex == Multiplex::Auto
                    && !checkout.is_kept_pooled
                    && !checkout.no_new_connection;
                let most = may.then(|| server.most_describe_only(now, max));
                most.unwrap_or_default()
            }),
            // A DESCRIBE on a connection of its own is soon over; where others play it might cost
            // them their connection.
            overflows: !checkout.no_new_connection
                && (overflows || (describes != DescribeMode::Nothing && !is_always)),
            patient: terms.is_some()
                && !checkout.no_new_connection
                && (!is_always || checkout.isolation != Isolation::Shared),
            avoid: [&checkout.avoid[..], &still_leaving].concat(),
            shun: self.busy(name, now),
            younger_than: checkout.younger_than,
        }
    }

    /// Where a DESCRIBE with `multiplex=auto` goes.
    fn describe_mode(&self, checkout: &CheckoutRequest, now: Instant) -> DescribeMode {
        let (sharing, uri) = (
            &self.known(checkout.key.server()).sharing,
            checkout.presentation(),
        );
        // A presentation that was played before exists: the server answers no 404 that could cost the
        // connection.
        let is_safe = (sharing.describes_in_band() && sharing.is_in_order())
            || self.descriptions.has(&checkout.key, &uri);
        match is_safe && !self.is_doubtful(checkout, now) {
            true => DescribeMode::InBand,
            false => DescribeMode::Separate,
        }
    }

    /// Connections on which the server has worked on one request for long, and connections that are
    /// congested.
    fn busy(&self, name: &ServerId, now: Instant) -> Vec<ConnectionId> {
        let server = self.known(name);
        let busy = self.table.entries_of(name).filter(|(_, entry)| {
            let record = &entry.record;
            let is_long = |head: HeadOfLine| {
                // Where the server works in order, no request has to wait for a DESCRIBE that may never
                // be answered.
                let patience = match head.is_describe && !server.sharing.is_in_order() {
                    true => server.describe_patience(),
                    false => SHORTEST_PATIENCE,
                };
                now >= head.since + patience
            };
            record.driver.congestion().is_some()
                || record.losses.is_connection_to_blame(now)
                || record.driver.backlog().head.is_some_and(is_long)
        });
        busy.map(|(id, _)| id).collect()
    }

    /// Idle connections whose TEARDOWN is not answered: a server that keeps one session on each may
    /// never answer it, nor anything else (go2rtc).
    fn still_leaving(&self, server: &ServerId) -> Vec<ConnectionId> {
        let leaving = self
            .table
            .entries_of(server)
            .filter(|(_, e)| e.references == 0 && e.record.driver.counters.sessions.get() > 0);
        leaving.map(|(id, _)| id).collect()
    }
}

impl LockedPool<'_> {
    /// Has a connection dialled that was added to the table. Its driver starts when the lock is free.
    pub(super) fn dial(&mut self, id: ConnectionId, checkout: &CheckoutRequest) {
        let config = self.config(id, checkout);
        let tls = checkout.key.tls.as_ref();
        let tls = tls.map(|options| self.tls.client(options));
        let Some(record) = self.table.record_mut(id) else {
            return;
        };
        let (handle, ends) = (Arc::clone(&record.driver), record.ends.take());
        let Some(ends) = ends else {
            return;
        };
        let pool = self.pool.clone();
        pool.0.running.send_modify(|drivers| *drivers += 1);
        self.deferred.plans.push(DriverParts {
            network: pool.0.network.clone(),
            events: Box::new(Registration { pool, id }),
            handle,
            ends,
            config,
            connect_timeout: checkout.options.connect_timeout,
            tls,
            before_send: checkout.key.before_send.clone(),
            on_request: checkout.key.on_request.clone(),
        });
    }

    fn config(&mut self, id: ConnectionId, checkout: &CheckoutRequest) -> ConnectionConfig {
        let (key, server) = (&checkout.key, checkout.key.server());
        let known = self.known(server);
        let agent = key.user_agent.as_deref().unwrap_or(DEFAULT_USER_AGENT);
        let mut timeouts = self.pool.0.timeouts;
        if let Some(silence) = checkout.options.silence_timeout {
            timeouts.silence_dead = silence;
            timeouts.silence_probe = silence / 2;
        }
        let mut config = ConnectionConfig {
            credentials: key.credentials.clone(),
            user_agent: agent.to_owned(),
            require: key.backchannel.then_some(BACKCHANNEL),
            realms: known.realms.clone(),
            refuse_basic: self.digest_servers.contains(server),
            keep_alive: known.keep_alive,
            is_serial: known.speed.is_serial,
            is_in_order: known.sharing.is_in_order(),
            describes_slowly: !known.is_quick_to_describe(),
            is_tried: !checkout.is_dedicated()
                && checkout.options.pooling.multiplex == Multiplex::Auto
                && matches!(
                    known.sharing.mode(clock::now()),
                    SharingMode::Try | SharingMode::Apart(None)
                ),
            asks_for_answers: key.on_request.is_some(),
            shows_requests: key.before_send.is_some(),
            is_ssrc_disproved: known.sharing.is_ssrc_disproved,
            seed: clock::random_seed(),
            limits: self.pool.0.limits,
            timeouts,
            ..ConnectionConfig::default()
        };
        if let Some(credentials) = &key.credentials {
            let account = (server.clone(), credentials.clone());
            self.accounts.join(clock::now(), &account, id, &mut config);
        }
        config
    }
}
