//! What makes us think that a server cannot share.

use std::fmt;

use super::fingerprint::KnownServer;
use crate::mux::proto::SharingViolation;

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
        match self {
            Self::Violation(SharingViolation::SameSessionId) => "same-session-id".to_owned(),
            Self::Violation(SharingViolation::SameChannels) => "same-channels".to_owned(),
            Self::SameDescription => "same-description".to_owned(),
            Self::Status(code) => format!("status-{code}"),
            Self::Closed => "closed".to_owned(),
            Self::Unanswered => "unanswered".to_owned(),
            // What is called broke-off in older files was also said of servers that had been restarted.
            Self::BrokeOff => "broke-off-2".to_owned(),
            Self::Crashes => "crashes".to_owned(),
            Self::KnownServer(words) => format!("words-{}", words.name()),
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
        Some(match code {
            "same-session-id" => Self::Violation(SharingViolation::SameSessionId),
            "same-channels" => Self::Violation(SharingViolation::SameChannels),
            "same-description" => Self::SameDescription,
            "closed" => Self::Closed,
            "unanswered" => Self::Unanswered,
            "broke-off-2" => Self::BrokeOff,
            "crashes" => Self::Crashes,
            _ => return None,
        })
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
