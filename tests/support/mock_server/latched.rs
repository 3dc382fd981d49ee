//! Servers whose connections have one session for ever: go2rtc, ZLMediaKit and aio-rtsp-toolkit, after their dialogues.

use super::state::{Answer, State};
use super::{Camera, Config, SessionView};

impl State {
    /// A DESCRIBE on ZLMediaKit: the connection's session gets another id, its tracks may be set up again.
    /// The id goes into the answer, and is that of the session which the next SETUP makes.
    pub(super) fn rename(&mut self, connection: usize) -> String {
        self.peers[connection].initialised.clear();
        let id = self.new_id();
        self.peers[connection].described_id = Some(id.clone());
        let sessions = self.view.sessions.iter_mut();
        for session in sessions.filter(|s| s.connection == connection) {
            session.id.clone_from(&id);
        }
        id
    }

    /// The one session of a connection.
    pub(super) fn session_on(&self, connection: usize) -> Option<&SessionView> {
        let mut sessions = self.view.sessions.iter();
        sessions.find(|session| session.connection == connection)
    }

    /// The track of a SETUP, by the control that the server wrote into its descriptions.
    pub(super) fn track(
        &self,
        config: &Config,
        connection: usize,
        camera: &Camera,
        control: &str,
    ) -> Option<usize> {
        if !config.habits.description_grows {
            return camera.track(control);
        }
        let described = self.peers[connection].describes.max(1) * camera.tracks().len();
        let number = control.strip_prefix("trackID=")?.parse().ok()?;
        (number < described).then_some(number)
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
        let known = self.position_on(connection);
        let index = known.unwrap_or_else(|| self.new_session(config, connection, path));
        if let Some(id) = self.peers[connection].described_id.clone() {
            self.view.sessions[index].id = id;
        }
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

    /// A SETUP of another camera than the connection's session plays: the session goes on under its id, with the new
    /// camera alone, playing or not.
    pub(super) fn setup_replacing(
        &mut self,
        config: &Config,
        connection: usize,
        (path, track): (&str, usize),
        asked: (u8, u8),
    ) -> Answer {
        let known = self.position_on(connection);
        let index = known.unwrap_or_else(|| self.new_session(config, connection, path));
        let session = &mut self.view.sessions[index];
        let is_another = session.camera != path;
        path.clone_into(&mut session.camera);
        let is_left = |(other, _): &mut (usize, _)| is_another || *other == track;
        let left = session.tracks.extract_if(.., is_left);
        let channels = left.flat_map(|(_, (a, b))| [a, b]);
        self.peers[connection].past_channels.extend(channels);
        match config.camera_at(path) {
            Some(camera) => self
                .set_up(config, index, (camera, track), asked, false)
                .into(),
            None => Answer::default(),
        }
    }

    fn position_on(&self, connection: usize) -> Option<usize> {
        let is_here = |session: &SessionView| session.connection == connection;
        self.view.sessions.iter().position(is_here)
    }
}
