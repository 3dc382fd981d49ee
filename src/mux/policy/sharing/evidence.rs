//! What makes us think that a server cannot share.

use std::fmt;

use crate::mux::proto::{Presentation, ServerText, SharingViolation, wire::header::is_in_order};

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// Its answers mixed two sessions up.
    Violation(SharingViolation),
    /// It described one presentation for two URIs (ZLMediaKit).
    SameDescription,
    /// It refused the second session with this status.
    Status(u16),
    /// It closed the connection under the second session.
    Closed,
    /// It never answered the second session, though it answered what came after (EvoStream).
    Unanswered,
    /// Connections died, or lost sessions, again and again when others joined.
    BrokeOff,
    /// The server itself died again and again when sessions joined others. Until it is restarted with
    /// mended firmware, or for a while.
    Crashes,
    /// It says who it is.
    KnownServer(KnownServer),
}

/// The names in the remembered state. What is called broke-off in older files was also said of servers that
/// had been restarted.
const CODES: [(&str, Evidence); 7] = [
    (
        "same-session-id",
        Evidence::Violation(SharingViolation::SameSessionId),
    ),
    (
        "same-channels",
        Evidence::Violation(SharingViolation::SameChannels),
    ),
    ("same-description", Evidence::SameDescription),
    ("closed", Evidence::Closed),
    ("unanswered", Evidence::Unanswered),
    ("broke-off-2", Evidence::BrokeOff),
    ("crashes", Evidence::Crashes),
];

impl Evidence {
    /// Whether a second instance has to agree before it counts: a status may be a mishap.
    pub(crate) fn needs_agreement(self) -> bool {
        matches!(self, Self::Status(_))
    }

    /// Whether it shows that sessions of one connection are taken for one another. Sharing is not
    /// tried again with such a server: each trial could show a camera's picture under another's name.
    pub(crate) fn mixes_sessions(self) -> bool {
        matches!(self, Self::Violation(_) | Self::SameDescription)
    }

    /// Whether a session set up beside others may be played as the first of them: what mixes sessions
    /// up, and families that are known for it.
    pub(crate) fn shows_one_for_all(self) -> bool {
        let is_known_for_it = matches!(
            self,
            Self::KnownServer(KnownServer::Go2Rtc | KnownServer::ZlMediaKit)
        );
        is_known_for_it || self.mixes_sessions()
    }

    /// Its name in the remembered state.
    pub(crate) fn code(self) -> String {
        let named = CODES.iter().find(|(_, evidence)| *evidence == self);
        match (self, named) {
            (Self::Status(code), _) => format!("status-{code}"),
            (Self::KnownServer(words), _) => format!("words-{}", words.name()),
            (_, named) => named.map_or("", |(code, _)| code).to_owned(),
        }
    }

    /// The evidence of that name.
    pub(crate) fn from_code(code: &str) -> Option<Self> {
        if let Some(status) = code.strip_prefix("status-") {
            return Some(Self::Status(status.parse().ok()?));
        }
        if let Some(words) = code.strip_prefix("words-") {
            return KnownServer::from_name(words).map(Self::KnownServer);
        }
        let named = CODES.iter().find(|(name, _)| *name == code);
        named.map(|(_, evidence)| *evidence)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::SameDescription => {
                f.write_str("the server described one camera for two URIs of a connection")
            }
            Self::Status(code) => write!(
                f,
                "the server answered {code} to a second session of a connection"
            ),
            Self::Closed => {
                f.write_str("the server closed the connection when it got a second session")
            }
            Self::Unanswered => {
                f.write_str("the server never answered a second session of a connection")
            }
            Self::BrokeOff => {
                f.write_str("sessions broke off whenever others were added to their connection")
            }
            Self::Crashes => f.write_str(
                "the server died three times when sessions joined others on a connection",
            ),
            Self::KnownServer(words) => write!(
                f,
                "the server is {}, which carries one session per connection",
                words.name()
            ),
        }
    }
}

// How a server identifies itself, and what that tells about sharing.

/// Servers whose name says that they carry one session per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownServer {
    /// gortsplib, and with it MediaMTX: `Server: gortsplib`.
    Gortsplib,
    /// `Server: ZLMediaKit...`.
    ZlMediaKit,
    /// `Server: VLC/3.0.24`.
    Vlc,
    /// go2rtc, in Frigate: no Server header, `s=go2rtc`.
    Go2Rtc,
}

