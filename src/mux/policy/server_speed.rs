//! How far away a server is and how fast it works: that decides whether one connection is enough.
//!
//! One connection serves as well as several while the path is short and the server quick. Where the
//! server works on the requests of a connection one by one, and slowly, the requests of many sessions
//! that start together queue up behind each other; and over a long path all of them share one initial
//! window of TCP. Then more of the allowed connections are used, for sessions that start *together*;
//! a session that starts alone has no other session to wait for. Pure.

use std::time::Duration;

use crate::mux::{
    proto::{Measures, limits::LONG_PATH},
    stats::BATCH_OVER_A_LONG_PATH,
};

/// How much work may queue up on a connection before another connection pays: a delay that a user
/// notices, and far above what a busy machine adds.
const QUEUE_WORTH_A_CONNECTION: Duration = Duration::from_millis(100);

/// A server that works so long on a DESCRIBE is asked over several connections, one at a time on each:
/// live555 takes 100 ms, and goes on with what comes on other connections meanwhile.
const SLOW_TO_DESCRIBE: Duration = Duration::from_millis(80);

/// Answers in a row, one for each session, besides DESCRIBE: SETUP and PLAY.
const OTHER_REQUESTS: u32 = 2;

/// From so many lost DESCRIBEs on a server is known to lose requests that come together.
const ENOUGH_LOST: u8 = 2;

/// What was measured of one server, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerSpeed {
    /// The shortest seen.
    pub(crate) round_trip: Option<Duration>,
    /// How long the server works for one session, on the requests that no request of another session
    /// can overtake.
    pub(crate) work_per_session: Option<Duration>,
    /// For the DESCRIBE that was answered last among those that were alone on their connection. From run to
    /// run it is remembered whether that is long.
    pub(crate) describe: Option<Duration>,
    /// It loses requests unless they come one at a time.
    pub(crate) is_serial: bool,
    /// DESCRIBEs that were not answered behind another one, and were at once when they came alone.
    pub(crate) lost_describes: u8,
}

impl ServerSpeed {
    /// A connection took so long to connect and has measured this so far. The last measurement holds,
    /// except for the round trip: there the shortest holds, since waiting can only lengthen it.
    pub(crate) fn on_measured(&mut self, connect_time: Option<Duration>, measures: Measures) {
        self.round_trip = [self.round_trip, connect_time, measures.round_trip]
            .into_iter()
            .flatten()
            .min();
        if let Some(service) = measures.service_time {
            let describe = measures.describe_time.unwrap_or(service);
            self.work_per_session = Some(describe + OTHER_REQUESTS * service);
        }
    }

    /// A DESCRIBE that was alone on a connection took so long, round trip included.
    pub(crate) fn on_described(&mut self, took: Duration) {
        let work = took.saturating_sub(self.round_trip.unwrap_or_default());
        self.describe = Some(work);
        if work >= SLOW_TO_DESCRIBE {
            self.work_per_session = self.work_per_session.max(Some(work));
        }
    }

    /// A DESCRIBE that came together with others was not answered, and was answered at once when it came
    /// alone. One may have been slow; a server that takes one request for each read loses all but the
    /// first.
    pub(crate) fn on_describe_lost(&mut self) {
        self.lost_describes = self.lost_describes.saturating_add(1);
        self.is_serial |= self.lost_describes >= ENOUGH_LOST;
    }

    /// Whether each DESCRIBE is to be answered before the next one is sent.
    pub(crate) fn is_slow_to_describe(&self) -> bool {
        self.work_per_session
            .is_some_and(|work| work >= SLOW_TO_DESCRIBE)
    }

    /// Whether it is the DESCRIBEs that take long: then describe-only connections pay.
    pub(crate) fn is_worth_describe_only(&self) -> bool {
        let is_slow = |describe| describe >= SLOW_TO_DESCRIBE;
        self.is_slow_to_describe() && self.describe.is_some_and(is_slow)
    }

