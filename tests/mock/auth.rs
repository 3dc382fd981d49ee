//! What the mock server takes for authorised.

use crate::client::Client;
use crate::support::mock_server::{Algorithm, Auth, MockServer};

fn digest(algorithm: Algorithm) -> MockServer {
    MockServer::builder()
        .cameras(1)
        .credentials(Auth::Digest {
            algorithm,
            user: "u".to_owned(),
            password: "p".to_owned(),
        })
        .rotate_nonce_after(2)
        .start()
}

/// Responses computed outside, with another library, for DESCRIBE rtsp://x/cam/1, realm mock, nonce c0n0,
/// cnonce abc, nc 00000001, qop auth.
#[test]
fn digests_computed_elsewhere_are_accepted() {
    for (algorithm, response) in [
        (Algorithm::LegacyMd5, "12278748f5abd4b362421a651657b6a0"),
        (Algorithm::Md5, "45c8f741f6b56596bfb7ce7c92fb9118"),
        (Algorithm::Md5Sess, "bc540da9e99bc28ad5218566b7bf080c"),
        (
            Algorithm::Sha256,
            "4fa527edde5f275046429d34d45516ae8a13a282a1aad621e6f2efc4d3f71b6c",
        ),
        (
            Algorithm::Sha512Half,
            "5d0e1b47bc0634a3321dc7f3373a8f379d4250261e6bfcb9ef6f8a5d35bec2ed",
        ),
    ] {
        let server = digest(algorithm);
        let mut client = Client::connect(&server);
        let url = "rtsp://x/cam/1";
        let challenge = client.describe(url);
        assert_eq!(challenge.status, 401);
        let value = challenge
            .headers
            .value("WWW-Authenticate")
            .unwrap()
            .to_owned();
        assert!(
            value.starts_with("Digest realm=\"mock\", nonce=\"c0n0\""),
            "{value}"
        );
        let given = |response: &str, count: &str| {
            format!(
                "Digest username=\"u\", realm=\"mock\", nonce=\"c0n0\", uri=\"{url}\", \
                 response=\"{response}\", qop=auth, nc={count}, cnonce=\"abc\""
            )
        };
        let accept = ("Accept", "application/sdp");
        let mut ask =
            |value: &str| client.ask("DESCRIBE", url, &[accept, ("Authorization", value)]);
        assert_eq!(ask(&given("0", "00000001")).status, 401, "{algorithm:?}");
        assert_eq!(
            ask(&given(response, "00000001")).status,
            200,
            "{algorithm:?}"
        );
        let again = ask(&given(response, "00000001"));
        match algorithm {
            Algorithm::LegacyMd5 => {
                assert_eq!(again.status, 200);
                let stale = ask(&given(response, "00000001"));
                let value = stale.headers.value("WWW-Authenticate").unwrap();
                assert!(
                    value.contains("nonce=\"c0n1\"") && value.contains("stale=true"),
                    "{value}"
                );
            }
            _ => {
                assert_eq!(again.status, 401, "the count has to rise");
                assert_eq!(server.violations().len(), 1);
            }
        }
    }
}

#[test]
fn basic_wants_user_and_password() {
    let server = MockServer::builder()
        .cameras(1)
        .credentials(Auth::Basic {
            user: "Aladdin".to_owned(),
            password: "open sesame".to_owned(),
        })
        .start();
    let mut client = Client::connect(&server);
    let url = server.url("/cam/1");
    assert_eq!(client.describe(&url).status, 401);
    let headers = [
        ("Accept", "application/sdp"),
        ("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
    ];
    assert_eq!(client.ask("DESCRIBE", &url, &headers).status, 200);
    assert_eq!(
        client.ask("OPTIONS", &url, &[]).status,
        200,
        "asks for none"
    );
}
