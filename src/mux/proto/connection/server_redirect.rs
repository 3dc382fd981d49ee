//! REDIRECT: the server sends a session, or all sessions of the connection, elsewhere (RFC 2326 10.10,
//! fault F55).
//!
//! The core only tells which session is to go where, and when. The session is set up at the target before
//! it leaves, and stays if that fails, so it is up to its user to follow.
//!
//! A REDIRECT is for one session if it has a `Session` header, or else if its Request-URI is that of a
//! session. Otherwise it is for the connection (RFC 7826 13.10): no session is added to it any more.

use std::time::{Duration, Instant};

use url::Url;

use super::{Connection, session::CoreSession};
use crate::mux::proto::{
    auth::credentials::Credentials,
    command::SessionKey,
    event::{Event, Redirect, RedirectTime, Retirement},
    wire::{
        header::parse_session,
        message::{Headers, Message},
        sdp::{npt, utc_since_1970},
        uri,
    },
};

/// A time that is further away is that of a clock that was never set. The session may leave before the
/// time that the server names, because it stays where it is if the target has nothing for it yet.
const LATEST: Duration = Duration::from_secs(3600);

impl Connection {
    /// The server sends one or all sessions elsewhere. A `Location` that names no RTSP server is ignored.
    pub(super) fn on_server_redirect(
        &mut self,
        now: Instant,
        request_uri: &str,
        request: &Message,
    ) {
        let location = match request.headers.first("Location").map(str::trim) {
            None | Some("") => None,
            Some(location) => match Destination::parse(location) {
                Some(target) => Some(target),
                None => return,
            },
        };
        let (sessions, is_for_all) = self.redirected(request_uri, request);
        // One resource is no target for several.
        let mut urls = sessions.iter().filter_map(|key| self.sessions.get(key));
        let first = urls.next().map(|session| &session.config.url);
        let is_one = urls.all(|session| Some(&session.config.url) == first);
        for key in sessions {
            let Some(session) = self.sessions.get(&key) else {
                continue;
            };
            let target = location.as_ref();
            let target = target.and_then(|target| target.of(&session.config.url, is_one));
            let (location, credentials) = target.unzip();
            let redirect = Redirect {
                location,
                credentials: credentials.flatten(),
                when: time(&request.headers, session.played(now)),
            };
            self.events.push_back(Event::Redirected {
                session: key,
                redirect,
            });
        }
        if is_for_all {
            self.retire(Retirement::Redirected);
        }
    }

    /// The sessions that a REDIRECT is for, and whether it is for the connection.
    fn redirected(&self, request_uri: &str, request: &Message) -> (Vec<SessionKey>, bool) {
        let is_there = |session: &CoreSession| session.is_set_up() && !session.is_tearing_down();
        if let Some(named) = request.headers.first("Session").and_then(parse_session) {
            let is_it =
                |it: &CoreSession| is_there(it) && it.id.as_deref() == Some(named.id.as_str());
            return (self.sessions.keys_where(is_it), false);
        }
        let asked = uri::parse(request_uri).ok();
        let is_it = |it: &CoreSession| {
            let asked = asked.as_ref().map(resource);
            is_there(it)
                && (asked == Some(resource(&it.config.url))
                    || asked == Some(resource(it.aggregate())))
        };
        match self.sessions.keys_where(is_it) {
            none if none.is_empty() => (self.sessions.keys_where(is_there), true),
            sessions => (sessions, false),
        }
    }
}

/// What a URL names at its server, which may call itself otherwise than its clients do.
fn resource(url: &Url) -> (&str, Option<&str>) {
    (url.path().trim_end_matches('/'), url.query())
}

/// Where a `Location` leads to.
enum Destination {
    /// An absolute URL, and the credentials in it.
    Absolute(Url, Option<Box<Credentials>>),
    /// A path at the same server.
    Path(String),
}

impl Destination {
    fn parse(location: &str) -> Option<Self> {
        if location.starts_with('/') {
            return Some(Self::Path(location.to_owned()));
        }
        let (url, credentials) = uri::parse_location(location, None)?;
        Some(Self::Absolute(url, credentials.map(Box::new)))
    }

