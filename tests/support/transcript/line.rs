//! The words of one line: quoted strings, durations, expectations, what a server sends.

use std::time::Duration;

use super::{Expect, Step};
use crate::support::rtsp::{Frame, RtpPacket, SenderReport, rtcp_bye};

/// A word of a line; a quoted one holds bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Bare(String),
    Quoted(Vec<u8>),
}

/// Splits at blanks, outside of quotes.
pub(super) fn words(mut text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return Ok(words);
        }
        if let Some(rest) = text.strip_prefix('"') {
            let (bytes, rest) = quoted(rest)?;
            words.push(Word::Quoted(bytes));
            text = rest;
        } else {
            let end = text.find(' ').unwrap_or(text.len());
            words.push(Word::Bare(text[..end].to_owned()));
            text = &text[end..];
        }
    }
}

/// What stands between two quotes, and what follows; the opening quote is gone already. `"ab"*3` is `ababab`.
fn quoted(text: &str) -> Result<(Vec<u8>, &str), String> {
    let mut bytes = Vec::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return repeated(bytes, &text[at + 1..]),
            '\\' => {
                let (_, escape) = chars.next().ok_or("a lone \\ at the end")?;
                bytes.push(match escape {
                    'r' => b'\r',
                    'n' => b'\n',
                    't' => b'\t',
                    '0' => 0,
                    '\\' | '"' => escape as u8,
                    'x' => {
                        let digits: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                        u8::from_str_radix(&digits, 16)
                            .map_err(|_| format!("escape \\x{digits}"))?
                    }
                    other => return Err(format!("escape \\{other}")),
                });
            }
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("a string without its closing quote".to_owned())
}

fn repeated(bytes: Vec<u8>, rest: &str) -> Result<(Vec<u8>, &str), String> {
    let Some(rest) = rest.strip_prefix('*') else {
        return Ok((bytes, rest));
    };
    let end = rest.find(' ').unwrap_or(rest.len());
    let times: usize = number(&rest[..end])?;
    Ok((bytes.repeat(times), &rest[end..]))
}

/// A decimal number, or a hexadecimal one after `0x`.
pub(super) fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    value
        .ok()
        .and_then(|v| T::try_from(v).ok())
        .ok_or_else(|| format!("{text:?} is no number of the right size"))
}

/// `15s`, `250ms`, `2m`, `3h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let count: u64 = number(count)?;
    match unit {
        "us" => Ok(Duration::from_micros(count)),
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_secs(count * 60)),
        "h" => Ok(Duration::from_secs(count * 3600)),
        _ => Err(format!("a time like 15s or 250ms, not {text:?}")),
    }
}

/// Cuts `  @word key=value` off the end; two blanks before the `@`, which must not stand in a string.
pub(super) fn split_expect(text: &str) -> Result<(&str, Option<Expect>), String> {
    let mut in_quotes = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_quotes => escaped = true,
            '"' => in_quotes = !in_quotes,
            '@' if !in_quotes && text[..at].ends_with("  ") => {
                return Ok((text[..at].trim_end(), Some(expect(&text[at + 1..])?)));
            }
            _ => {}
        }
    }
    Ok((text, None))
}

/// What follows the `@`.
pub(super) fn expect(text: &str) -> Result<Expect, String> {
    let mut result = Expect::default();
    for word in words(text)? {
        let word = match word {
            Word::Bare(word) => word,
            Word::Quoted(bytes) => bytes.iter().map(|&b| char::from(b)).collect(),
        };
        match word.split_once('=') {
            Some(("session", label)) => result.label = Some(number(label)?),
            Some((key, value)) => {
                result.fields.insert(key.to_owned(), value.to_owned());
            }
            None if result.what.is_empty()
                && result.label.is_none()
                && number::<u32>(&word).is_ok() =>
            {
                result.label = Some(number(&word)?);
            }
            None if result.what.is_empty() => result.what = word,
            None => {
                result.fields.insert(word, String::new());
            }
        }
    }
    match result.what.as_str() {
        "" => Err("an expectation without a word".to_owned()),
        _ => Ok(result),
    }
}

/// `1 open rtsp://nvr/1 user=u`.
pub(super) fn action(text: &str) -> Result<(u32, Vec<String>), String> {
    let mut words = words(text)?.into_iter();
    let label = match words.next() {
        Some(Word::Bare(label)) => number(&label)?,
        _ => return Err("an action starts with the number of its session".to_owned()),
    };
    let words: Vec<String> = words
        .map(|word| match word {
            Word::Bare(word) => word,
            Word::Quoted(bytes) => bytes.iter().map(|&b| char::from(b)).collect(),
        })
        .collect();
    match words.is_empty() {
        true => Err("an action without a verb".to_owned()),
        false => Ok((label, words)),
    }
}