/// Their names, and how the Server header of those begins that have one.
const KNOWN_SERVERS: [(KnownServer, &str, Option<&str>); 4] = [
    (KnownServer::Gortsplib, "gortsplib", Some("gortsplib")),
    (KnownServer::ZlMediaKit, "ZLMediaKit", Some("ZLMediaKit")),
    (KnownServer::Vlc, "VLC", Some("VLC/")),
    (KnownServer::Go2Rtc, "go2rtc", None),
];

impl KnownServer {
    pub(crate) fn name(self) -> &'static str {
        let known = KNOWN_SERVERS.iter().find(|(known, ..)| *known == self);
        known.map_or("", |(_, name, _)| name)
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let known = KNOWN_SERVERS.iter().find(|(_, known, _)| *known == name);
        known.map(|(known, ..)| *known)
    }
}

/// What an answer to DESCRIBE says about the server that gave it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServerIdentity<'a> {
    /// The `Server` header.
    pub(crate) server: Option<&'a str>,
    /// `a=tool`.
    pub(crate) tool: Option<&'a str>,
    /// `s=`.
    pub(crate) session_name: Option<&'a str>,
}

impl<'a> ServerIdentity<'a> {
    pub(crate) fn new(server: Option<&'a str>, presentation: Option<&'a Presentation>) -> Self {
        Self {
            server,
            tool: presentation.and_then(|presentation| presentation.tool.as_deref()),
            session_name: presentation
                .and_then(|presentation| presentation.session_name.as_deref()),
        }
    }

    /// A server that says by its name that it cannot share.
    pub(crate) fn words_for_no(&self) -> Option<KnownServer> {
        let server = self.server.unwrap_or_default();
        let says_so = |begin: &Option<&str>| begin.is_some_and(|begin| server.starts_with(begin));
        let known = KNOWN_SERVERS.iter().find(|(.., begin)| says_so(begin));
        let is_go2rtc = self.session_name.is_some_and(is_go2rtc);
        known
            .map(|(known, ..)| *known)
            .or(is_go2rtc.then_some(KnownServer::Go2Rtc))
    }

    /// Whether a second session was measured never to harm the first one, whatever comes of it, and
    /// whatever is sent while a DESCRIBE is unanswered: gst-rtsp-server. Not live555, which handles
    /// what comes meanwhile inside the DESCRIBE.
    pub(crate) fn is_safe_in_band(&self) -> bool {
        self.server.is_some_and(is_in_order)
    }

    /// The strongest thing it says about itself.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        // It is kept and compared, and goes where texts are shown.
        let some = |text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty());
            text.map(|text| ServerText::new(text).into())
        };
        some(self.server)
            .map(Fingerprint::Server)
            .or_else(|| some(self.tool).map(Fingerprint::Tool))
            .or_else(|| some(self.session_name).map(Fingerprint::SessionName))
    }
}

fn is_go2rtc(session_name: &str) -> bool {
    session_name == "go2rtc" || session_name.starts_with("go2rtc/")
}

/// The server that a verdict is about: another server behind the same address is judged anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fingerprint {
    Server(String),
    Tool(String),
    /// The name of one presentation; recorders name every camera differently.
    SessionName(String),
}