    /// The target of the session with this URL. It keeps its path where the `Location` has none, and where
    /// the `Location` would lead sessions of several URLs to one.
    fn of(&self, session: &Url, is_one: bool) -> Option<(Url, Option<Box<Credentials>>)> {
        match self {
            Self::Path(path) if is_one => Some((session.join(path).ok()?, None)),
            Self::Path(_) => None,
            Self::Absolute(url, credentials) => {
                let mut url = url.clone();
                let has_none = matches!(url.path(), "" | "/") && url.query().is_none();
                if has_none || !is_one {
                    url.set_path(session.path());
                    url.set_query(session.query());
                }
                Some((url, credentials.clone()))
            }
        }
    }
}

/// When a REDIRECT takes effect: at a position of the session's media, or at a time of the server's
/// clock, from its `Range` (RFC 2326 12.29) or `Terminate-Reason` (RFC 7826 18.52). `played`: how much of the
/// session has passed.
fn time(headers: &Headers, played: Duration) -> RedirectTime {
    let range = headers.first("Range").unwrap_or_default();
    let parameters = [range, headers.first("Terminate-Reason").unwrap_or_default()];
    let named = parameters.iter().flat_map(|it| it.split(';').skip(1));
    let named = named.filter_map(|it| it.trim().strip_prefix("time="));
    let (unit, begin) = range.split_once('=').unwrap_or_default();
    let begin = begin.split(['-', ';']).next().unwrap_or_default().trim();
    let at = match unit.trim() {
        "clock" => named.chain([begin]).find_map(utc_since_1970),
        _ => named.filter_map(utc_since_1970).next(),
    };
    let position = npt(begin).filter(|_| unit.trim() == "npt" && !begin.is_empty());
    let position = position.and_then(|it| Duration::try_from_secs_f64(it).ok());
    let is_near = |wait: &Duration| *wait <= LATEST;
    let server = headers.first("Date").and_then(date);
    let wait = match (at, server, position) {
        (Some(at), None, _) => return RedirectTime::At(at),
        (Some(at), Some(server), _) => at.saturating_sub(server),
        (None, _, position) => position.unwrap_or_default().saturating_sub(played),
    };
    RedirectTime::After(Some(wait).filter(is_near).unwrap_or_default())
}

/// `Date`, as far as 1970 was before it. live555 writes the month before the day.
fn date(value: &str) -> Option<Duration> {
    const MONTHS: &str = "janfebmaraprmayjunjulaugsepoctnovdec";
    let (mut day, mut month, mut year, mut time) = (None, None, None, None);
    for word in value.split([',', ' ', '-']).filter(|word| !word.is_empty()) {
        let name = word.get(..3).unwrap_or(word).to_ascii_lowercase();
        match word.parse::<u32>() {
            Ok(number) if number > 31 => year = Some(number),
            Ok(number) => day = Some(number),
            Err(_) if word.contains(':') => time = Some(word.replace(':', "")),
            Err(_) if name.len() == 3 && month.is_none() => {
                let at = MONTHS.find(&name).filter(|at| at % 3 == 0);
                month = at.map(|at| at / 3 + 1);
            }
            Err(_) => {}
        }
    }
    let (day, month, year, time) = (day?, month?, year?, time?);
    utc_since_1970(&format!("{year:04}{month:02}{day:02}T{time}Z"))
}

