//! Going where a DESCRIBE is redirected.

use url::Url;

use super::BringUp;
use crate::mux::{
    config::SessionOptions,
    connection_pool::Wish,
    error::{Error, ErrorKind, Initiator, Scope},
    proto::wire::uri::redacted,
    server_key::is_secure,
};

/// Redirects followed for one session.
const MAX_REDIRECTS: usize = 5;

impl BringUp {
    /// Turns to where a DESCRIBE was redirected (fault F40).
    pub(super) fn follow(&mut self, location: Url) -> Result<(), Error> {
        let refuse = |why: String| {
            Error::new(ErrorKind::Redirects, Scope::Session, Initiator::Server, why)
                .in_request("DESCRIBE")
        };
        if is_secure(&self.url) && !is_secure(&location) {
            let from = redacted(&self.options.url);
            let why = "redirected from TLS to a connection in clear text".to_owned();
            return Err(refuse(why).of_camera(&from));
        }
        self.redirected
            .push(std::mem::replace(&mut self.url, location));
        let from = redacted(&self.options.url);
        if self.redirected.len() > MAX_REDIRECTS {
            return Err(refuse(format!("more than {MAX_REDIRECTS} redirects")).of_camera(&from));
        }
        if self.redirected.contains(&self.url) {
            return Err(refuse("the server redirects in a loop".to_owned()).of_camera(&from));
        }
        let wish = self.wish_after_redirect().map_err(|error| {
            refuse(format!("redirected to where we cannot go: {error}")).of_camera(&from)
        })?;
        if !self.may_try_again() {
            return Err(refuse("redirected again and again".to_owned()).of_camera(&from));
        }
        self.go_to(wish)
    }

    /// Begins anew at another server: of what was learned at this one nothing holds there. What is
    /// kept is the session's own.
    fn go_to(&mut self, wish: Wish) -> Result<(), Error> {
        let there = Self::new(
            self.pool.clone(),
            self.options.clone(),
            self.monitor.clone(),
        )?;
        let url = self.url.clone();
        let redirected = std::mem::take(&mut self.redirected);
        let (attempt, intent) = (self.attempt.take(), self.intent.take());
        *self = Self {
            url,
            wish,
            redirected,
            attempt,
            intent,
            ..there
        };
        Ok(())
    }

    /// Another origin than the user's gets no credentials, and is not told who we are to TLS.
    fn wish_after_redirect(&self) -> Result<Wish, Error> {
        let origin = Wish::new(&self.options)?;
        let here = SessionOptions {
            url: self.url.clone(),
            ..self.options.clone()
        };
        let wish = Wish::new(&here)?;
        if wish.key.server() == origin.key.server() {
            return Ok(wish);
        }
        Wish::new(&SessionOptions {
            credentials: None,
            tls: here.tls.clone().without_client_certificate(),
            ..here
        })
    }
}
