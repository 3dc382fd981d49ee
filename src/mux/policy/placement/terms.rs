//! How pooling, multiplexing, limits and the sharing verdict combine, as a table.

use super::Company;
use crate::mux::{
    config::{Multiplex, Pooling},
    policy::sharing::Stance,
};

/// On what terms a session gets a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// One of its own, which does not count.
    Dedicated,
    /// One of those that count against `max-connections-per-server`.
    Pooled {
        company: Company,
        /// At the limit it gets one of its own.
        overflows: bool,
        /// At the limit, with nothing that takes it, it waits for a place instead of failing.
        waits: bool,
    },
}

/// What a session asks for with `pooling`, at a server of which so much is known.
pub(crate) fn terms(pooling: &Pooling, stance: Stance) -> Terms {
    if pooling.is_dedicated() {
        return Terms::Dedicated;
    }
    let pooled = |company, overflows| Terms::Pooled {
        company,
        overflows,
        waits: pooling.multiplex != Multiplex::Always,
    };
    match (pooling.multiplex, stance) {
        // Shared without a trial, and within the limit whatever happens.
        (Multiplex::Always, Stance::Apart(Some(_))) => pooled(Company::Alone, false),
        (Multiplex::Always, _) => pooled(Company::Any, false),
        (_, Stance::Share | Stance::TryInBand) => pooled(Company::Any, false),
        // At the limit: else a late joiner would be tried where something plays.
        (_, Stance::Try) => pooled(Company::NotPlaying, true),
        (_, Stance::Apart(None)) => pooled(Company::Alone, true),
        // Not counted: else the fifth camera of a MediaMTX would not play under a limit of 4.
        (_, Stance::Apart(Some(_))) => Terms::Dedicated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::policy::sharing::Evidence;

    const NO: Stance = Stance::Apart(Some(Evidence::Closed));
    const ALL: [Stance; 5] = [
        Stance::Share,
        Stance::TryInBand,
        Stance::Try,
        Stance::Apart(None),
        NO,
    ];

    fn with(multiplex: Multiplex) -> Pooling {
        Pooling {
            multiplex,
            ..Pooling::default()
        }
    }

    fn pooled(company: Company, overflows: bool, waits: bool) -> Terms {
        Terms::Pooled {
            company,
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
            for stance in ALL {
                assert_eq!(terms(&pooling, stance), Terms::Dedicated);
            }
        }
    }

    #[test]
    fn never_is_a_connection_each() {
        for stance in ALL {
            assert_eq!(terms(&with(Multiplex::Never), stance), Terms::Dedicated);
        }
    }

    #[test]
    fn auto_shares_with_a_yes_and_dedicates_with_a_no() {
        let auto = with(Multiplex::Auto);
        let shared = pooled(Company::Any, false, true);
        assert_eq!(terms(&auto, Stance::Share), shared);
        assert_eq!(terms(&auto, Stance::TryInBand), shared);
        assert_eq!(terms(&auto, NO), Terms::Dedicated);
    }

    #[test]
    fn auto_tries_an_unknown_server_only_where_nothing_plays() {
        let auto = with(Multiplex::Auto);
        let quiet = pooled(Company::NotPlaying, true, true);
        assert_eq!(terms(&auto, Stance::Try), quiet);
        let apart = pooled(Company::Alone, true, true);
        assert_eq!(terms(&auto, Stance::Apart(None)), apart);
    }

    #[test]
    fn always_shares_without_a_trial_and_stays_within_the_limit() {
        let always = with(Multiplex::Always);
        let shared = pooled(Company::Any, false, false);
        for stance in [
            Stance::Share,
            Stance::TryInBand,
            Stance::Try,
            Stance::Apart(None),
        ] {
            assert_eq!(terms(&always, stance), shared);
        }
        assert_eq!(terms(&always, NO), pooled(Company::Alone, false, false));
    }
}
