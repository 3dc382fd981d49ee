//! Parses `WWW-Authenticate` into the challenges that can be answered, the strongest first, and
//! answers one.
//!
//! Cameras violate the grammar of the header: no comma between parameters, an empty value, a
//! lower-case `md5`, a parameter twice. So the scan never fails: it skips what it cannot read, and a
//! challenge without a required parameter is not usable. Good and bad input take the same path.

use std::cmp::Reverse;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512_256};

use super::credentials::{Credentials, Strength};
use crate::mux::proto::wire::{octets, server_text::ServerText};

const ALGORITHMS: [(&str, Strength); 3] = [
    ("MD5", Strength::Md5),
    ("SHA-256", Strength::Sha256),
    ("SHA-512-256", Strength::Sha512),
];
/// The best first. A request has no body, so `auth-int` protects no more than `auth`.
const QOPS: [&str; 2] = ["auth", "auth-int"];

/// A challenge that can be answered. Basic has only a realm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    pub(crate) strength: Strength,
    pub(crate) realm: String,
    pub(crate) nonce: String,
    opaque: Option<String>,
    /// The server says that only the nonce was too old.
    pub(crate) is_stale: bool,
    is_session: bool,
    /// `None` for a server of RFC 2069.
    qop: Option<&'static str>,
}

/// A challenge as it was read; each parameter is in it once.
struct Challenge<'i> {
    scheme: &'i str,
    params: Vec<(&'i str, String)>,
}

impl<'i> Challenge<'i> {
    fn param(&self, name: &str) -> Option<&str> {
        let mut params = self.params.iter();
        let found = params.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The challenge, if it can be answered.
    fn offer(&self) -> Option<Offer> {
        let param = |name: &str| self.param(name).map(str::to_owned);
        if is_same(self.scheme, "Basic") {
            // The realm is mandatory (RFC 7617), but for Basic it is only shown to people.
            return Some(Offer {
                realm: param("realm").unwrap_or_default(),
                ..Offer::default()
            });
        }
        let name = param("algorithm").map_or("MD5".to_owned(), |name| name.to_ascii_uppercase());
        let plain = name.trim().strip_suffix("-SESS");
        let mut known = ALGORITHMS.iter();
        let (_, strength) = known.find(|(known, _)| *known == plain.unwrap_or(name.trim()))?;
        let qop = match self.param("qop") {
            Some(list) => {
                let has = |qop: &&str| list.split(',').any(|it| is_same(it.trim(), qop));
                Some(QOPS.into_iter().find(has)?)
            }
            // Without qop no cnonce is sent, and the server could not make the session key.
            None if plain.is_some() => return None,
            None => None,
        };
        is_same(self.scheme, "Digest").then_some(Offer {
            strength: *strength,
            realm: param("realm")?,
            nonce: param("nonce")?,
            opaque: param("opaque"),
            is_stale: self.param("stale").is_some_and(|it| is_same(it, "true")),
            is_session: plain.is_some(),
            qop,
        })
    }

    /// The server's words, cut so that they can stand in an error message.
    fn describe(&self) -> String {
        let short = |text: &str| -> String { ServerText::new(text).chars().take(32).collect() };
        let scheme = short(self.scheme);
        match self.param("algorithm") {
            Some(algorithm) => format!("{scheme} ({})", short(algorithm)),
            None => scheme,
        }
    }

    /// Adds a parameter unless it is empty, malformed or there already. An empty `qop` or `algorithm`
    /// means the same as none. A realm, nonce or opaque that is not ASCII is kept as the octets that came
    /// (RFC 2617 3.2.2.2): cameras write realms in Latin-1 or GBK, where a backslash may be half a
    /// character, and nonces of random bytes.
    fn add(&mut self, name: &'i str, value: &str) {
        let is_hashed = is_same(name, "realm") || is_same(name, "nonce");
        let is_sent_back = is_hashed || is_same(name, "opaque");
        let is_harmful = |c: char| c.is_control() && c != '\t';
        let is_sound = (value.is_ascii() || is_sent_back) && !value.contains(is_harmful);
        let is_something = !value.is_empty() || is_hashed;
        if is_sound && is_something && self.param(name).is_none() {
            self.params.push((name, unescaped(value)));
        }
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn unescaped(text: &str) -> String {
    let mut is_escape = false;
    let is_kept = |c: &char| {
        is_escape = *c == '\\' && !is_escape && text.is_ascii();
        !is_escape
    };
    text.chars().filter(is_kept).collect()
}

/// The challenges of a joined header that can be answered, the strongest first; the first of equals.
///
/// # Errors
/// None can be answered, and the schemes that were offered; `None` if there was no challenge.
pub(crate) fn offers(header: &str) -> Result<Vec<Offer>, Option<String>> {
    let challenges = parse(header);
    let mut offers: Vec<Offer> = challenges.iter().filter_map(Challenge::offer).collect();
    if offers.is_empty() {
        let offered = challenges.iter().take(8).map(Challenge::describe);
        let offered: Vec<String> = offered.collect();
        return Err((!offered.is_empty()).then(|| offered.join(", ")));
    }
    // The sort is stable: among equals the server's order counts.
    offers.sort_by_key(|offer| Reverse(offer.strength));
    offers.dedup_by_key(|offer| offer.strength);
    Ok(offers)
}

/// The parameter `name` of a list like that of `Authentication-Info`.
pub(crate) fn parameter(list: &str, name: &str) -> Option<String> {
    let list = format!("List {list}");
    let challenges = parse(&list);
    let found = challenges.iter().find_map(|list| list.param(name));
    found.map(str::to_owned)
}

/// Splits a header into challenges: a word before '=' is a parameter, any other a new scheme.
fn parse(header: &str) -> Vec<Challenge<'_>> {
    let mut challenges = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',', ';', '=', '"']);
        if rest.is_empty() {
            return challenges;
        }
        let (word, after) = split_at_any(rest, [' ', '\t', ',', ';', '=', '"']);
        rest = after;
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(value) => {
                let (value, after) = take_value(value.trim_start_matches([' ', '\t']));
                rest = after;
                if let Some(challenge) = challenges.last_mut() {
                    challenge.add(word, value);
                }
            }
            None => challenges.push(Challenge {
                scheme: word,
                params: Vec::new(),
            }),
        }
    }
}

