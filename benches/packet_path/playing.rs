//! A connection with playing sessions, and the bytes a server sends on it.

use std::time::Instant;

use bytes::BytesMut;
use gstrtspmux::mux::proto::{
    Connection, ConnectionConfig, PlayRange, Profile, RequestId, SessionConfig, SessionKey,
    SessionRequest, SourcePolicy,
};
use url::Url;

/// Payload of an RTP packet of a camera, header included.
pub(crate) const PACKET: usize = 1400;

/// A connection on which `sessions` sessions play one stream each, on channels 0, 2, 4, ...
pub(crate) fn connection(sessions: u8, now: Instant) -> Connection {
    let config = ConnectionConfig {
        user_agent: "bench".to_owned(),
        seed: 1,
        ..ConnectionConfig::default()
    };
    let mut connection = Connection::new(config, now);
    for session in 0..sessions {
        set_up(&mut connection, session, now);
    }
    while connection.poll_event().is_some() {}
    connection
}

fn set_up(connection: &mut Connection, session: u8, now: Instant) {
    let url = Url::parse(&format!("rtsp://nvr/{session}")).expect("a URL");
    let key = connection
        .open_session(SessionConfig {
            url: url.clone(),
            keep_alive: false,
            block_size: None,
        })
        .expect("a session");
    let setup = SessionRequest::Setup {
        stream: 0,
        control: url.clone(),
        profile: Profile::Avp,
        payload_types: vec![96],
        sources: SourcePolicy::default(),
    };
    exchange(
        connection,
        key,
        setup,
        session,
        2 * u32::from(session) + 1,
        now,
    );
    let play = SessionRequest::Play {
        aggregate: url,
        range: PlayRange::Start,
    };
    exchange(
        connection,
        key,
        play,
        session,
        2 * u32::from(session) + 2,
        now,
    );
}

/// Sends one request and answers it at once.
fn exchange(
    connection: &mut Connection,
    key: SessionKey,
    request: SessionRequest,
    session: u8,
    cseq: u32,
    now: Instant,
) {
    connection.request(now, key, RequestId(u64::from(cseq)), request);
    while connection.poll_transmit().is_some() {}
    let channel = 2 * session;
    let answer = format!(
        "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: s{session}\r\n\
         Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{}\r\n\r\n",
        channel + 1
    );
    connection.handle_input(now, &mut BytesMut::from(answer.as_bytes()), drop);
}

/// `packets` interleaved RTP packets, the sessions taking turns.
pub(crate) fn stream(sessions: u8, packets: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(packets * (PACKET + 4));
    for packet in 0..packets {
        let session = (packet % usize::from(sessions)) as u8;
        bytes.extend_from_slice(&[b'$', 2 * session]);
        bytes.extend_from_slice(&(PACKET as u16).to_be_bytes());
        bytes.extend_from_slice(&[0x80, 96]);
        bytes.extend_from_slice(&(packet as u16).to_be_bytes());
        bytes.resize(bytes.len() + PACKET - 4, 0);
    }
    bytes
}
