//! Decisions, each a table with its tests: no clock, lock, task or I/O. Facts and time are passed in.

pub(super) mod join_history;
pub(super) mod odd_session;
pub(super) mod redial;
pub(super) mod sharing;
