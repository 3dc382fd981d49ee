//! What the user of one connection sees of its requests and of the server's.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::mux::proto::{OutgoingRequest, ServerAnswer, ServerRequest};

/// Sees the requests of one connection before they are sent: adds, changes and removes headers, or holds a
/// request back. Equal only to itself.
///
/// Each call is made on a thread of its own and may take its time: what the connection has to send waits. The
/// next call comes after it, or after the end of its session. A keep-alive or a TEARDOWN that is held back
/// counts as sent; DESCRIBE, SETUP, PLAY, PAUSE and the parameters of a session fail, with
/// [`ErrorKind::Options`](crate::mux::ErrorKind::Options). A request that is repeated, as after a 401, is not
/// shown again.
#[derive(Clone)]
pub struct BeforeSend(Arc<dyn Fn(&mut OutgoingRequest) -> bool + Send + Sync>);

impl BeforeSend {
    /// `look` returns whether the request is sent.
    pub fn new(look: impl Fn(&mut OutgoingRequest) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    pub(crate) fn look(&self, request: &mut OutgoingRequest) -> bool {
        (self.0)(request)
    }
}

/// Answers the requests that the server sends on one connection. Equal only to itself.
///
/// It gets what the library would answer, and changes it. Each call is made on a thread of its own. After 2 s
/// without an answer the library's own goes out, and what the call makes of it is not used.
#[derive(Clone)]
pub struct OnRequest(Arc<Answerer>);

type Answerer = dyn Fn(&ServerRequest, &mut ServerAnswer) + Send + Sync;

impl OnRequest {
    /// `answer` changes the library's answer.
    pub fn new(answer: impl Fn(&ServerRequest, &mut ServerAnswer) + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    pub(crate) fn answer(&self, request: &ServerRequest, answer: &mut ServerAnswer) {
        (self.0)(request, answer);
    }
}

/// Two are equal if they are one.
macro_rules! by_identity {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0)
            }
        }

        impl Eq for $name {}

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                Arc::as_ptr(&self.0).cast::<()>().hash(state);
            }
        }
    )*};
}

by_identity!(BeforeSend, OnRequest);
