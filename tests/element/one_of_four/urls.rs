//! URLs as people write them, of one of four cameras.

use super::{Kind, Tls, play_all};
use crate::support::mock_server::{Algorithm, Auth, Builder};

fn with_password(builder: Builder, password: &str) -> Builder {
    builder.credentials(Auth::Digest {
        algorithm: Algorithm::Md5,
        user: "admin".to_owned(),
        password: password.to_owned(),
    })
}

/// The neighbours write the same account in percent escapes.
fn kinds() -> Vec<Kind> {
    vec![
        Kind::new("# in the password")
            .server(|builder| with_password(builder, "pa#ss"))
            .hosts("admin:pa%23ss@", "admin:pa#ss@"),
        Kind::new("# at the beginning")
            .server(|builder| with_password(builder, "#1Cam"))
            .hosts("admin:%231Cam@", "admin:#1Cam@"),
        Kind::new("# as it is and escaped")
            .server(|builder| with_password(builder, "a#b#"))
            .hosts("admin:a%23b%23@", "admin:a#b%23@"),
        Kind::new("@ and : in the password")
            .server(|builder| with_password(builder, "p@s:s"))
            .hosts("admin:p%40s%3As@", "admin:p@s:s@"),
        Kind::new("address with a zone").hosts("[::1%lo]", "[::1%lo]"),
        Kind::new("address with a zone beside one without").hosts("[::1]", "[::1%lo]"),
        Kind::new("address in full").hosts("[::1]", "[0:0:0:0:0:0:0:1]"),
    ]
}

#[test]
fn a_camera_with_an_odd_url_plays_as_one_of_four() {
    play_all(kinds());
}

#[test]
fn odd_urls_play_over_tls_as_well() {
    let tls = Tls::new("odd-urls-ca.pem");
    for kind in kinds() {
        kind.play(Some(&tls));
    }
}
