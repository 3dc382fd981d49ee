//! One session of an element, from open to teardown, and again after it was lost.
//!
//! ```text
//! task          its life: open, play, lose, and again
//! task/open     DESCRIBE and SETUP, and pads for the streams
//! task/recover  from the end of one session to the beginning of the next one
//! playback      while it plays
//! feed          packets -> buffers -> pads of the manager, flows combined
//! end           why a session ended, and the ERROR for it
//! report        what the bus hears of a session, and how often
//! control       the element's end of the task
//! shared_state  what element and task share: target and status
//! build_guard   where the task builds, and how a state change takes that away
//! ```
//!
//! Whether a session is set up again `mux::recovery` decides.

pub(crate) mod build_guard;
pub(crate) mod control;
pub(crate) mod end;
pub(crate) mod feed;
pub(crate) mod playback;
pub(crate) mod report;
pub(crate) mod shared_state;
pub(crate) mod task;