impl Fingerprint {
    /// Whether `other` is certainly another server, or another version of it. Cameras of one
    /// recorder differ in their session names, and some answers lack what others have: neither is
    /// a change, except that go2rtc names all its presentations alike.
    pub(crate) fn is_contradicted_by(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Server(a), Self::Server(b)) | (Self::Tool(a), Self::Tool(b)) => a != b,
            // go2rtc has no Server header, and its name in all that it describes.
            (Self::SessionName(name), Self::Server(_))
            | (Self::Server(_), Self::SessionName(name)) => is_go2rtc(name),
            (Self::SessionName(a), Self::SessionName(b)) => is_go2rtc(a) != is_go2rtc(b),
            _ => false,
        }
    }

    /// Whether the server names itself in a header. One that does so does so in every answer to
    /// DESCRIBE.
    pub(crate) fn has_server_header(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// Whether it names a server that works on the requests of a connection strictly in order.
    pub(crate) fn is_in_order(&self) -> bool {
        matches!(self, Self::Server(server) if is_in_order(server))
    }

    /// As it is remembered: a kind and a text.
    pub(crate) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Server(text) => ("server", text),
            Self::Tool(text) => ("tool", text),
            Self::SessionName(text) => ("name", text),
        }
    }

    pub(crate) fn from_parts(kind: &str, text: &str) -> Option<Self> {
        let text = text.to_owned();
        match kind {
            "server" => Some(Self::Server(text)),
            "tool" => Some(Self::Tool(text)),
            "name" => Some(Self::SessionName(text)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_back() {
        let all = [
            Evidence::Violation(SharingViolation::SameSessionId),
            Evidence::Violation(SharingViolation::SameChannels),
            Evidence::SameDescription,
            Evidence::Status(455),
            Evidence::Closed,
            Evidence::Unanswered,
            Evidence::BrokeOff,
            Evidence::Crashes,
            Evidence::KnownServer(KnownServer::Go2Rtc),
        ];
        for evidence in all {
            assert_eq!(Evidence::from_code(&evidence.code()), Some(evidence));
        }
        for broken in [
            "",
            "status-",
            "status-99999",
            "words-",
            "words-x",
            "yes",
            "broke-off",
        ] {
            assert_eq!(Evidence::from_code(broken), None, "{broken}");
        }
    }
}

#[cfg(test)]
mod fingerprint_tests {
    use super::*;

    fn server(name: &str) -> ServerIdentity<'_> {
        ServerIdentity {
            server: Some(name),
            ..ServerIdentity::default()
        }
    }

    fn tool(tool: &str) -> ServerIdentity<'_> {
        ServerIdentity {
            tool: Some(tool),
            ..ServerIdentity::default()
        }
    }

    #[test]
    fn words_that_say_no_without_a_trial() {
        assert_eq!(
            server("gortsplib").words_for_no(),
            Some(KnownServer::Gortsplib)
        );
        let zlm = server("ZLMediaKit(git hash:abc)");
        assert_eq!(zlm.words_for_no(), Some(KnownServer::ZlMediaKit));
        assert_eq!(server("VLC/3.0.24").words_for_no(), Some(KnownServer::Vlc));
        let go2rtc = ServerIdentity {
            session_name: Some("go2rtc"),
            ..ServerIdentity::default()
        };
        assert_eq!(go2rtc.words_for_no(), Some(KnownServer::Go2Rtc));
        for other in ["VLC", "Hikvision", "my gortsplib", ""] {
            assert_eq!(server(other).words_for_no(), None, "{other}");
        }
    }

    #[test]
    fn families_that_stand_a_trial_while_something_plays() {
        assert!(server("GStreamer RTSP server").is_safe_in_band());
        // They handle what comes while they work on a DESCRIBE inside it.
        for version in ["v2014.07.04", "v2017.06.04", "v2026.08.07"] {
            let text = format!("LIVE555 Streaming Media {version}");
            assert!(!tool(&text).is_safe_in_band(), "{version}");
        }
        assert!(!tool("libavformat v2020.01.01").is_safe_in_band());
        assert!(!ServerIdentity::default().is_safe_in_band());
    }

    #[test]
    fn another_camera_of_a_recorder_is_no_other_server() {
        let name = |text: &str| Fingerprint::SessionName(text.to_owned());
        assert!(!name("ch1").is_contradicted_by(&name("ch2")));
        assert!(name("go2rtc").is_contradicted_by(&name("ch2")));
        assert!(name("go2rtc/1.9.14").is_contradicted_by(&name("ch2")));
        assert!(!name("go2rtc/1.9.14").is_contradicted_by(&name("go2rtc/1.9.15")));
        let first = Fingerprint::Server("a/1".to_owned());
        assert!(first.is_contradicted_by(&Fingerprint::Server("a/2".to_owned())));
        assert!(!first.is_contradicted_by(&name("ch1")));
        assert!(first.is_contradicted_by(&name("go2rtc/1.9.14")));
        assert!(name("go2rtc/1.9.14").is_contradicted_by(&first));
    }
}