impl RedirectTime {
    /// How long it is until then. `since_1970` is the time of our own clock, for a server that does not tell
    /// its own.
    pub fn wait(self, since_1970: Duration) -> Duration {
        match self {
            Self::After(wait) => wait,
            Self::At(at) => {
                let wait = at.saturating_sub(since_1970);
                Some(wait).filter(|it| *it <= LATEST).unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::proto::wire::message::parse_head;

    const S: Duration = Duration::from_secs(1);

    fn of(location: &str, session: &str, is_one: bool) -> Option<String> {
        let (url, _) = Destination::parse(location)?.of(&uri::parse(session).unwrap(), is_one)?;
        Some(url.to_string())
    }

    #[test]
    fn f55_a_location_without_a_path_or_for_several_cameras_leaves_each_its_own() {
        let (one, several) = (true, false);
        for (location, session, is_one, target) in [
            (
                "rtsp://b:8001",
                "rtsp://a/cam?c=1",
                one,
                "rtsp://b:8001/cam?c=1",
            ),
            ("rtsp://b/", "rtsp://a/cam", one, "rtsp://b/cam"),
            ("rtsp://b/other", "rtsp://a/cam", one, "rtsp://b/other"),
            ("rtsp://b/other", "rtsp://a/cam", several, "rtsp://b/cam"),
            ("rtsp://b:554", "rtsp://a/cam", several, "rtsp://b:554/cam"),
            ("/other", "rtsp://a:1/cam", one, "rtsp://a:1/other"),
            ("rtsp://u:p@b/c", "rtsp://a/cam", one, "rtsp://b/c"),
            (
                "rtsp://b/a%7Bb%7D",
                "rtsp://a/cam",
                one,
                "rtsp://b/a%7Bb%7D",
            ),
        ] {
            let found = of(location, session, is_one);
            assert_eq!(found.as_deref(), Some(target), "{location} {session}");
        }
        for location in ["b/c", "rtsp:/", "a\r\nb"] {
            assert_eq!(of(location, "rtsp://a/cam", true), None, "{location:?}");
        }
    }

    fn at(headers: &str, played: Duration) -> RedirectTime {
        let text = format!("REDIRECT * RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n");
        time(&parse_head(text.as_bytes()).unwrap().1, played)
    }

    #[test]
    fn f55_it_takes_effect_at_the_time_or_position_that_it_names() {
        let now = RedirectTime::After(Duration::ZERO);
        let date = "Date: Tue, 05 Nov 1996 08:00:00 GMT\r\n";
        for (headers, expected) in [
            ("", now),
            ("Range: npt=0-\r\n", now),
            ("Range: npt=now-\r\n", now),
            ("Range: npt=x-\r\n", now),
            ("Range: npt=15-\r\n", RedirectTime::After(5 * S)),
            ("Range: npt=0:00:15.5-\r\n", RedirectTime::After(11 * S / 2)),
            ("Range: npt=5-\r\n", now),
            ("Range: npt=99999-\r\n", now),
            (
                "Range: clock=19961105T080010Z-\r\n",
                RedirectTime::At(847_180_810 * S),
            ),
            (
                "Range: npt=0-;time=19961105T080010Z\r\n",
                RedirectTime::At(847_180_810 * S),
            ),
            (
                "Terminate-Reason: Server-Admin;time=19961105T080010Z\r\n",
                RedirectTime::At(847_180_810 * S),
            ),
            ("Range: clock=yesterday-\r\n", now),
        ] {
            assert_eq!(at(headers, 10 * S), expected, "{headers}");
        }
        let with_date = |headers: &str| at(&format!("{date}{headers}"), S);
        let clock = |time: &str| with_date(&format!("Range: clock=1996110{time}Z-\r\n"));
        let live555 = "Date:  Tue, Nov 05 1996 08:00:00 GMT\r\nRange: clock=19961105T080010Z-\r\n";
        assert_eq!(at(live555, S), RedirectTime::After(10 * S));
        assert_eq!(clock("5T080010"), RedirectTime::After(10 * S));
        assert_eq!(clock("5T075900"), now, "it is over");
        assert_eq!(clock("6T080000"), now, "too far away to be true");
    }

    #[test]
    fn f55_a_time_is_that_of_our_clock_where_the_server_does_not_tell_its_own() {
        let now = 1_000_000 * S;
        for (at, wait) in [(now + 3 * S, 3), (now - S, 0), (2 * now, 0)] {
            assert_eq!(RedirectTime::At(at).wait(now), wait * S);
        }
    }
}
