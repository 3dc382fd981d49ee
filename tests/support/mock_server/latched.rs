//! Servers whose connections have one session for ever: go2rtc 1.9.14 and ZLMediaKit, as measured.

use super::state::{Answer, State};
use super::{Camera, Config};

impl State {
    /// A DESCRIBE on ZLMediaKit: the connection's session gets another id, its tracks may be set up again.
    pub(super) fn rename(&mut self, connection: usize) {
        self.peers[connection].initialised.clear();
        let id = self.new_id();
        let sessions = self.view.sessions.iter_mut();
        for session in sessions.filter(|s| s.connection == connection) {
            session.id.clone_from(&id);
        }
    }

    /// A SETUP, whatever session it names. The camera is the connection's first one.
    pub(super) fn setup_latched(
        &mut self,
        config: &Config,
        connection: usize,
        (path, track): (&str, usize),
        asked: (u8, u8),
    ) -> Answer {
        let habits = &config.habits;
        let initialised = &mut self.peers[connection].initialised;
        if habits.id_per_describe && initialised.contains(&track) {
            return Answer {
                closes: true,
                ..Answer::default()
            };
        }
        initialised.push(track);
        let here = |s: &super::SessionView| s.connection == connection;
        let known = self.view.sessions.iter().position(here);
        let index = known.unwrap_or_else(|| self.new_session(config, connection, path));
        if habits.one_consumer && known.is_some() {
            self.view.sessions[index].id = self.new_id();
        }
        let camera: Option<&Camera> = config.camera_at(path);
        let pair = self.choose(habits.channels, connection, track, asked);
        match (camera, pair) {
            (Some(camera), Some(pair)) => self
                .set_up(config, index, (camera, track), pair, false)
                .into(),
            _ => Answer::default(),
        }
    }
}