    /// Sessions that may be set up on one connection at a time before another connection is
    /// preferred. None: as many as want to.
    pub(crate) fn batch(&self) -> Option<u32> {
        [self.batch_by_way(), self.batch_by_work()]
            .into_iter()
            .flatten()
            .min()
    }

    fn batch_by_way(&self) -> Option<u32> {
        self.round_trip
            .is_some_and(|path| path >= LONG_PATH)
            .then_some(BATCH_OVER_A_LONG_PATH)
    }

    /// Another connection costs a round trip.
    fn batch_by_work(&self) -> Option<u32> {
        let work = self.work_per_session.filter(|work| !work.is_zero())?;
        let worth = self.round_trip.unwrap_or_default() + QUEUE_WORTH_A_CONNECTION;
        let batch = worth.as_nanos() / work.as_nanos();
        Some(u32::try_from(batch).unwrap_or(u32::MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn speed(path: Duration, service: Duration, describe: Option<Duration>) -> ServerSpeed {
        let mut speed = ServerSpeed::default();
        let measures = Measures {
            round_trip: Some(path + service),
            service_time: Some(service),
            describe_time: describe,
            ..Measures::default()
        };
        speed.on_measured(Some(path), measures);
        speed
    }

    #[test]
    fn of_an_unknown_server_everything_goes_on_one_connection() {
        assert_eq!(ServerSpeed::default().batch(), None);
    }

    #[test]
    fn near_and_quick_is_one_connection_for_sixteen() {
        assert!(speed(MS, MS / 2, None).batch() >= Some(16));
        assert_eq!(speed(MS, Duration::ZERO, None).batch(), None);
    }

    #[test]
    fn a_server_that_takes_10_ms_for_each_request_gets_several() {
        assert_eq!(speed(Duration::ZERO, 10 * MS, None).batch(), Some(3));
        assert_eq!(speed(MS, MS, Some(60 * MS)).batch(), Some(1));
        assert_eq!(speed(MS, 500 * MS, None).batch(), Some(1));
    }

    #[test]
    fn one_slow_describe_tells_unless_it_is_the_way_that_takes_its_time() {
        let mut far = speed(100 * MS, Duration::ZERO, None);
        far.on_described(120 * MS);
        assert!(!far.is_slow_to_describe());
        let mut live555 = speed(MS, Duration::ZERO, None);
        assert!(!live555.is_slow_to_describe());
        live555.on_described(101 * MS);
        assert!(live555.is_slow_to_describe());
        assert_eq!(live555.batch(), Some(1));
    }

    #[test]
    fn describe_only_connections_pay_where_the_describe_is_what_takes_its_time() {
        let mut slow_at_all = speed(MS, 35 * MS, Some(35 * MS));
        slow_at_all.on_described(36 * MS);
        assert!(slow_at_all.is_slow_to_describe());
        assert!(!slow_at_all.is_worth_describe_only());
        let mut live555 = speed(MS, Duration::ZERO, None);
        live555.on_described(101 * MS);
        assert!(live555.is_worth_describe_only());
    }

    #[test]
    fn one_lost_describe_is_an_accident_and_two_are_a_habit() {
        let mut speed = ServerSpeed::default();
        speed.on_describe_lost();
        assert!(!speed.is_serial);
        speed.on_describe_lost();
        assert!(speed.is_serial);
    }

    #[test]
    fn over_a_long_way_slow_start_counts() {
        assert_eq!(speed(20 * MS, Duration::ZERO, None).batch(), Some(4));
    }

    #[test]
    fn a_slow_name_lookup_is_not_the_way() {
        let mut speed = speed(900 * MS, Duration::ZERO, None);
        speed.on_measured(
            None,
            Measures {
                round_trip: Some(MS),
                ..Measures::default()
            },
        );
        assert_eq!(speed.round_trip, Some(MS));
        assert_eq!(speed.batch(), None);
    }
}
