//! The mock server without sockets, threads and clock: what a simulation drives.

use std::time::Duration;

use super::behaviour::Rule;
use super::state::{Outcome, State};
use super::{Config, SessionView};
use crate::support::rtsp::Request;

/// A server as a state machine: requests go in, bytes come out. It keeps no record of requests.
pub struct Engine {
    config: Config,
    authority: String,
    state: State,
}

impl Engine {
    pub(super) fn new(config: Config, authority: &str, rules: Vec<Rule>) -> Self {
        let mut state = State::new(rules);
        state.is_forgetful = true;
        Self {
            config,
            authority: authority.to_owned(),
            state,
        }
    }

    /// A client has connected; the number of the connection, from 0.
    pub fn accept(&mut self) -> usize {
        self.state.accept(None)
    }

    /// A connection is over.
    pub fn close(&mut self, connection: usize) {
        self.state.closed(&self.config, connection);
    }

    /// A request, once the server has done its work on it.
    pub fn request(&mut self, connection: usize, request: &Request) -> Outcome {
        self.state.record(connection, request);
        let reaction = self.state.reaction(&self.config, request);
        let (config, authority) = (&self.config, self.authority.as_str());
        self.state
            .react(config, authority, connection, request, reaction)
    }

    /// A request that the server loses.
    pub fn lose(&mut self, connection: usize, request: &Request) {
        self.state.peers[connection].last_cseq = request.headers.cseq();
    }

    /// An interleaved frame of the client.
    pub fn frame(&mut self, connection: usize, channel: u8) {
        self.state.check_channel(connection, channel);
    }

    /// The next packet of every track of every session that plays on a connection, and what goes astray to it.
    pub fn media(&mut self, connection: usize) -> Vec<u8> {
        let sessions = self.state.view.sessions.iter().enumerate();
        let playing = sessions.filter(|(_, it)| it.connection == connection && it.is_playing);
        let playing: Vec<usize> = playing.map(|(index, _)| index).collect();
        if playing.is_empty() {
            return self.state.strays_on(&self.config, connection);
        }
        let media = |index| self.state.media_of(&self.config, index, 1);
        playing.into_iter().flat_map(media).collect()
    }

    /// A sender report for every track of every session that plays on a connection.
    pub fn reports(&mut self, connection: usize) -> Vec<u8> {
        let playing =
            |session: &&SessionView| session.is_playing && session.connection == connection;
        let sessions = self.state.view.sessions.iter().enumerate();
        let playing: Vec<usize> = sessions
            .filter(|(_, session)| playing(session))
            .map(|(index, _)| index)
            .collect();
        playing
            .into_iter()
            .flat_map(|index| self.state.reports_of(&self.config, index))
            .collect()
    }

    /// The sessions that are alive.
    pub fn sessions(&self) -> &[SessionView] {
        &self.state.view.sessions
    }

    /// It still sends packets of sessions whose connection is gone.
    pub fn is_haunted(&self) -> bool {
        self.state.is_haunted()
    }

    /// Forgets a session, as one that expired: no BYE, the connection stays.
    pub fn expire(&mut self, connection: usize, id: &str) {
        let sessions = &mut self.state.view.sessions;
        let is_it = |s: &SessionView| s.connection == connection && s.id == id;
        let Some(index) = sessions.iter().position(is_it) else {
            return;
        };
        // The client cannot know, and goes on with its receiver reports.
        let tracks = sessions.remove(index).tracks;
        let channels = tracks.iter().flat_map(|(_, (a, b))| [*a, *b]);
        self.state.peers[connection].past_channels.extend(channels);
    }

    /// Adds a rule, before all others.
    pub fn add_rule(&mut self, rule: Rule) {
        self.state.rules.insert(0, rule);
    }

    /// What a correct client would not have done, since the last call.
    pub fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.state.view.violations)
    }

    /// How long it works on each request.
    pub fn service_time(&self) -> Duration {
        self.config.habits.service_time
    }

    /// Of requests that arrive together it sees the first one only.
    pub fn drops_pipelined(&self) -> bool {
        self.config.habits.drops_pipelined
    }
}
