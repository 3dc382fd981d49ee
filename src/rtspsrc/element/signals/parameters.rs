//! The actions `get-parameter`, `get-parameters` and `set-parameter`.
//!
//! A promise that was taken is always answered: with what the server says, or with a failure. It expires if
//! the session ends first, as it does when the element goes to READY.

use gst::{
    glib::{self, subclass::Signal, translate::IntoGlib},
    prelude::*,
    subclass::prelude::ObjectSubclassIsExt,
};
use gst_rtsp::RTSPResult;
use gstreamer as gst;
use gstreamer_rtsp as gst_rtsp;

use crate::{
    mux::{Error, ErrorKind, ParameterAnswer, ParameterRequest},
    rtspsrc::{CAT, RtspMuxSrc, guard, handlers, session::control::SessionControl},
};

/// What `rtspsrc` sends if the caller names no type.
const USUAL_TYPE: &str = "text/parameters";

pub(super) fn signals() -> [Signal; 3] {
    let (text, promise) = (glib::Type::STRING, gst::Promise::static_type());
    let strings = <Vec<String>>::static_type();
    let action = |name, types: Vec<glib::Type>, request: fn(&[glib::Value]) -> Option<Request>| {
        Signal::builder(name)
            .param_types(types)
            .return_type::<bool>()
            .run_last()
            .action()
            .class_handler(move |args| {
                let element = args.first().and_then(|it| it.get::<RtspMuxSrc>().ok());
                let is_taken = element.is_some_and(|element| {
                    guard(&element, false, || {
                        request(args).is_some_and(|request| request.send(&element))
                    })
                });
                Some(is_taken.to_value())
            })
            .build()
    };
    [
        action("get-parameter", vec![text, text, promise], |args| {
            let [_, name, content_type, promise] = args else {
                return None;
            };
            let name: String = name.get::<Option<_>>().ok()??;
            (!name.is_empty()).then_some(())?;
            Request::get(vec![name], content_type, promise)
        }),
        action("get-parameters", vec![strings, text, promise], |args| {
            let [_, names, content_type, promise] = args else {
                return None;
            };
            let names: Vec<String> = names.get().ok()?;
            // There is no telling an empty list from none, which `rtspsrc` refuses.
            (!names.is_empty()).then_some(())?;
            Request::get(names, content_type, promise)
        }),
        action("set-parameter", vec![text, text, text, promise], |args| {
            let [_, name, value, content_type, promise] = args else {
                return None;
            };
            let (name, value): (Option<String>, Option<String>) =
                (name.get().ok()?, value.get().ok()?);
            Request::set(&name?, &value?, content_type, promise)
        }),
    ]
}

/// A request and who waits for its answer.
struct Request {
    request: ParameterRequest,
    promise: gst::Promise,
}

impl Request {
    fn get(names: Vec<String>, content_type: &glib::Value, promise: &glib::Value) -> Option<Self> {
        let are_usable = names.iter().all(|name| is_usable(name));
        let lines = names.iter().map(|name| format!("{name}:\r\n"));
        let body = are_usable.then(|| lines.collect::<String>())?;
        Self::new(false, body, content_type, promise)
    }

    fn set(
        name: &str,
        value: &str,
        content_type: &glib::Value,
        promise: &glib::Value,
    ) -> Option<Self> {
        let is_named = !name.is_empty() && is_usable(name);
        let body = is_named.then(|| format!("{name}: {value}\r\n"))?;
        Self::new(true, body, content_type, promise)
    }

    fn new(
        is_change: bool,
        body: String,
        content_type: &glib::Value,
        promise: &glib::Value,
    ) -> Option<Self> {
        let content_type: Option<String> = content_type.get().ok()?;
        let content_type = content_type.unwrap_or_else(|| USUAL_TYPE.to_owned());
        // It goes into a header.
        if content_type.chars().any(char::is_control) {
            return None;
        }
        let promise: Option<gst::Promise> = promise.get().ok()?;
        Some(Self {
            request: ParameterRequest {
                is_change,
                content_type,
                body: body.into(),
            },
            promise: promise?,
        })
    }

