//! One session of an element, from open to teardown. A session that is lost is set up again.
//!
//! ```text
//! task          the task: opens, plays, and sets the session up again after a loss
//! task/open     DESCRIBE and SETUP, and pads for the streams
//! task/recover  from the end of one session to the beginning of the next one
//! playback      pushes, pauses and watches a session that plays
//! feed          packets -> pads of the manager, flow returns combined
//! end           why a session ended, and the ERROR for it
//! report        what the bus hears of a session, and how often
//! control       starts and controls the task for the element
//! shared_state  what element and task share: target and status
//! build_guard   guards what the task builds against state changes
//! ```
//!
//! `mux::recovery` decides whether a session is set up again.

pub(crate) mod build_guard;
pub(crate) mod control;
pub(crate) mod end;
pub(crate) mod feed;
pub(crate) mod playback;
pub(crate) mod report;
pub(crate) mod shared_state;
pub(crate) mod task;