fn split_at_any<const N: usize>(text: &str, ends: [char; N]) -> (&str, &str) {
    text.find(ends)
        .and_then(|end| text.split_at_checked(end))
        .unwrap_or((text, ""))
}

/// Returns the value after '=', still escaped, and the rest.
fn take_value(text: &str) -> (&str, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        return split_at_any(text, [' ', '\t', ',', ';']);
    };
    let mut escaped = false;
    let end = quoted.find(|c| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    });
    end.and_then(|end| quoted.split_at_checked(end))
        .unwrap_or((quoted, ""))
}

impl Offer {
    pub(crate) fn is_digest(&self) -> bool {
        self.strength != Strength::Basic
    }

    /// The value of the `Authorization` header; `count` is the number of answers to this nonce.
    pub(crate) fn answer(
        &self,
        credentials: &Credentials,
        (method, uri): (&str, &str),
        cnonce: &str,
        count: u32,
    ) -> String {
        let (user, password) = (credentials.user(), credentials.password());
        let mut names = ALGORITHMS.iter();
        let Some((algorithm, _)) = names.find(|(_, strength)| *strength == self.strength) else {
            return format!(
                "Basic {}",
                BASE64_STANDARD.encode(octets::encode(&format!("{user}:{password}")))
            );
        };
        let (realm, nonce) = (self.realm.as_str(), self.nonce.as_str());
        let hash = |parts: &[&str]| self.hash(parts);
        let mut secret = hash(&[user, realm, password]);
        let mut session = "";
        if self.is_session {
            secret = hash(&[&secret, nonce, cnonce]);
            session = "-sess";
        }
        let request = match self.qop {
            Some("auth-int") => hash(&[method, uri, &hash(&[""])]),
            _ => hash(&[method, uri]),
        };
        // As the octets that are hashed: servers older than RFC 7616 do not know its `username*`.
        let head = format!(
            "Digest username=\"{}\", realm=\"{}\", uri=\"{}\", nonce=\"{}\"",
            escaped(user),
            quoted(realm),
            quoted(uri),
            quoted(nonce)
        );
        let opaque = self.opaque.as_deref().map(quoted);
        let opaque = opaque.map_or_else(String::new, |it| format!(", opaque=\"{it}\""));
        match self.qop {
            Some(qop) => {
                let count = format!("{count:08x}");
                let response = hash(&[&secret, nonce, &count, cnonce, qop, &request]);
                format!(
                    "{head}, algorithm={algorithm}{session}, nc={count}, cnonce=\"{cnonce}\", \
                     qop={qop}, response=\"{response}\"{opaque}"
                )
            }
            None => {
                let response = hash(&[&secret, nonce, &request]);
                // A server of RFC 2069 takes MD5 unless another algorithm is named.
                let algorithm = match self.strength {
                    Strength::Md5 => String::new(),
                    _ => format!(", algorithm={algorithm}"),
                };
                format!("{head}, response=\"{response}\"{opaque}{algorithm}")
            }
        }
    }

