//! Computes the answer to one Digest challenge, with `http-auth`.

use http_auth::{
    DigestClient, PasswordParams,
    digest::{Algorithm, Qop},
};

use super::credentials::Credentials;

/// Answers a Digest challenge and increments its nonce count. `None` once the count is exhausted.
pub(crate) fn answer(
    client: &mut DigestClient,
    credentials: &Credentials,
    method: &str,
    uri: &str,
    cnonce: &str,
) -> Option<String> {
    // The crate prefers `auth-int` if it is given a body, so it gets one only if nothing else is
    // offered.
    let body = (!(client.qop() & Qop::Auth)).then(|| hash_of_no_body(client.algorithm()));
    let params = PasswordParams {
        username: credentials.user(),
        password: credentials.password(),
        uri,
        method,
        body: body.map(str::as_bytes),
    };
    // The crate calls this function "for testing only"; `respond` does the same with a cnonce that
    // it draws itself. This is the only way to pass a cnonce in, and the core draws no random
    // numbers.
    let mut value = client.respond_with_testing_cnonce(&params, cnonce).ok()?;
    // Without qop (RFC 2069) the crate names no algorithm, which means MD5 to the server; so a
    // stronger one has to be named.
    match client.algorithm() {
        Algorithm::Sha256 if client.rfc2069_compat() => value.push_str(", algorithm=SHA-256"),
        Algorithm::Sha512Trunc256 if client.rfc2069_compat() => {
            value.push_str(", algorithm=SHA-512-256");
        }
        _ => {}
    }
    Some(value)
}

/// What takes the place of an empty body under `auth-int`. A2 ends with the *hash* of the body (RFC
/// 7616, 3.4.3), but http-auth 0.1.10 inserts the body itself, so it gets the hash as the body.
fn hash_of_no_body(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha512Trunc256 => {
            "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"
        }
        Algorithm::Sha256 => "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        _ => "d41d8cd98f00b204e9800998ecf8427e",
    }
}

/// 32 hexadecimal digits from the seed and a counter. A cnonce need not be secret, only new: it
/// keeps a server from choosing everything that is hashed with the password (RFC 7616, 5.8).
pub(crate) fn cnonce(seed: u128, count: u64) -> String {
    let (high, low) = ((seed >> 64) as u64, seed as u64);
    let first = mix(high.wrapping_add(count));
    let second = mix(low ^ first);
    format!("{first:016x}{second:016x}")
}

