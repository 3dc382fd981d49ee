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

const NOT_YET: &[NotYet] = &[
    varies(
        "a DESCRIBE that is not answered holds up those behind it for 2 s, and all for good once one plays",
        |case| matches!(case.trouble, Trouble::Slow(_)),
    ),
    varies(
        "a camera whose second DESCRIBE fails is taken for one that shares until the second refusal",
        |case| {
            case.family == Family::CheapCamera && case.order == Order::OneByOne && case.cameras > 2
        },
    ),
    varies(
        "of many requests that are swallowed together, more are sent than need be",
        |case| {
            case.family == Family::EvoStream && case.order == Order::Together && case.cameras > 1
        },
    ),
    varies(
        "whether a session plays before the others are refused is chance",
        |case| {
            let harms = matches!(
                case.family,
                Family::Go2Rtc | Family::MediaMtx | Family::ZlMediaKit
            );
            harms && case.order == Order::Together && case.cameras > 1
        },
    ),
    varies(
        "of requests that arrive together only the first is answered, the others wait for their deadline",
        |case| case.family == Family::Vlc && case.order == Order::Together && case.cameras > 1,
    ),
    fails(
        "a full server is asked again on every connection there is",
        |case| {
            matches!(case.family, Family::AtLimit(_))
                && case.order == Order::Together
                && case.cameras == 16
        },
    ),
];

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
