//! Servers that are odd about user and password.

use std::collections::{BTreeMap, BTreeSet};

use super::auth::{Algorithm, Auth, base64, expected, parameters};
use crate::support::rtsp::Request;

/// One way in which a server is odd about user and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountOddity {
    /// Each camera has a realm and a nonce of its own (recorders that pass on those of the cameras behind them).
    RealmPerCamera,
    /// Every nonce is good for one request, on any connection.
    NonceGoodOnce,
    /// The same, and only the newest one of the connection.
    NewestNonceGoodOnce,
    /// The same, and only the newest one of the server.
    ServersNewestNonceGoodOnce,
    /// Every 401 has a new nonce, and that one is good until the next 401 on the connection (live555).
    NewestNonce,
    /// Every 401 has a new nonce; the others stay good.
    NewNonceEachTime,
    /// SHA-256 and MD5 are offered, and only an answer to MD5 is taken (gortsplib#863).
    BrokenSha256,
    /// The connection is closed behind a 401 (retina#45, SharpRTSP#127), and that is announced or not.
    ClosesBehind401 {
        /// By `Connection: close`.
        is_announced: bool,
    },
    /// After so many wrong answers nothing is right any more.
    LocksAfter(usize),
    /// This user may not see this camera.
    Forbids(String),
    /// These cameras are dead: a request with any password at all is answered with this status, one
    /// without with 401.
    Dead(u16, Vec<String>),
}

/// What became of a request's Authorization.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Accepted,
    /// The values of WWW-Authenticate; and whether the connection is closed.
    Challenged(Vec<String>, bool),
}

/// The account at such a server.
#[derive(Debug, Default)]
pub(super) struct Account {
    nonces: usize,
    /// Good ones; what they are good for.
    good: BTreeSet<String>,
    newest: BTreeMap<usize, String>,
    /// Wrong answers.
    pub(super) failures: usize,
}

impl Account {
    pub(super) fn judge(
        &mut self,
        oddities: &[AccountOddity],
        auth: &Auth,
        connection: usize,
        camera: &str,
        request: &Request,
    ) -> Judgement {
        let has = |oddity: &AccountOddity| oddities.contains(oddity);
        let realm = match has(&AccountOddity::RealmPerCamera) {
            true => format!("Login to {camera}"),
            false => "mock".to_owned(),
        };
        let is_locked = oddities
            .iter()
            .any(|it| matches!(it, AccountOddity::LocksAfter(most) if self.failures >= *most));
        let is_forbidden = has(&AccountOddity::Forbids(camera.to_owned()));
        let is_right = request.headers.value("Authorization").is_some_and(|given| {
            let is_right = is_right(oddities, auth, &realm, request, given);
            self.failures += usize::from(!is_right);
            is_right && self.takes_nonce(oddities, connection, &realm, given)
        });
        if is_right && !is_locked && !is_forbidden {
            return Judgement::Accepted;
        }
        let closes = |is_announced| has(&AccountOddity::ClosesBehind401 { is_announced });
        let closes = closes(true) || closes(false);
        Judgement::Challenged(self.challenges(oddities, auth, connection, &realm), closes)
    }

    /// Whether the nonce is good; what is good once is used up.
    fn takes_nonce(
        &mut self,
        oddities: &[AccountOddity],
        connection: usize,
        realm: &str,
        given: &str,
    ) -> bool {
        let given = parameters(given);
        let Some(nonce) = given.value("nonce") else {
            return true;
        };
        let scope = match oddities.iter().find(|oddity| is_about_nonces(oddity)) {
            None => return nonce == constant_nonce(realm),
            Some(AccountOddity::NewNonceEachTime) => return self.good.contains(nonce),
            Some(AccountOddity::NonceGoodOnce) => return self.good.remove(nonce),
            Some(AccountOddity::ServersNewestNonceGoodOnce) => 0,
            Some(_) => connection,
        };
        let is_newest = self
            .newest
            .get(&scope)
            .is_some_and(|newest| newest == nonce);
        is_newest && (oddities.contains(&AccountOddity::NewestNonce) || self.good.remove(nonce))
    }

    fn challenges(
        &mut self,
        oddities: &[AccountOddity],
        auth: &Auth,
        connection: usize,
        realm: &str,
    ) -> Vec<String> {
        if matches!(auth, Auth::Basic { .. }) {
            return vec![format!("Basic realm=\"{realm}\"")];
        }
        let nonce = match oddities.iter().find(|oddity| is_about_nonces(oddity)) {
            None => constant_nonce(realm),
            Some(oddity) => {
                self.nonces += 1;
                let nonce = format!("n{}", self.nonces);
                self.good.insert(nonce.clone());
                let scope = match oddity {
                    AccountOddity::ServersNewestNonceGoodOnce => 0,
                    _ => connection,
                };
                self.newest.insert(scope, nonce.clone());
                nonce
            }
        };
        let offer = |algorithm: &str| {
            format!(
                "Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\""
            )
        };
        match oddities.contains(&AccountOddity::BrokenSha256) {
            true => vec![offer("SHA-256"), offer("MD5")],
            false => vec![offer("MD5")],
        }
    }
}

fn is_about_nonces(oddity: &AccountOddity) -> bool {
    matches!(
        oddity,
        AccountOddity::NonceGoodOnce
            | AccountOddity::NewestNonce
            | AccountOddity::NewestNonceGoodOnce
            | AccountOddity::ServersNewestNonceGoodOnce
            | AccountOddity::NewNonceEachTime
    )
}

fn constant_nonce(realm: &str) -> String {
    format!("of-{realm}")
}

fn is_right(
    oddities: &[AccountOddity],
    auth: &Auth,
    realm: &str,
    request: &Request,
    given: &str,
) -> bool {
    let (user, password) = match auth {
        Auth::Basic { user, password } => {
            return given == format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        }
        Auth::Digest { user, password, .. } => (user, password),
    };
    let given = parameters(given);
    let is_broken = oddities.contains(&AccountOddity::BrokenSha256);
    let algorithm = match given.value("algorithm") {
        Some("SHA-256") if is_broken => return false,
        Some("SHA-256") => Algorithm::Sha256,
        _ => Algorithm::Md5,
    };
    let response = expected(algorithm, (user, realm, password), &given, &request.method);
    given.value("username") == Some(user.as_str())
        && given.value("realm") == Some(realm)
        && given.value("uri") == Some(request.uri.as_str())
        && given.value("response") == Some(response.as_str())
}
