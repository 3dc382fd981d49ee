//! What the pool tells of its connections: each connection gets the number of sessions that use it,
//! and the statistics get the state of all.

use std::collections::BTreeMap;

use super::{ConnectionPool, PoolState, state::ConnectionEntry};
use crate::mux::{
    clock,
    policy::placement::{ConnectionPhase, Purpose},
    server_key::ServerId,
    stats::{ConnectionState, ConnectionStats, MuxStats, ServerStats},
};

impl PoolState {
    /// Tells all connections of a server how many references and sisters they have.
    pub(super) fn update_gauges(&self, server: &ServerId) {
        let connections = self.table.connections_to(server) as u64;
        for (_, entry) in self.table.entries_of(server) {
            let driver = &entry.record.driver;
            driver.on_references(entry.references);
            driver.counters.connections_to_server.set(connections);
        }
        if let Some(server) = self.servers.get(server) {
            server.notify();
        }
    }
}

impl ConnectionPool {
    pub(crate) fn stats(&self) -> MuxStats {
        let (now, state) = (clock::now(), self.lock());
        let mut servers: BTreeMap<&ServerId, Vec<ConnectionStats>> = BTreeMap::new();
        for (_, entry) in state.table.entries() {
            if entry.record.is_listed {
                let connections = servers.entry(&entry.server).or_default();
                connections.push(connection_stats(entry));
            }
        }
        let servers = servers.into_iter().map(|(server, connections)| {
            let (sharing, cannot_share, sharing_age) = state.sharing_stats(server, now);
            ServerStats {
                server: server.to_string(),
                sharing,
                cannot_share,
                sharing_age,
                waiting: state.table.waiting_for(server),
                connections,
            }
        });
        MuxStats {
            servers: servers.collect(),
        }
    }
}

fn connection_stats(entry: &ConnectionEntry) -> ConnectionStats {
    let driver = &entry.record.driver;
    let counters = &driver.counters;
    ConnectionStats {
        id: driver.id.0,
        state: match entry.phase {
            ConnectionPhase::Connecting => ConnectionState::Connecting,
            ConnectionPhase::Open => ConnectionState::Open,
            ConnectionPhase::Closing => ConnectionState::Closing,
        },
        is_dedicated: entry.purpose == Purpose::Dedicated,
        is_aside: entry.purpose == Purpose::DescribeOnly,
        references: counters.references.get(),
        sessions: counters.sessions.get(),
        bytes_received: counters.bytes_received.get(),
        bytes_sent: counters.bytes_sent.get(),
        packets: counters.packets.get(),
        requests: counters.requests.get(),
        server_requests: counters.server_requests.get(),
        frames_unknown: counters.frames_unknown.get(),
        frames_foreign: counters.frames_foreign.get(),
        frames_late: counters.frames_late.get(),
        reports_dropped: counters.reports_dropped.get(),
        resyncs: counters.resyncs.get(),
        repeated_responses: counters.repeated_responses.get(),
        health: driver.health(),
    }
}
