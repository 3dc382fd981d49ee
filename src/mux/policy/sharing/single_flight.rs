//! What one session finds out for all sessions of a server, while the others wait ("single flight"):
//! whether there is room on another connection, whether likeness of descriptions is harmless, whether
//! connections stand a DESCRIBE that fails, whether a canary passes.

use std::time::Instant;

/// One question about a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SingleFlight {
    /// It is not known.
    #[default]
    Open,
    /// A session is finding it out.
    UnderWay,
    /// It was found out.
    Known {
        is_so: bool,
        /// When it is to be found out anew; none: never.
        until: Option<Instant>,
    },
}

/// Which session finds it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finder {
    /// The session that asked.
    You,
    /// Another session is finding it out.
    Others,
    /// No session: this is known, or cannot be found out now.
    Known(bool),
}

impl SingleFlight {
    /// Which session finds it out now.
    pub(crate) fn next(self, now: Instant) -> Finder {
        match self {
            Self::UnderWay => Finder::Others,
            Self::Known { is_so, until } if until.is_none_or(|until| now < until) => {
                Finder::Known(is_so)
            }
            Self::Open | Self::Known { .. } => Finder::You,
        }
    }

    /// What was found out last, perhaps too long ago.
    pub(crate) fn outcome(self) -> Option<bool> {
        match self {
            Self::Known { is_so, .. } => Some(is_so),
            Self::Open | Self::UnderWay => None,
        }
    }

    /// A session is finding it out from now on.
    pub(crate) fn begin(&mut self) {
        *self = Self::UnderWay;
    }

    /// It is known, as long as nothing is said to the contrary or until then.
    pub(crate) fn settle(&mut self, is_so: bool, until: Option<Instant>) {
        *self = Self::Known { is_so, until };
    }

    /// The session that was finding it out has gone, with or without a result.
    pub(crate) fn give_up(&mut self) {
        if *self == Self::UnderWay {
            *self = Self::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOLDS: Duration = Duration::from_secs(5);

    /// What is done to a question, and which session finds it out then, now and when what was known
    /// until then has lapsed.
    type Row = (&'static str, fn(&mut SingleFlight, Instant), Finder, Finder);

    #[test]
    fn one_session_finds_it_out_and_the_others_wait_for_what_comes_of_it() {
        let (you, others, known) = (Finder::You, Finder::Others, Finder::Known);
        let rows: [Row; 8] = [
            ("nothing is known", |_, _| {}, you, you),
            ("one looks", |it, _| it.begin(), others, others),
            (
                "the one that looked has gone",
                |it, _| (it.begin(), it.give_up()).1,
                you,
                you,
            ),
            (
                "so for a while",
                |it, now| it.settle(true, Some(now + HOLDS)),
                known(true),
                you,
            ),
            (
                "not so for a while",
                |it, now| it.settle(false, Some(now + HOLDS)),
                known(false),
                you,
            ),
            (
                "so from now on",
                |it, _| it.settle(true, None),
                known(true),
                known(true),
            ),
            (
                "known is known when the one that looked goes",
                |it, _| (it.settle(true, None), it.give_up()).1,
                known(true),
                known(true),
            ),
            (
                "looked for anew",
                |it, now| (it.settle(false, Some(now)), it.begin()).1,
                others,
                others,
            ),
        ];
        let now = Instant::now();
        for (name, change, at_once, later) in rows {
            let mut it = SingleFlight::default();
            change(&mut it, now);
            assert_eq!(it.next(now), at_once, "{name}");
            assert_eq!(it.next(now + HOLDS), later, "{name}");
        }
    }
}
