//! Parses `WWW-Authenticate` into the challenges that can be answered, the strongest first.
//!
//! The parser of `http-auth` rejects the whole header at the first byte that violates the grammar,
//! and cameras send such bytes: no comma between parameters, an empty value, a lower-case `md5`, a
//! parameter twice. So the scan here is our own, and never fails: it skips what it cannot read, and
//! a challenge without a required parameter is not usable. Good and bad input take the same path.
//! The crate still validates the values and computes the answer.

use std::{cmp::Reverse, fmt};

use crate::mux::proto::wire::server_text::ServerText;
use http_auth::{ChallengeRef, DigestClient, ParamValue, digest::Algorithm};

use super::permit::Strength;

/// A challenge that can be answered.
#[derive(Debug)]
pub(crate) enum Scheme {
    Digest(DigestClient),
    Basic { realm: String },
}

impl Scheme {
    pub(crate) fn realm(&self) -> &str {
        match self {
            Self::Digest(client) => client.realm(),
            Self::Basic { realm } => realm,
        }
    }

    /// Empty for Basic, which has none.
    pub(crate) fn nonce(&self) -> &str {
        match self {
            Self::Digest(client) => client.nonce(),
            Self::Basic { .. } => "",
        }
    }

    /// True if the server says that only the nonce was too old.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Self::Digest(client) if client.stale())
    }

    pub(crate) fn strength(&self) -> Strength {
        match self {
            Self::Basic { .. } => Strength::Basic,
            Self::Digest(client) => match client.algorithm() {
                Algorithm::Sha512Trunc256 => Strength::Sha512,
                Algorithm::Sha256 => Strength::Sha256,
                _ => Strength::Md5,
            },
        }
    }
}

/// The schemes that were offered when none of them could be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoneUsable(Vec<String>);

impl NoneUsable {
    /// True if there was no challenge at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for NoneUsable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("the server answered 401 without a challenge");
        }
        write!(
            f,
            "no supported authentication among those the server offers: {}",
            self.0.join(", ")
        )
    }
}

/// The challenges of a joined header that can be answered, the strongest first; the first of equals.
pub(crate) fn offers(header: &str) -> Result<Vec<Scheme>, NoneUsable> {
    let challenges = parse(header);
    let mut offers: Vec<Scheme> = challenges.iter().filter_map(usable).collect();
    if offers.is_empty() {
        return Err(NoneUsable(
            challenges.iter().take(8).map(describe).collect(),
        ));
    }
    // The sort is stable: among equals the server's order counts.
    offers.sort_by_key(|offer| Reverse(offer.strength()));
    offers.dedup_by_key(|offer| offer.strength());
    Ok(offers)
}

/// The parameter `name` of a list like that of `Authentication-Info`.
pub(crate) fn parameter(list: &str, name: &str) -> Option<String> {
    let list = format!("List {list}");
    let challenges = parse(&list);
    challenges
        .iter()
        .find_map(|challenge| param(challenge, name))
        .map(ParamValue::to_unescaped)
}

fn usable(challenge: &ChallengeRef<'_>) -> Option<Scheme> {
    if challenge.scheme.eq_ignore_ascii_case("Digest") {
        let client = DigestClient::try_from(challenge).ok()?;
        // Without qop no cnonce is sent, and the server could not make the session key.
        let answerable = !(client.session() && client.rfc2069_compat());
        return answerable.then_some(Scheme::Digest(client));
    }
    // The realm is mandatory (RFC 7617), but for Basic it is only shown to people.
    challenge
        .scheme
        .eq_ignore_ascii_case("Basic")
        .then(|| Scheme::Basic {
            realm: param(challenge, "realm").map_or_else(String::new, ParamValue::to_unescaped),
        })
}

/// The server's words, cut so that they can stand in an error message.
fn describe(challenge: &ChallengeRef<'_>) -> String {
    let short = |text: &str| -> String { ServerText::new(text).chars().take(32).collect() };
    let scheme = short(challenge.scheme);
    match param(challenge, "algorithm") {
        Some(algorithm) => {
            let algorithm = short(algorithm.as_escaped());
            format!("{scheme} ({algorithm})")
        }
        None => scheme,
    }
}

fn param<'c, 'i>(challenge: &'c ChallengeRef<'i>, name: &str) -> Option<&'c ParamValue<'i>> {
    challenge
        .params
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Splits a header into challenges: a word before '=' is a parameter, any other a new scheme.
fn parse(header: &str) -> Vec<ChallengeRef<'_>> {
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
                    add_param(challenge, word, value);
                }
            }
            None => challenges.push(ChallengeRef::new(word)),
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

/// Adds a parameter unless it is empty, malformed or there already: `http-auth` would refuse the
/// whole challenge. An empty `qop` or `algorithm` means the same as none.
fn add_param<'i>(challenge: &mut ChallengeRef<'i>, name: &'i str, value: &'i str) {
    let value = if name.eq_ignore_ascii_case("algorithm") {
        canonical_algorithm(value)
    } else {
        value
    };
    let is_nothing = value.is_empty() && !name.eq_ignore_ascii_case("realm");
    if is_nothing || param(challenge, name).is_some() {
        return;
    }
    if let Ok(value) = ParamValue::try_from_escaped(value) {
        challenge.params.push((name, value));
    }
}

/// `http-auth` compares algorithms by case, cameras do not.
fn canonical_algorithm(name: &str) -> &str {
    const KNOWN: [&str; 6] = [
        "MD5",
        "MD5-sess",
        "SHA-256",
        "SHA-256-sess",
        "SHA-512-256",
        "SHA-512-256-sess",
    ];
    let name = name.trim();
    KNOWN
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(name))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = r#"Digest realm="r", nonce="n1", algorithm=MD5, qop="auth""#;
    const SHA256: &str = r#"Digest realm="r", nonce="n2", algorithm=SHA-256, qop="auth""#;
    const SHA512: &str = r#"Digest realm="r", nonce="n3", algorithm=SHA-512-256-sess, qop="auth""#;
    const BASIC: &str = r#"Basic realm="r""#;

    fn nonce(header: &str) -> String {
        match offers(header).as_deref() {
            Ok([Scheme::Digest(client), ..]) => client.nonce().to_owned(),
            Ok([Scheme::Basic { realm }, ..]) => format!("basic {realm}"),
            Ok([]) => unreachable!("an empty list is an error"),
            Err(none) => none.to_string(),
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
            "no supported authentication among those the server offers: Bearer, Digest (token)"
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
            .map(Scheme::strength)
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
        assert!(offers("").unwrap_err().is_empty());
        assert!(offers(" ,;= \"").unwrap_err().is_empty());
        assert!(!offers("NTLM").unwrap_err().is_empty());
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
