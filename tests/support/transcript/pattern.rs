//! What the client must send: patterns, and the difference in words when it sends something else.

use super::line::{Word, number, strings, words};
use crate::support::rtsp::{Frame, Headers, Incoming, is_rtcp};

/// A message the client must send: a request, or the answer to one of the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedMessage {
    /// Its first line.
    pub start: ExpectedStart,
    /// Headers that must be there, or must not.
    pub headers: Vec<HeaderPattern>,
}

/// The first line of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedStart {
    /// A request.
    Request {
        /// Exactly this method.
        method: String,
        /// Exactly this URI; `*` is a wildcard here too.
        uri: String,
    },
    /// An answer with this status.
    Response {
        /// 200 ...
        status: u16,
    },
}

/// `Name: value`, where `*` in the value stands for anything, or `!Name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderPattern {
    /// Compared without case.
    pub name: String,
    /// `None`: the header must be absent.
    pub value: Option<String>,
}

impl ExpectedMessage {
    /// Reads what follows `C> `.
    ///
    /// # Errors
    /// When it does not follow the format.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(" | ");
        let start = parts.next().unwrap_or_default();
        let words: Vec<&str> = start.split_whitespace().collect();
        let start = match words[..] {
            ["RTSP/1.0", status, ..] => ExpectedStart::Response {
                status: number(status)?,
            },
            [method, uri] | [method, uri, "RTSP/1.0"] => ExpectedStart::Request {
                method: method.to_owned(),
                uri: uri.to_owned(),
            },
            _ => return Err(format!("neither request nor status line: {start:?}")),
        };
        let headers = parts.map(HeaderPattern::parse).collect::<Result<_, _>>()?;
        Ok(Self { start, headers })
    }

    /// The `CSeq` that is asked for, when it is a number.
    pub fn cseq(&self) -> Option<u32> {
        let header = self
            .headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case("CSeq"))?;
        header.value.as_ref()?.parse().ok()
    }

    /// What is wrong with `got`; `None` when it is as expected.
    pub fn mismatch(&self, got: &Incoming) -> Option<String> {
        let headers = match (&self.start, got) {
            (ExpectedStart::Request { method, uri }, Incoming::Request(got)) => {
                if *method != got.method {
                    return Some(format!("method {} instead of {method}", got.method));
                }
                if !glob(uri, &got.uri) {
                    return Some(format!("URI {} instead of {uri}", got.uri));
                }
                &got.headers
            }
            (ExpectedStart::Response { status }, Incoming::Response(got)) => {
                if *status != got.status {
                    return Some(format!("status {} instead of {status}", got.status));
                }
                &got.headers
            }
            (ExpectedStart::Request { .. }, _) => return Some("not a request".to_owned()),
            (ExpectedStart::Response { .. }, _) => return Some("not a response".to_owned()),
        };
        self.headers
            .iter()
            .find_map(|pattern| pattern.mismatch(headers))
    }
}

impl HeaderPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix('!') {
            return Ok(Self {
                name: name.to_owned(),
                value: None,
            });
        }
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| format!("a header is `Name: value` or `!Name`, not {text:?}"))?;
        Ok(Self {
            name: name.trim().to_owned(),
            value: Some(value.trim().to_owned()),
        })
    }

    fn mismatch(&self, headers: &Headers) -> Option<String> {
        let name = &self.name;
        let found: Vec<&str> = headers.values(name).collect();
        match &self.value {
            None if found.is_empty() => None,
            None => Some(format!("{name}: {} must not be there", found.join(", "))),
            Some(value) if found.iter().any(|got| glob(value, got)) => None,
            Some(value) if found.is_empty() => Some(format!("{name}: {value} is missing")),
            Some(value) => Some(format!("{name}: {} instead of {value}", found.join(", "))),
        }
    }
}

/// An interleaved frame the client must send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedFrame {
    /// `1 *`: any payload.
    Any {
        /// The channel number.
        channel: u8,
    },
    /// `1 rtcp *`: an RTCP packet.
    Rtcp {
        /// The channel number.
        channel: u8,
    },
    /// `1 "bytes"`: exactly this payload.
    Exact {
        /// The channel number.
        channel: u8,
        /// The payload.
        payload: Vec<u8>,
    },
}

impl ExpectedFrame {
    /// Reads what follows `C$ `.
    ///
    /// # Errors
    /// When it does not follow the format.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = words(text)?;
        let bare: Vec<&str> = words
            .iter()
            .filter_map(|word| match word {
                Word::Bare(word) => Some(word.as_str()),
                Word::Quoted(_) => None,
            })
            .collect();
        let has_string = bare.len() < words.len();
        match bare[..] {
            [channel, "*"] if !has_string => Ok(Self::Any {
                channel: number(channel)?,
            }),
            [channel, "rtcp", "*"] if !has_string => Ok(Self::Rtcp {
                channel: number(channel)?,
            }),
            [channel] if has_string => Ok(Self::Exact {
                channel: number(channel)?,
                payload: strings(&words),
            }),
            _ => Err(format!("C$ CHANNEL \"bytes\", rtcp * or *, not {text:?}")),
        }
    }

    /// The channel number.
    pub fn channel(&self) -> u8 {
        match self {
            Self::Any { channel } | Self::Rtcp { channel } | Self::Exact { channel, .. } => {
                *channel
            }
        }
    }

    /// What is wrong with `got`; `None` when it is as expected.
    pub fn mismatch(&self, got: &Frame) -> Option<String> {
        if got.channel != self.channel() {
            return Some(format!(
                "channel {} instead of {}",
                got.channel,
                self.channel()
            ));
        }
        match self {
            Self::Rtcp { .. } if !is_rtcp(&got.payload) => Some("not RTCP".to_owned()),
            Self::Exact { payload, .. } if *payload != got.payload => Some(format!(
                "payload \"{}\" instead of \"{}\"",
                got.payload.escape_ascii(),
                payload.escape_ascii()
            )),
            _ => None,
        }
    }
}

/// Does `text` match `pattern`, where `*` stands for any run of characters?
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(tail)
}
