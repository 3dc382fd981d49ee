//! Answers whose heads are written in odd ways, of one of four cameras.

use super::{Kind, PATH, PICTURE, SOUND, Tls, play_all};
use crate::player::{for_both_managers, use_manager};
use crate::support::mock_server::{Behaviour, Reaction, Rule};
use crate::support::rtsp::Response;

fn with_line_ends(answer: &[u8], line: &str) -> Vec<u8> {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = answer.split_at(end);
    let head = String::from_utf8_lossy(head).replace("\r\n", line);
    [head.as_bytes(), body].concat()
}

/// Each second line ends with something else.
fn mixed(answer: &[u8]) -> Vec<u8> {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let (head, rest) = answer.split_at(end);
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let mut text = lines.next().unwrap().to_owned();
    for (line, end) in lines.zip(["\r", "\n", "\r\n"].into_iter().cycle()) {
        text += &format!("{end}{line}");
    }
    [text.as_bytes(), rest].concat()
}

fn with_odd_line_ends() -> Vec<Kind> {
    type Rewrite = fn(&[u8]) -> Vec<u8>;
    let kinds: [(&str, Rewrite); 6] = [
        ("CR", |answer| with_line_ends(answer, "\r")),
        ("LF", |answer| with_line_ends(answer, "\n")),
        ("LF CR", |answer| with_line_ends(answer, "\n\r")),
        ("CR CR LF", |answer| with_line_ends(answer, "\r\r\n")),
        ("mixed", mixed),
        ("tabs", |answer| {
            let text = String::from_utf8_lossy(answer);
            text.replacen("RTSP/1.0 200 OK", "RTSP/1.0\t200\tOK", 1)
                .into()
        }),
    ];
    let kind = |(name, rewrite)| {
        Kind::new(format!("lines end with {name}")).rule(Rule::new("*", Reaction::Rewrite(rewrite)))
    };
    kinds.map(kind).into()
}

/// A header more in each answer.
fn header(method: &str, name: &'static str, value: &'static str) -> Rule {
    let edit = move |response: &mut Response| response.headers.set(name, value);
    Rule::new(method, Reaction::edit(edit))
}

fn with_octets() -> Vec<Kind> {
    let based = Reaction::edit(|response| {
        let base = response.headers.value("Content-Base").map(str::to_owned);
        if let Some(base) = base {
            response
                .headers
                .set("Content-Base", format!("{base}\u{e9}/"));
        }
    });
    let kind = |name: &str| Kind::new(name).server(|builder| builder.behaviour(Behaviour::Latin1));
    vec![
        kind("session ids"),
        kind("Public").rule(header("OPTIONS", "Public", "PLAY, \u{e9}, GET_PARAMETER")),
        kind("Server").rule(header("*", "Server", "Cam\u{e9}ra\u{85}")),
        kind("RTP-Info").rule(header("PLAY", "RTP-Info", "url=rtsp://x/\u{e9};seq=0")),
        kind("Content-Base").rule(Rule::new("DESCRIBE", based)),
        kind("a control URL in UTF-8").described(&format!(
            "{}{SOUND}",
            PICTURE.replace("stream=0", "\u{e9}/stream=0")
        )),
    ]
}

fn with_odd_schemes() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for scheme in ["RTSP", "rtspu", "rtspt", "rtspsu", "RTSPU"] {
        let media = format!("{PICTURE}{SOUND}");
        let media = media.replace("control:", &format!("control:{scheme}://nvr{PATH}/"));
        kinds.push(Kind::new(format!("controls of {scheme}")).described(&media));
        let base = move |response: &mut Response| {
            response
                .headers
                .set("Content-Base", format!("{scheme}://nvr{PATH}/"));
        };
        let based = |name| {
            Kind::new(format!("{name} of {scheme}"))
                .rule(Rule::new("DESCRIBE", Reaction::edit(base)))
        };
        kinds.push(based("a base"));
        let info = move |response: &mut Response| {
            let info = format!("url={scheme}://nvr{PATH}/stream=0;seq=0;rtptime=0");
            response.headers.set("RTP-Info", info);
        };
        kinds.push(
            Kind::new(format!("RTP-Info of {scheme}"))
                .rule(Rule::new("PLAY", Reaction::edit(info))),
        );
    }
    for (scheme, status) in [("rtspu", 400), ("rtspu", 404), ("rtspt", 451)] {
        let media = format!("{PICTURE}{SOUND}");
        let media = media.replace("control:", &format!("control:{scheme}://nvr{PATH}/"));
        kinds.push(
            Kind::new(format!("controls of {scheme}, or {status}"))
                .described(&media)
                .rule(Rule::new("SETUP", Reaction::status(status)).scheme(scheme)),
        );
    }
    kinds
}