    fn hash(&self, parts: &[&str]) -> String {
        let text = parts.join(":");
        let text = octets::encode(&text);
        match self.strength {
            Strength::Sha512 => format!("{:x}", Sha512_256::digest(text)),
            Strength::Sha256 => format!("{:x}", Sha256::digest(text)),
            Strength::Md5 | Strength::Basic => format!("{:x}", Md5::digest(text)),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#)
}

/// What came from the server, as it came.
fn quoted(text: &str) -> String {
    match text.is_ascii() {
        true => escaped(text),
        false => text.to_owned(),
    }
}

/// 32 hexadecimal digits from the seed and a counter. A cnonce need not be secret, only new: it
/// keeps a server from choosing everything that is hashed with the password (RFC 7616, 5.8).
pub(crate) fn cnonce(seed: u128, count: u64) -> String {
    format!("{:x}", Md5::digest(format!("{seed} {count}")))
}

#[cfg(test)]
mod challenge_tests {
    use super::*;

    const MD5: &str = r#"Digest realm="r", nonce="n1", algorithm=MD5, qop="auth""#;
    const SHA256: &str = r#"Digest realm="r", nonce="n2", algorithm=SHA-256, qop="auth""#;
    const SHA512: &str = r#"Digest realm="r", nonce="n3", algorithm=SHA-512-256-sess, qop="auth""#;
    const BASIC: &str = r#"Basic realm="r""#;

    fn nonce(header: &str) -> String {
        match offers(header).as_deref() {
            Ok([offer, ..]) if offer.is_digest() => offer.nonce.clone(),
            Ok([offer, ..]) => format!("basic {}", offer.realm),
            Ok([]) => unreachable!("an empty list is an error"),
            Err(offered) => offered.clone().unwrap_or_default(),
        }
    }

    #[test]
    fn the_strongest_wins_in_any_order() {
        assert_eq!(nonce(&[BASIC, MD5, SHA256, SHA512].join(", ")), "n3");
        assert_eq!(nonce(&[SHA512, SHA256, MD5, BASIC].join(", ")), "n3");
        assert_eq!(nonce(&[MD5, SHA256, BASIC].join(", ")), "n2");
        assert_eq!(nonce(&[BASIC, MD5].join(", ")), "n1");
        assert_eq!(nonce(BASIC), "basic r");
    }

    #[test]
    fn unknown_algorithms_and_schemes_are_passed_over() {
        let header = format!(
            r#"NTLM, Negotiate abc==, Digest realm="r", nonce="n0", algorithm=SHA-1, qop="auth", {MD5}"#
        );
        assert_eq!(nonce(&header), "n1");
        assert_eq!(
            nonce(r#"Bearer realm="x", Digest realm="r", nonce="n", algorithm=token"#),
            "Bearer, Digest (token)"
        );
    }

    #[test]
    fn syntax_that_cameras_get_wrong_is_understood() {
        for header in [
            r#"Digest realm="r" nonce="n" stale="FALSE""#,
            r#"Digest realm="r",nonce="n",opaque=,algorithm=,qop="""#,
            r#"digest REALM = "r" , Nonce = n , algorithm="md5""#,
            r#"Digest realm="r"; nonce="n"; stale=false;"#,
            r#"Digest realm="r", nonce="n", nonce="other", realm="r""#,
            r#",, Digest realm="", nonce="n", domain="rtsp://h/", =, "", x"#,
            r#"Digest realm="a, Basic \"b\" = c", nonce="n""#,
            "Digest realm=\"r\", nonce=\"n\", opaque=\"\u{e4}\"",
        ] {
            assert_eq!(nonce(header), "n", "{header}");
        }
    }

    #[test]
    fn a_challenge_without_the_vital_parts_is_not_usable() {
        for header in [
            r#"Digest realm="r""#,
            r#"Digest nonce="n""#,
            r#"Digest realm="r", nonce="n", qop="auth-conf""#,
            r#"Digest realm="r", nonce="n", algorithm=MD5-sess"#,
        ] {
            assert!(offers(header).is_err(), "{header}");
        }
        assert_eq!(nonce(&format!("Digest junk {BASIC}")), "basic r");
    }

    #[test]
    fn f46_all_that_an_answer_offers_is_there_once_for_each_strength() {
        let header = [MD5, BASIC, SHA256, r#"Digest realm="r", nonce="n4""#].join(", ");
        let strengths: Vec<Strength> = offers(&header)
            .unwrap()
            .iter()
            .map(|offer| offer.strength)
            .collect();
        assert_eq!(
            strengths,
            [Strength::Sha256, Strength::Md5, Strength::Basic]
        );
    }

    #[test]
    fn a_parameter_of_a_list_is_found() {
        let list = r#"qop=auth, rspauth="x", nextnonce="n, 2", nc=00000001"#;
        assert_eq!(parameter(list, "nextnonce").as_deref(), Some("n, 2"));
        assert_eq!(parameter(list, "cnonce"), None);
        assert_eq!(parameter("", "nextnonce"), None);
    }

    #[test]
    fn nothing_at_all_is_told_from_nothing_usable() {
        assert!(offers("").unwrap_err().is_none());
        assert!(offers(" ,;= \"").unwrap_err().is_none());
        assert!(offers("NTLM").unwrap_err().is_some());
    }

    #[test]
    fn no_input_makes_the_scan_hang_or_panic() {
        let alphabet = ['"', '\\', '=', ',', ' ', ';', 'a', 'D', '\u{e4}', '\t'];
        let mut state = 1u64;
        for _ in 0..5_000 {
            let mut text = String::from("Digest ");
            for _ in 0..24 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text.push(alphabet[(state % 10) as usize]);
            }
            let _ = offers(&text);
        }
    }
}

#[cfg(test)]
mod digest_tests {
    use super::*;

    fn client(challenge: &str) -> Offer {
        let offers = offers(challenge).expect("a challenge");
        let first = offers.into_iter().next();
        first.filter(Offer::is_digest).expect("a Digest challenge")
    }

    fn answer(offer: &Offer, user: &Credentials, method: &str, uri: &str, cnonce: &str) -> String {
        offer.answer(user, (method, uri), cnonce, 1)
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
            let client = client(
                &format!(
                    r#"Digest realm="http-auth@example.org", qop="auth, auth-int",
                algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
                )
                .replace('\n', ""),
            );
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let value = answer(&client, &user, "GET", "/dir/index.html", cnonce);
            assert_response(&value, response);
            assert!(value.contains(r#"opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#));
        }
    }

    /// RFC 2617, 3.5.
    #[test]
    fn rfc_2617_vector() {
        let client = client(
            r#"Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
        );
        let user = Credentials::new("Mufasa", "Circle Of Life").unwrap();
        let value = answer(&client, &user, "GET", "/dir/index.html", "0a4f113b");
        assert_response(&value, "6629fae49393a05397450978507c4ef1");
    }

    /// RFC 2069, 2.4, with the response as corrected by erratum 749.
    #[test]
    fn rfc_2069_vector() {
        let client = client(
            r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
        );
        let user = Credentials::new("Mufasa", "CircleOfLife").unwrap();
        let value = answer(&client, &user, "GET", "/dir/index.html", "unused");
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
        let md5 = client(r#"Digest realm="NVR", nonce="abc123""#);
        let value = answer(&md5, &user, "SETUP", uri, "unused");
        assert_response(&value, "ef2143ac5c89a15d9773cf99207aabef");
        assert!(!value.contains("algorithm"));

        let sha = client(r#"Digest realm="NVR", nonce="abc123", algorithm="SHA-256""#);
        let value = answer(&sha, &user, "SETUP", uri, "unused");
        assert_response(
            &value,
            "d048774a1e3925c2b547c87b1ef9aab97ca7e547ced2405260f1caaa13b66683",
        );
        assert!(value.ends_with(", algorithm=SHA-256"), "{value}");
    }

    /// The RFCs have no vectors for `-sess`. These were computed with Python's hashlib (md5, sha256, sha512_256) by RFC 7616, 3.4: A1 =
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
            let client = client(&format!(
                r#"Digest realm="NVR", nonce="abc123", algorithm={algorithm}, qop="{qop}""#
            ));
            let value = answer(&client, &user, "DESCRIBE", "rtsp://nvr/ch/1", "0a4f113b");
            assert_response(&value, response);
            assert!(
                value.contains(&format!("algorithm={algorithm}, ")),
                "{value}"
            );
        }
    }

    const REALMS: [(&[u8], &str, &str); 12] = [
        (b"Cam\xc3\xa9ra", r#""#, "e1dfe7953eaafdaf1575827137bc9214"),
        (
            b"Cam\xc3\xa9ra",
            r#", qop="auth""#,
            "a3da748d8dd2914b6d769d9ff08beaba",
        ),
        (
            b"Cam\xc3\xa9ra",
            r#", algorithm=SHA-256, qop="auth""#,
            "dc7305863b41fd13029b7119266785a2a8be37a953539311695745f5e9ce3d79",
        ),
        (
            b"Cam\xc3\xa9ra",
            r#", algorithm=MD5-sess, qop="auth""#,
            "370d34ca58296500f0a9605d55f15ed3",
        ),
        (b"Cam\xe9ra", r#""#, "18fe5f180eb649729b20e7388028db47"),
        (
            b"Cam\xe9ra",
            r#", qop="auth""#,
            "2b61844fc0ad70f1d7c7fc5bf3143ac9",
        ),
        (
            b"Cam\xe9ra",
            r#", algorithm=SHA-256, qop="auth""#,
            "45a22a652c9da317ae0f1e2b85e30de54319d734ac9859966f3b3bf43b9dbec1",
        ),
        (
            b"Cam\xe9ra",
            r#", algorithm=MD5-sess, qop="auth""#,
            "0399af71db4390f5376662f61288a2e9",
        ),
        (
            b"\xb5\xc7\xc2\xbc",
            r#""#,
            "73cdb307d0dbf07c0b746368bd0814d0",
        ),
        (
            b"\xb5\xc7\xc2\xbc",
            r#", qop="auth""#,
            "ea2a1fa3062c3e07129309ce12f77a01",
        ),
        (
            b"\xb5\xc7\xc2\xbc",
            r#", algorithm=SHA-256, qop="auth""#,
            "f0eb90e2cbd3b83a7c00a98c227e897f4c44be6a119af62d77ddb8c2aab01201",
        ),
        (
            b"\xb5\xc7\xc2\xbc",
            r#", algorithm=MD5-sess, qop="auth""#,
            "af914dadb9e6266be9c0914e8564d56e",
        ),
    ];

    /// The expected values were computed with Python's hashlib over the octets.
    #[test]
    fn a_realm_that_is_not_ascii_is_hashed_and_sent_back_as_it_came() {
        for (realm, rest, expected) in REALMS {
            let realm = octets::decode(realm);
            let header = format!(r#"Digest realm="{realm}", nonce="n"{rest}"#);
            let digest = client(&header);
            assert_eq!(digest.realm, realm);
            let user = Credentials::new("admin", "secret").unwrap();
            let value = answer(&digest, &user, "DESCRIBE", "rtsp://h/1", "c");
            assert!(value.contains(&format!("realm=\"{realm}\"")), "{value}");
            assert!(
                value.contains(&format!("response=\"{expected}\"")),
                "{value}"
            );
        }
    }

    const NONCES: [(&[u8], &str); 4] = [
        (b"n\xe9", "6a52e2d10e2d3a1201e6f8b2a7a4c25d"),
        (b"n\xc3\xa9", "372ce3ec390bef375998813e1d9d092d"),
        (b"\x80\\\xff", "41c7d8432031182f160f68b02595b968"),
        (b"", "04b139b7ac8ff3dbc145e24f7f58b5f2"),
    ];

    /// The expected values were computed with Python's hashlib over the octets.
    #[test]
    fn a_nonce_and_an_opaque_that_are_not_ascii_are_hashed_and_sent_back_as_they_came() {
        for (nonce, expected) in NONCES {
            let (nonce, opaque) = (octets::decode(nonce), octets::decode(b"o\\\xe9"));
            let header = format!(r#"Digest realm="r", nonce="{nonce}", opaque="{opaque}""#);
            let user = Credentials::new("admin", "secret").unwrap();
            let value = answer(&client(&header), &user, "DESCRIBE", "rtsp://h/1", "c");
            for echoed in [
                format!("nonce=\"{nonce}\""),
                format!("opaque=\"{opaque}\""),
                format!("response=\"{expected}\""),
            ] {
                assert!(value.contains(&echoed), "{value}");
            }
        }
    }

    #[test]
    fn a_user_who_is_not_ascii_is_named_by_the_octets_that_are_hashed() {
        let latin = (octets::decode(b"\xe9ric"), octets::decode(b"\xff"));
        for (user, password, name, response) in [
            (
                "\u{e9}\"ric",
                "secret",
                "\u{e9}\\\"ric",
                "97dc4a1bd18f33ea2f7ec9245ad4a616",
            ),
            (
                &latin.0,
                &latin.1,
                &latin.0,
                "486bc64350432907bb6146de93abf23d",
            ),
        ] {
            let user = Credentials::new(user, password).unwrap();
            let digest = client(r#"Digest realm="r", nonce="n""#);
            let value = answer(&digest, &user, "DESCRIBE", "rtsp://h/1", "c");
            assert!(
                value.starts_with(&format!("Digest username=\"{name}\", ")),
                "{value}"
            );
            assert!(value.contains(response), "{value}");
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
