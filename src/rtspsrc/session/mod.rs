//! One session of an element, from open to teardown, and again after it was lost.
//!
//! ```text
//! task         its life: open, play, lose, and again
//! task/open    DESCRIBE and SETUP, and pads for the streams
//! control      the element's end of the task
//! target       what the element wants: which state, and what is to be played
//! playback     while it plays
//! feed         packets -> buffers -> pads of the manager, flows combined
//! streams      what is described -> what is played
//! build_guard  where the task builds, and how a state change takes that away
//! end          why a session ended, and how that is said
//! report       what the bus hears of a session that does not come up, and how often
//! progress     the progress that the bus hears
//! losses       packets that consumers or the network lost
//! status       how a session stands, for `stats`
//! ```

pub(crate) mod build_guard;
pub(crate) mod control;
pub(crate) mod end;
pub(crate) mod feed;
pub(crate) mod losses;
pub(crate) mod playback;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod status;
pub(crate) mod streams;
pub(crate) mod target;
pub(crate) mod task;