    /// Sends it for the session of `element`. Returns false if there is none that is set up.
    fn send(self, element: &RtspMuxSrc) -> bool {
        let Some(session) = element.imp().session() else {
            return false;
        };
        let Some(sender) = session.parameters() else {
            return false;
        };
        let Self { request, promise } = self;
        let name = match request.is_change {
            true => "set-parameter-reply",
            false => "get-parameter-reply",
        };
        if !sender.may_support(&request) {
            reply(name, promise, Outcome::failed(RTSPResult::Error));
            return true;
        }
        let answer = sender.send(request);
        let answered = {
            let promise = promise.clone();
            async move { reply(name, promise, Outcome::of(answer.await)) }
        };
        if let Err(error) = SessionControl::spawn(answered) {
            gst::error!(CAT, obj = element, "no threads: {error}");
            reply(name, promise, Outcome::failed(RTSPResult::Esys));
        }
        true
    }
}

/// `rtspsrc` refuses a name with blanks or control characters, which could begin another line.
fn is_usable(name: &str) -> bool {
    let is_bad = |it: char| it.is_ascii_whitespace() || it.is_ascii_control();
    !name.contains(is_bad)
}

/// What becomes of a promise; `None`: it expires.
type Fulfilment = Option<Outcome>;

/// The fields of a reply.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    result: RTSPResult,
    code: u16,
    body: String,
}

impl Outcome {
    /// Without an answer the code is 200, as with `rtspsrc`: `rtsp-result` tells.
    fn failed(result: RTSPResult) -> Fulfilment {
        Some(Self {
            result,
            code: 200,
            body: String::new(),
        })
    }

    fn of(answer: Result<ParameterAnswer, Error>) -> Fulfilment {
        let error = match answer {
            Ok(ParameterAnswer { code, body }) => {
                return Some(Self {
                    result: RTSPResult::Ok,
                    code,
                    body: String::from_utf8_lossy(&body).into_owned(),
                });
            }
            Err(error) => error,
        };
        gst::info!(CAT, "parameters: {error}");
        match error.kind() {
            ErrorKind::Cancelled | ErrorKind::ShutDown => None,
            ErrorKind::Status(code) => Some(Self {
                result: RTSPResult::Ok,
                code,
                body: String::new(),
            }),
            ErrorKind::TimedOut => Self::failed(RTSPResult::Etimeout),
            ErrorKind::ConnectionLost => Self::failed(RTSPResult::Eeof),
            _ => Self::failed(RTSPResult::Error),
        }
    }
}

/// Replies on a thread of its own: the promise may call a function of the application.
fn reply(name: &'static str, promise: gst::Promise, outcome: Fulfilment) {
    let fallback = promise.clone();
    let replied = handlers::spawn(move || match outcome {
        None => promise.expire(),
        Some(Outcome { result, code, body }) => {
            let fields = gst::Structure::builder(name)
                .field("rtsp-result", result.into_glib())
                .field("rtsp-code", i32::from(code))
                .field("rtsp-reason", reason(code));
            let fields = match name {
                "get-parameter-reply" => fields.field("body", body),
                _ => fields,
            };
            promise.reply(Some(fields.build()));
        }
    });
    if replied.is_err() {
        fallback.expire();
    }
}

/// The text that GStreamer has for a status; none for one that it does not know.
fn reason(code: u16) -> Option<&'static str> {
    Some(match code {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        250 => "Low on Storage Space",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Move Temporarily",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Time-out",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        415 => "Unsupported Media Type",
        451 => "Parameter Not Understood",
        452 => "Conference Not Found",
        453 => "Not Enough Bandwidth",
        454 => "Session Not Found",
        455 => "Method Not Valid in This State",
        456 => "Header Field Not Valid for Resource",
        457 => "Invalid Range",
        458 => "Parameter Is Read-Only",
        459 => "Aggregate operation not allowed",
        460 => "Only aggregate operation allowed",
        461 => "Unsupported transport",
        462 => "Destination unreachable",
        463 => "Key management failure",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Time-out",
        505 => "RTSP Version not supported",
        551 => "Option not supported",
        _ => return None,
    })
}