/// A SETUP that is refused once, of each stream.
fn with_refusals() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for status in [
        400, 403, 404, 406, 451, 453, 454, 455, 459, 460, 500, 501, 503, 551,
    ] {
        for stream in 0..2 {
            let rule =
                Rule::new("SETUP", Reaction::status(status)).control(&format!("stream={stream}"));
            let kind = Kind::new(format!("{status} once to the SETUP of stream {stream}"));
            kinds.push(kind.rule(rule.times(1)));
        }
    }
    // A base without a slash has two readings, and the first one is right.
    let bare = |response: &mut Response| {
        let base = response.headers.value("Content-Base").map(str::to_owned);
        let base = base.unwrap_or_default();
        response
            .headers
            .set("Content-Base", base.trim_end_matches('/'));
    };
    kinds.push(
        Kind::new("404 once, beside another reading of the control")
            .rule(Rule::new("DESCRIBE", Reaction::edit(bare)))
            .rule(Rule::new("SETUP", Reaction::status(404)).times(1))
            .rule(Rule::new("SETUP", Reaction::status(404)).control("cam/stream=0"))
            .rule(Rule::new("SETUP", Reaction::status(404)).control("cam/stream=1")),
    );
    kinds
}

/// Both streams send, whatever the description says of the picture.
fn with_odd_directions() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for direction in ["inactive", "recvonly", "sendrecv", "sendonly", "InActive"] {
        let line = format!("a={direction}\r\n");
        for media in [
            format!("{PICTURE}{line}{SOUND}"),
            format!("{PICTURE}{line}{SOUND}{line}"),
            format!("{line}{PICTURE}{SOUND}"),
            format!("{line}{PICTURE}{SOUND}a=recvonly\r\n"),
        ] {
            kinds.push(Kind::new(media.clone()).described(&media));
        }
    }
    kinds
}

#[test]
fn a_camera_with_odd_line_ends_plays_as_one_of_four() {
    play_all(with_odd_line_ends());
}

#[test]
fn a_camera_with_octets_in_its_headers_plays_as_one_of_four() {
    play_all(with_octets());
}

#[test]
fn a_camera_that_names_other_schemes_plays_as_one_of_four() {
    play_all(with_odd_schemes());
}

#[test]
fn a_camera_that_refuses_a_setup_once_plays_whole_as_one_of_four() {
    play_all(with_refusals());
}

for_both_managers!(a_camera_plays_whatever_direction_it_names_as_one_of_four);
fn a_camera_plays_whatever_direction_it_names_as_one_of_four() {
    play_all(with_odd_directions());
}

#[test]
fn odd_heads_play_over_tls_as_well() {
    let tls = Tls::new("odd-heads-ca.pem");
    let kinds = [with_odd_line_ends(), with_octets(), with_odd_schemes()];
    for kind in kinds.into_iter().flatten() {
        kind.play(Some(&tls));
    }
}

/// Each second kind with what it has not been tried with above: TLS, rtpbin, and, every third of these, fifteen
/// others.
#[test]
fn odd_heads_play_over_tls_with_rtpbin_as_one_of_sixteen() {
    use_manager("rtpbin");
    let tls = Tls::new("odd-heads-of-sixteen-ca.pem");
    let kinds = [
        with_refusals(),
        with_odd_directions(),
        with_octets(),
        with_odd_schemes(),
        with_odd_line_ends(),
    ];
    for (at, kind) in kinds.into_iter().flatten().step_by(2).enumerate() {
        let kind = match at % 3 {
            0 => kind.one_of_sixteen(),
            _ => kind,
        };
        kind.play(Some(&tls));
    }
}