/// A start line and header lines, kept exactly as written, and the body lines that follow.
pub(super) struct ServerMessage {
    lines: Vec<String>,
    body: Vec<u8>,
}

impl ServerMessage {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<String> = text.split(" | ").map(str::to_owned).collect();
        let start = lines.first().map(String::as_str).unwrap_or_default();
        if !start.starts_with("RTSP/1.0 ") && !start.ends_with(" RTSP/1.0") {
            return Err(format!("neither status line nor request line: {start:?}"));
        }
        Ok(Self {
            lines,
            body: Vec::new(),
        })
    }

    pub(super) fn push_body_line(&mut self, line: &str) {
        self.body.extend_from_slice(line.as_bytes());
        self.body.extend_from_slice(b"\r\n");
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let has_length = self
            .lines
            .iter()
            .any(|line| line.to_ascii_lowercase().starts_with("content-length"));
        if !self.body.is_empty() && !has_length {
            self.lines
                .push(format!("Content-Length: {}", self.body.len()));
        }
        let mut bytes = self.lines.join("\r\n").into_bytes();
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.append(&mut self.body);
        bytes
    }
}

/// `6 rtp pt=96 seq=1 ts=0 ssrc=1 "x"`, `7 rtcp sr ssrc=1 ntp=2 ts=3`, `7 rtcp bye ssrc=1`, `6 raw "..."`.
pub(super) fn server_frame(text: &str) -> Result<Vec<u8>, String> {
    let words = words(text)?;
    let mut bare = words.iter().filter_map(|word| match word {
        Word::Bare(word) => Some(word.as_str()),
        Word::Quoted(_) => None,
    });
    let channel = number(bare.next().unwrap_or_default())?;
    let kind = bare.next().unwrap_or_default();
    let rest: Vec<&str> = bare.collect();
    let payload = match (kind, rest.split_first()) {
        ("rtp", _) => rtp(&rest, strings(&words))?,
        ("rtcp", Some((&"sr", fields))) => sender_report(fields)?,
        ("rtcp", Some((&"bye", fields))) => {
            rtcp_bye(Fields::new(fields, &["ssrc"])?.number("ssrc")?)
        }
        ("raw", None) => strings(&words),
        _ => return Err("rtp, rtcp sr, rtcp bye or raw".to_owned()),
    };
    Ok(Frame { channel, payload }.to_bytes())
}

fn rtp(fields: &[&str], payload: Vec<u8>) -> Result<Vec<u8>, String> {
    let fields = Fields::new(fields, &["pt", "seq", "ts", "ssrc", "marker"])?;
    let packet = RtpPacket {
        payload_type: fields.number("pt")?,
        sequence: fields.number("seq")?,
        timestamp: fields.number("ts")?,
        ssrc: fields.number("ssrc")?,
        marker: fields.number::<u8>("marker")? != 0,
        payload,
    };
    Ok(packet.to_bytes())
}

fn sender_report(fields: &[&str]) -> Result<Vec<u8>, String> {
    let fields = Fields::new(fields, &["ssrc", "ntp", "ts", "packets", "octets"])?;
    let report = SenderReport {
        ssrc: fields.number("ssrc")?,
        ntp: fields.number("ntp")?,
        timestamp: fields.number("ts")?,
        packets: fields.number("packets")?,
        octets: fields.number("octets")?,
    };
    Ok(report.to_bytes())
}

/// `raw "..."`, `eof`, `reset`.
pub(super) fn server_event(
    line: usize,
    text: &str,
    expect: Option<Expect>,
) -> Result<Step, String> {
    let words = words(text)?;
    match words.first() {
        Some(Word::Bare(word)) if word == "raw" => Ok(Step::ServerBytes {
            line,
            bytes: strings(&words),
            expect,
        }),
        Some(Word::Bare(word)) if word == "eof" || word == "reset" => Ok(Step::ServerClose {
            line,
            reset: word == "reset",
            expect,
        }),
        _ => Err("S! raw, S! eof or S! reset".to_owned()),
    }
}

/// All quoted words of a line, joined.
pub(super) fn strings(words: &[Word]) -> Vec<u8> {
    words
        .iter()
        .filter_map(|word| match word {
            Word::Quoted(bytes) => Some(bytes.as_slice()),
            Word::Bare(_) => None,
        })
        .collect::<Vec<_>>()
        .concat()
}

/// `key=number` words; what is not given is 0.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    fn new(words: &[&'a str], known: &[&str]) -> Result<Self, String> {
        words
            .iter()
            .map(|word| match word.split_once('=') {
                Some((key, value)) if known.contains(&key) => Ok((key, value)),
                _ => Err(format!("{word:?} is none of {known:?}")),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn number<T: TryFrom<u64>>(&self, key: &str) -> Result<T, String> {
        let value = self.0.iter().find(|(k, _)| *k == key);
        number(value.map_or("0", |(_, v)| v))
    }
}
