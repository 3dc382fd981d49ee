//! How pooling, multiplexing, limits and the sharing verdict combine, as a table.

use super::SharedWith;
use crate::mux::{
    config::{Multiplex, Pooling},
    policy::sharing::SharingMode,
};

/// On what terms a session gets a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharingTerms {
    /// One of its own, which does not count.
    Dedicated,
    /// One of those that count against `max-connections-per-server`.
    Pooled {
        shared_with: SharedWith,
        /// At the limit it gets one of its own.
        overflows: bool,
        /// At the limit, with nothing that takes it, it waits for a place instead of failing.
        waits: bool,
    },
}

/// What a session asks for with `pooling`, at a server of which so much is known.
pub(crate) fn terms(pooling: &Pooling, mode: SharingMode) -> SharingTerms {
    if pooling.is_dedicated() {
        return SharingTerms::Dedicated;
    }
    let pooled = |shared_with, overflows| SharingTerms::Pooled {
        shared_with,
        overflows,
        waits: pooling.multiplex != Multiplex::Always,
    };
    match (pooling.multiplex, mode) {
        // Shared without a trial, and within the limit whatever happens.
        (Multiplex::Always, SharingMode::Apart(Some(_))) => pooled(SharedWith::Alone, false),
        (Multiplex::Always, _) => pooled(SharedWith::Any, false),
        (_, SharingMode::Share | SharingMode::TryInBand) => pooled(SharedWith::Any, false),
        // At the limit: else a late joiner would be tried where something plays.
        (_, SharingMode::Try) => pooled(SharedWith::NotPlaying, true),
        (_, SharingMode::Apart(None)) => pooled(SharedWith::Alone, true),
        // Not counted: else the fifth camera of a MediaMTX would not play under a limit of 4.
        (_, SharingMode::Apart(Some(_))) => SharingTerms::Dedicated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::policy::sharing::Evidence;

    const NO: SharingMode = SharingMode::Apart(Some(Evidence::Closed));
    const ALL: [SharingMode; 5] = [
        SharingMode::Share,
        SharingMode::TryInBand,
        SharingMode::Try,
        SharingMode::Apart(None),
        NO,
    ];

    fn with(multiplex: Multiplex) -> Pooling {
        Pooling {
            multiplex,
            ..Pooling::default()
        }
    }

    fn pooled(shared_with: SharedWith, overflows: bool, waits: bool) -> SharingTerms {
        SharingTerms::Pooled {
            shared_with,
            overflows,
            waits,
        }
    }

    #[test]
    fn without_pooling_multiplex_is_ignored() {
        for multiplex in [Multiplex::Auto, Multiplex::Always, Multiplex::Never] {
            let pooling = Pooling {
                enable_connection_pooling: false,
                ..with(multiplex)
            };
            for mode in ALL {
                assert_eq!(terms(&pooling, mode), SharingTerms::Dedicated);
            }
        }
    }

    #[test]
    fn never_is_a_connection_each() {
        for mode in ALL {
            assert_eq!(
                terms(&with(Multiplex::Never), mode),
                SharingTerms::Dedicated
            );
        }
    }

    #[test]
    fn auto_shares_with_a_yes_and_dedicates_with_a_no() {
        let auto = with(Multiplex::Auto);
        let shared = pooled(SharedWith::Any, false, true);
        assert_eq!(terms(&auto, SharingMode::Share), shared);
        assert_eq!(terms(&auto, SharingMode::TryInBand), shared);
        assert_eq!(terms(&auto, NO), SharingTerms::Dedicated);
    }

    #[test]
    fn auto_tries_an_unknown_server_only_where_nothing_plays() {
        let auto = with(Multiplex::Auto);
        let quiet = pooled(SharedWith::NotPlaying, true, true);
        assert_eq!(terms(&auto, SharingMode::Try), quiet);
        let apart = pooled(SharedWith::Alone, true, true);
        assert_eq!(terms(&auto, SharingMode::Apart(None)), apart);
    }

    #[test]
    fn always_shares_without_a_trial_and_stays_within_the_limit() {
        let always = with(Multiplex::Always);
        let shared = pooled(SharedWith::Any, false, false);
        for mode in [
            SharingMode::Share,
            SharingMode::TryInBand,
            SharingMode::Try,
            SharingMode::Apart(None),
        ] {
            assert_eq!(terms(&always, mode), shared);
        }
        assert_eq!(terms(&always, NO), pooled(SharedWith::Alone, false, false));
    }
}