/// The output function of splitmix64.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::proto::auth::challenge::{self, Scheme};

    fn client(challenge: &str) -> DigestClient {
        let offers = challenge::offers(challenge).expect("a challenge");
        match offers.into_iter().next() {
            Some(Scheme::Digest(client)) => client,
            other => panic!("{other:?}"),
        }
    }

    fn assert_response(value: &str, response: &str) {
        let wanted = format!("response=\"{response}\"");
        assert!(value.contains(&wanted), "{value} lacks {wanted}");
    }

    /// RFC 7616, 3.9.1.
    #[test]
    fn rfc_7616_vectors() {
        let user = Credentials::new("Mufasa", "Circle of Life").unwrap();
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let mut client = client(
                &format!(
                    r#"Digest realm="http-auth@example.org", qop="auth, auth-int",
                algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
                )
                .replace('\n', ""),
            );
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let value = answer(&mut client, &user, "GET", "/dir/index.html", cnonce).unwrap();
            assert_response(&value, response);
            assert!(value.contains(r#"opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#));
        }
    }

    /// RFC 2617, 3.5.
    #[test]
    fn rfc_2617_vector() {
        let mut client = client(
            r#"Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
        );
        let user = Credentials::new("Mufasa", "Circle Of Life").unwrap();
        let value = answer(&mut client, &user, "GET", "/dir/index.html", "0a4f113b").unwrap();
        assert_response(&value, "6629fae49393a05397450978507c4ef1");
    }

    /// RFC 2069, 2.4, with the response as corrected by erratum 749.
    #[test]
    fn rfc_2069_vector() {
        let mut client = client(
            r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
        );
        let user = Credentials::new("Mufasa", "CircleOfLife").unwrap();
        let value = answer(&mut client, &user, "GET", "/dir/index.html", "unused").unwrap();
        assert_response(&value, "1949323746fe6a43ef61f9606e7febea");
        assert!(
            !value.contains("nc=") && !value.contains("cnonce"),
            "{value}"
        );
    }

    /// Computed with Python's hashlib: H(H(user:realm:password):nonce:H(method:uri)).
    #[test]
    fn answers_without_qop_name_any_algorithm_but_md5() {
        let user = Credentials::new("admin", "secret").unwrap();
        let uri = "rtsp://nvr/ch/1/trackID=1";
        let mut md5 = client(r#"Digest realm="NVR", nonce="abc123""#);
        let value = answer(&mut md5, &user, "SETUP", uri, "unused").unwrap();
        assert_response(&value, "ef2143ac5c89a15d9773cf99207aabef");
        assert!(!value.contains("algorithm"));

        let mut sha = client(r#"Digest realm="NVR", nonce="abc123", algorithm="SHA-256""#);
        let value = answer(&mut sha, &user, "SETUP", uri, "unused").unwrap();
        assert_response(
            &value,
            "d048774a1e3925c2b547c87b1ef9aab97ca7e547ced2405260f1caaa13b66683",
        );
        assert!(value.ends_with(", algorithm=SHA-256"), "{value}");
    }

    /// `http-auth` has no vectors for `-sess` that were checked against anything else. These were
    /// computed with Python's hashlib (md5, sha256, sha512_256) by RFC 7616, 3.4: A1 =
    /// H(user:realm:password), for -sess H(A1:nonce:cnonce); A2 = H(method:uri), for auth-int
    /// H(method:uri:H("")); response = H(A1:nonce:nc:cnonce:qop:A2).
    #[test]
    fn own_vectors_for_every_algorithm() {
        let user = Credentials::new("admin", "pa:ss w\u{f6}rd").unwrap();
        for (algorithm, qop, response) in [
            ("MD5", "auth", "a24c330a127da7fca129fd83108dfc10"),
            ("MD5", "auth-int", "04a827a2f9abbca832c06f7bd8848f69"),
            ("MD5-sess", "auth", "3f9c2b72437a01d6561ff5ce9bee58fa"),
            (
                "SHA-256",
                "auth",
                "aab28d419771b36bcb644b63b57d5177292a6ba6bf5879a4aa334dd71baea581",
            ),
            (
                "SHA-256-sess",
                "auth",
                "bfd7aa99a33c8a64583a29415efd1131852c184abefa0b66cc095e0c29713a09",
            ),
            (
                "SHA-512-256",
                "auth",
                "b9b8ff32feaa993bc2b485b4430f910d566500902ba3a962973ea7d04a5c4d0c",
            ),
            (
                "SHA-512-256-sess",
                "auth",
                "0210bfb38e75465eb61d721a5b38cb299d0c35cded3e8eaf28f08a1a6bb001a6",
            ),
        ] {
            let mut client = client(&format!(
                r#"Digest realm="NVR", nonce="abc123", algorithm={algorithm}, qop="{qop}""#
            ));
            let value = answer(
                &mut client,
                &user,
                "DESCRIBE",
                "rtsp://nvr/ch/1",
                "0a4f113b",
            )
            .unwrap();
            assert_response(&value, response);
            assert!(
                value.contains(&format!("algorithm={algorithm}, ")),
                "{value}"
            );
        }
    }

    #[test]
    fn the_cnonce_depends_on_seed_and_count_only() {
        assert_eq!(cnonce(1, 0), cnonce(1, 0));
        assert_eq!(cnonce(1, 0).len(), 32);
        let others = [cnonce(1, 1), cnonce(2, 0), cnonce(1 << 64, 0)];
        assert!(others.iter().all(|other| *other != cnonce(1, 0)));
    }
}
