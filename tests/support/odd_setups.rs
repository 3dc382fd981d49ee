//! What servers do with the SETUP of one stream that cannot be had.

use crate::support::mock_server::Reaction;
use crate::support::rtsp::Response;

fn udp() -> Reaction {
    let udp = "RTP/AVP/UDP;unicast;client_port=5000-5001";
    Reaction::edit(move |response| {
        let mut edited = Response::new(response.status);
        for (name, value) in response.headers.iter() {
            let is_it = name.eq_ignore_ascii_case("Transport");
            edited = edited.header(name, if is_it { udp } else { value });
        }
        *response = edited;
    })
}

/// Each with its name.
pub(crate) fn oddities() -> Vec<(&'static str, Reaction)> {
    let statuses = [400, 403, 404, 415, 453, 454, 459, 461, 500, 501, 503];
    let mut oddities: Vec<_> = statuses
        .map(|status| ("a status", Reaction::status(status)))
        .into();
    oddities.push(("a redirect", Reaction::redirect("rtsp://127.0.0.1:9/else")));
    oddities.push(("UDP", udp()));
    oddities.push(("silence", Reaction::Ignore));
    oddities
}
