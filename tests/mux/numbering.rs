//! Servers whose answers have the wrong `CSeq`, or none, with many cameras.

use std::time::Instant;

use gstrtspmux::mux::{Multiplex, Pooling, Session};

use crate::{
    player::{assert_own_media, camera_url, mux, try_all, with_credentials, within_patience},
    support::{
        mock_server::{Algorithm, Auth, Family, MockServer, Reaction, Rule},
        rtsp::{Headers, Response},
    },
};

/// What stands in place of the number of the request; none: nothing.
#[derive(Clone, Copy, Debug)]
enum Numbering {
    Always(u32),
    OneBehind,
    Absent,
}

impl Numbering {
    fn edit(self, response: &mut Response) {
        let number = response.headers.cseq().unwrap_or_default();
        let mut headers = Headers::default();
        match self {
            Self::Always(number) => headers.push("CSeq", number.to_string()),
            Self::OneBehind => headers.push("CSeq", number.saturating_sub(1).to_string()),
            Self::Absent => {}
        }
        for (name, value) in response.headers.iter() {
            if !name.eq_ignore_ascii_case("CSeq") {
                headers.push(name, value);
            }
        }
        response.headers = headers;
    }
}

async fn all_play(
    (numbering, family): (Numbering, Family),
    multiplex: Multiplex,
    cameras: u32,
    auth: Option<&Auth>,
) {
    let edit = move |response: &mut Response| numbering.edit(response);
    let builder = MockServer::builder()
        .cameras(cameras)
        .family(family)
        .rule(Rule::new("*", Reaction::edit(edit)));
    let server = match auth {
        Some(auth) => builder.credentials(auth.clone()).start(),
        None => builder.start(),
    };
    let pooling = Pooling {
        multiplex,
        ..Pooling::default()
    };
    let url = |camera| with_credentials(&camera_url(&server, camera), "viewer", "right");
    let urls = (1..=cameras).map(url);
    let (mux, began) = (mux(), Instant::now());
    let results = within_patience(try_all(&mux, urls, &pooling)).await;
    let password = auth.map_or("no password", |_| "password");
    let case = format!("{numbering:?} {family:?} {multiplex:?}, {cameras} cameras, {password}");
    println!(
        "{case}: {:?}, {} connections",
        began.elapsed(),
        server.accepted()
    );
    let sessions = results.into_iter().enumerate().map(|(camera, result)| {
        result.unwrap_or_else(|error| panic!("{case}: camera {}: {error}", camera + 1))
    });
    let mut sessions: Vec<Session> = sessions.collect();
    assert_own_media(&server, &mut sessions).await;
}

/// With and without a password.
async fn all_play_in_all_ways(numbering: Numbering) {
    let digest = Auth::Digest {
        algorithm: Algorithm::Md5,
        user: "viewer".to_owned(),
        password: "right".to_owned(),
    };
    for family in [Family::Gst, Family::Live555] {
        for multiplex in [Multiplex::Auto, Multiplex::Never, Multiplex::Always] {
            for cameras in [1, 2, 16] {
                for auth in [None, Some(&digest)] {
                    all_play((numbering, family), multiplex, cameras, auth).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn f43_all_cameras_play_where_each_answer_has_the_number_0() {
    all_play_in_all_ways(Numbering::Always(0)).await;
}

/// It is right once.
#[tokio::test]
async fn f43_all_cameras_play_where_each_answer_has_the_number_1() {
    all_play_in_all_ways(Numbering::Always(1)).await;
}

#[tokio::test]
async fn f43_all_cameras_play_where_each_answer_has_the_number_of_the_request_before() {
    all_play_in_all_ways(Numbering::OneBehind).await;
}

#[tokio::test]
async fn f43_all_cameras_play_where_no_answer_has_a_number() {
    all_play_in_all_ways(Numbering::Absent).await;
}
