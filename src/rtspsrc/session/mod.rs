//! One session of an element, from open to teardown. A session that is lost is set up again.
//!
//! ```text
//! task          the task: DESCRIBE, SETUP, pads, PLAY; and what comes after a loss
//! task/recover  from the end of one session to the beginning of the next one
//! playback      pushes, pauses and watches a session that plays
//! seek          seeks in a recording
//! backchannel   sound for the camera
//! streams       which streams play on which pads, over all descriptions of a camera
//! selection     which streams the application wants: on-sdp, select-stream, SELECT_STREAMS
//! new_manager   gives each rtpbin to the application before packets come
//! feed          packets -> pads of the manager, flow returns combined
//! repeat        a server that plays the same again after a BYE
//! report        why a session ended, what the bus hears of it, and how often
//! control       starts and controls the task; target and status; guards building against state changes
//! ```
//!
//! `mux::recovery` decides whether a session is set up again.

pub(crate) mod backchannel;
pub(crate) mod control;
pub(crate) mod feed;
mod new_manager;
pub(crate) mod playback;
pub(crate) mod repeat;
pub(crate) mod report;
pub(crate) mod seek;
pub(crate) mod selection;
pub(crate) mod streams;
pub(crate) mod task;
