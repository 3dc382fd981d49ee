//! `GstRTSPMessage` for handlers of `before-send` and `handle-request`: made of a request or an answer, and read back as
//! they have left it.
#![allow(
    unsafe_code,
    reason = "the bindings neither make such a message nor read it, and emit a copy of it"
)]

use std::ffi::{CStr, CString};

use bytes::Bytes;
use gst::glib::{self, ffi as glib_ffi, gobject_ffi, subclass::SignalId, translate::*};
use gst::prelude::*;
use gst_rtsp::ffi;
use gstreamer as gst;
use gstreamer_rtsp as gst_rtsp;

use crate::{
    mux::{OutgoingRequest, ServerAnswer, ServerRequest},
    rtspsrc::RtspMuxSrc,
};

/// Names and values.
type HeaderList = [(String, String)];

/// A message that belongs to this process' side of the conversation.
struct OwnMessage(*mut ffi::GstRTSPMessage);

impl OwnMessage {
    /// `None`: GStreamer does not know the method, or there is no memory.
    fn request(method: &str, uri: &str, headers: &HeaderList, body: &[u8]) -> Option<Self> {
        let (method, uri) = (text(method)?, text(uri)?);
        let mut message = std::ptr::null_mut();
        // SAFETY: both texts live through the calls, and are copied. The message is the caller's then.
        let made = unsafe {
            let method = ffi::gst_rtsp_find_method(method.as_ptr());
            ffi::gst_rtsp_message_new_request(&mut message, method, uri.as_ptr())
        };
        let message = (made == ffi::GST_RTSP_OK && !message.is_null()).then_some(Self(message))?;
        message.fill(headers, body)?;
        Some(message)
    }

    /// The answer to a request: with its `CSeq` and its `Session`.
    fn answer(answer: &ServerAnswer, request: &Self) -> Option<Self> {
        let reason = text(&answer.reason)?;
        let code = i32::from(answer.code);
        let mut message = std::ptr::null_mut();
        // SAFETY: the text and the request live through the call, and are copied. The message is the
        // caller's then.
        let made = unsafe {
            ffi::gst_rtsp_message_new_response(&mut message, code, reason.as_ptr(), request.0)
        };
        let message = (made == ffi::GST_RTSP_OK && !message.is_null()).then_some(Self(message))?;
        message.fill(&answer.headers, &answer.body)?;
        Some(message)
    }

    fn fill(&self, headers: &HeaderList, body: &[u8]) -> Option<()> {
        for (name, value) in headers {
            self.add(name, value);
        }
        let size = u32::try_from(body.len()).ok()?;
        if size > 0 {
            // SAFETY: the body is copied.
            unsafe { ffi::gst_rtsp_message_set_body(self.0, body.as_ptr(), size) };
        }
        Some(())
    }

    /// Code and reason of an answer.
    fn status(&self) -> Option<(u16, String)> {
        let (mut code, mut reason) = (0, std::ptr::null());
        // SAFETY: the message is valid; the reason is its own, and is copied before anything changes it. It
        // is null if the handler has set none.
        unsafe {
            let version = std::ptr::null_mut();
            let parsed =
                ffi::gst_rtsp_message_parse_response(self.0, &mut code, &mut reason, version);
            if parsed != ffi::GST_RTSP_OK {
                return None;
            }
            let reason = match reason.is_null() {
                true => String::new(),
                false => CStr::from_ptr(reason).to_string_lossy().into_owned(),
            };
            Some((u16::try_from(code).ok()?, reason))
        }
    }

