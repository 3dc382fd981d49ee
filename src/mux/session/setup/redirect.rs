//! Going where a DESCRIBE, a PLAY, or a session that plays, is redirected.
//!
//! The user's credentials are for the server that the user named, and for other ports of that host as it
//! was named: a recorder hands streams out at a second port. There they are used by Digest of the realm
//! that the server itself has shown, and not at all where it has shown none. A cloud of cameras redirects to
//! `rtsp://viewer:secret@camera/`: these credentials are for that server, and for no other.

use url::Url;

use super::{Setup, attempt::AtServer};
use crate::mux::{
    config::SessionOptions,
    connection_pool::CheckoutRequest,
    error::{Error, ErrorKind},
    ids::ConnectionId,
    proto::{Credentials, Failure, FailureKind, Redirect, wire::redacted},
    server_key::is_secure,
};

/// Redirects followed for one session.
const MAX_REDIRECTS: usize = 5;

impl Setup {
    /// Turns to where a request of the session was redirected (fault F40). Gives back any other failure.
    pub(super) fn follow_if_redirected(
        &mut self,
        failure: Failure,
    ) -> Result<Option<Failure>, Error> {
        let FailureKind::Redirect {
            location,
            credentials,
            ..
        } = failure.kind
        else {
            return Ok(Some(failure));
        };
        if let Some(attachment) = &self.here.attachment {
            self.introduce(attachment.driver(), None);
        }
        self.follow(location, credentials.map(|lent| *lent))?;
        Ok(None)
    }

    pub(super) fn follow(
        &mut self,
        location: Url,
        credentials: Option<Credentials>,
    ) -> Result<(), Error> {
        let refuse = |why: String| Error::new(ErrorKind::Redirects, why).in_request("DESCRIBE");
        if is_secure(&self.target.url) && !is_secure(&location) {
            let from = redacted(&self.options.url);
            let why = "redirected from TLS to a connection in clear text".to_owned();
            return Err(refuse(why).of_camera(&from));
        }
        // A server may send a session to where it is, once: rtspsrc asks again there as well.
        let may_repeat = location == self.target.url;
        self.target
            .redirected
            .push(std::mem::replace(&mut self.target.url, location));
        let from = redacted(&self.options.url);
        if self.target.redirected.len() > MAX_REDIRECTS {
            return Err(refuse(format!("more than {MAX_REDIRECTS} redirects")).of_camera(&from));
        }
        let is_lent = credentials.is_some();
        let there = |url: &&Url| **url == self.target.url;
        let visits = self.target.redirected.iter().filter(there).count();
        if visits > usize::from(may_repeat) && !is_lent {
            return Err(refuse("the server redirects in a loop".to_owned()).of_camera(&from));
        }
        let checkout = self.request_after_redirect(credentials).map_err(|error| {
            refuse(format!("redirected to where we cannot go: {error}")).of_camera(&from)
        })?;
        if !self.may_try_again() {
            return Err(refuse("redirected again and again".to_owned()).of_camera(&from));
        }
        // Begins anew at another server: of what was met at this one nothing holds there.
        self.checkout = checkout;
        self.here = AtServer::default();
        Ok(())
    }

    /// Brings up the same once more where the server sends the session while it plays (fault F55): at
    /// another URL, by the same rules, or at the same one on another connection than `from`. `is_new`: what
    /// led to the present URL was long ago.
    pub(crate) fn redirected(
        &self,
        redirect: &Redirect,
        from: ConnectionId,
        is_new: bool,
    ) -> Result<Self, Error> {
        let (options, monitor) = (self.options.clone(), self.monitor.clone());
        let mut there = Self::new(self.pool.clone(), options, monitor)?;
        there.target = self.target.clone();
        there.checkout = self.checkout.clone();
        if is_new {
            there.target.redirected.clear();
        }
        match &redirect.location {
            Some(location) if *location != self.target.url || redirect.credentials.is_some() => {
                let credentials = redirect.credentials.as_deref().cloned();
                there.follow(location.clone(), credentials)?;
            }
            _ => there.checkout.avoid.push(from),
        }
        Ok(there)
    }

    /// Another host than the user's gets no credentials but those that came with a redirect to it, and
    /// no other server than the user's is told who we are to TLS.
    fn request_after_redirect(
        &mut self,
        credentials: Option<Credentials>,
    ) -> Result<CheckoutRequest, Error> {
        let origin = CheckoutRequest::new(&self.options)?;
        let mut here = SessionOptions {
            url: self.target.url.clone(),
            ..self.options.clone()
        };
        let server = here.connection_key()?.server().clone();
        if let Some(credentials) = credentials {
            self.target.lent = Some((server.clone(), credentials));
        }
        let lent = self.target.lent.iter().find(|(to, _)| *to == server);
        let own = origin.key.server();
        if server != *own {
            let realm = self.pool.realm(own, &self.options.url);
            let realm = realm.filter(|_| server.host() == own.host());
            let confined = here.credentials.zip(realm);
            here.credentials = confined.map(|(credentials, realm)| credentials.confined_to(realm));
            // The server must not learn who we are.
            here.tls.client = None;
        }
        if let Some((_, credentials)) = lent {
            here.credentials = Some(credentials.clone());
        }
        CheckoutRequest::new(&here)
    }
}
