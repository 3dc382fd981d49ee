//! The cases that do not hold yet, each with the reason. Who mends one deletes its line: the matrix asserts that
//! they still fail.

use std::time::Duration;

use crate::case::{Case, Order, Trouble};
use crate::support::mock_server::Family;

/// How long such a case is run before it counts as failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of cases that are not expected to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Today {
    /// They fail every time: run, and asserted to.
    Fails,
    /// They fail now and then: left out, and said so.
    Varies,
}

pub(crate) struct NotYet {
    is_it: fn(&Case) -> bool,
    pub(crate) today: Today,
    pub(crate) reason: &'static str,
}

const fn fails(reason: &'static str, is_it: fn(&Case) -> bool) -> NotYet {
    NotYet {
        is_it,
        today: Today::Fails,
        reason,
    }
}

const NOT_YET: &[NotYet] = &[fails(
    "a stream's SSRC is not latched where the answer to SETUP names none",
    |case| case.family == Family::LiveOld,
)];

const fn varies(reason: &'static str, is_it: fn(&Case) -> bool) -> NotYet {
    NotYet {
        is_it,
        today: Today::Varies,
        reason,
    }
}

impl Case {
    /// Why this case is not expected to hold, if so.
    pub(crate) fn not_yet(&self) -> Option<&'static NotYet> {
        NOT_YET.iter().find(|entry| (entry.is_it)(self))
    }
}