    fn body(&self) -> Bytes {
        let (mut data, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: the body is the message's own, and is copied; it may be null.
        unsafe {
            let read = ffi::gst_rtsp_message_get_body(self.0, &mut data, &mut size);
            if read != ffi::GST_RTSP_OK || data.is_null() {
                return Bytes::new();
            }
            let size = usize::try_from(size).unwrap_or_default();
            Bytes::copy_from_slice(std::slice::from_raw_parts(data, size))
        }
    }

    fn add(&self, name: &str, value: &str) {
        let (Some(name), Some(value)) = (text(name), text(value)) else {
            return;
        };
        // SAFETY: the message is valid, and both texts are copied.
        unsafe {
            ffi::gst_rtsp_message_add_header_by_name(self.0, name.as_ptr(), value.as_ptr());
        }
    }

    /// Names and values of its headers, in order.
    fn headers(&self) -> Vec<(String, String)> {
        // SAFETY: the text is made here, is never null, and ends with a zero; it is freed after it was copied.
        let lines = unsafe {
            let lines = glib_ffi::g_string_new(std::ptr::null());
            ffi::gst_rtsp_message_append_headers(self.0, lines);
            let copy = CStr::from_ptr((*lines).str).to_string_lossy().into_owned();
            glib_ffi::g_string_free(lines, glib_ffi::GTRUE);
            copy
        };
        let headers = lines.split("\r\n").filter_map(|line| line.split_once(':'));
        headers
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect()
    }

    /// A value that refers to it: handlers get the message itself.
    fn value(&self) -> glib::Value {
        let mut value = glib::Value::from_type(gst_rtsp::rtsp_message::RTSPMessage::static_type());
        // SAFETY: the value has the type of the message, which outlives it.
        unsafe { gobject_ffi::g_value_set_static_boxed(value.to_glib_none_mut().0, self.0.cast()) };
        value
    }
}

impl Drop for OwnMessage {
    fn drop(&mut self) {
        // SAFETY: it was made here, and no one else has it: the values that refer to it are gone.
        unsafe { ffi::gst_rtsp_message_free(self.0) };
    }
}

/// `None`: it has a zero in it.
fn text(text: &str) -> Option<CString> {
    CString::new(text).ok()
}

/// Emits a signal of the element. Handlers get the messages themselves.
fn emit(
    element: &RtspMuxSrc,
    signal: &str,
    messages: &[&OwnMessage],
    result: Option<&mut glib::Value>,
) {
    let Some(signal) = SignalId::lookup(signal, RtspMuxSrc::static_type()) else {
        return;
    };
    let messages = messages.iter().map(|message| message.value());
    let arguments: Vec<_> = std::iter::once(element.to_value())
        .chain(messages)
        .collect();
    let result = result.map_or(std::ptr::null_mut(), |it| it.to_glib_none_mut().0);
    // SAFETY: the values have the types of the signal's parameters and of its result, and a value of the
    // bindings is one of GLib's. The bindings' own call would emit copies of the messages.
    unsafe {
        gobject_ffi::g_signal_emitv(arguments.as_ptr().cast(), signal.into_glib(), 0, result);
    }
}

/// Emits `before-send`; the request then has the headers that the handlers have left. False: it is not to be
/// sent.
pub(super) fn emit_before_send(element: &RtspMuxSrc, request: &mut OutgoingRequest) -> bool {
    let (method, uri) = (&request.method, &request.uri);
    let Some(message) = OwnMessage::request(method, uri, &request.headers, &request.body) else {
        return true;
    };
    let mut answer = true.to_value();
    emit(element, "before-send", &[&message], Some(&mut answer));
    request.headers = message.headers();
    answer.get().unwrap_or(true)
}

/// Emits `handle-request`; the answer is then what the handlers have made of it.
pub(super) fn emit_handle_request(
    element: &RtspMuxSrc,
    request: &ServerRequest,
    answer: &mut ServerAnswer,
) {
    let (method, uri) = (&request.method, &request.uri);
    let shown = OwnMessage::request(method, uri, &request.headers, &request.body);
    let response = shown
        .as_ref()
        .and_then(|shown| OwnMessage::answer(answer, shown));
    let (Some(shown), Some(response)) = (shown, response) else {
        return;
    };
    emit(element, "handle-request", &[&shown, &response], None);
    if let Some((code, reason)) = response.status() {
        (answer.code, answer.reason) = (code, reason);
        answer.headers = response.headers();
        answer.body = response.body();
    }
}
