//! When receiver reports are due: one timer for all sessions of the process.
//!
//! RFC 3550 6.2 has one every 5 s, varied at random by half, so that many receivers do not report at
//! once. The timer also gathers reports that are due soon, so that it wakes up twice a second at most,
//! however many sessions there are.

use std::{
    sync::{Arc, Mutex, OnceLock, Weak},
    time::{Duration, Instant},
};

use gstreamer::glib;
use tokio::sync::Notify;

use super::{rtcp, stream_sender::StreamSender};
use crate::rtspsrc::{CAT, lock, runtime, threads::timer};

/// The average time between two reports of a session. The first one comes after half of it.
const INTERVAL: Duration = Duration::from_secs(5);

/// Reports that are due within this time are sent at once.
const GATHER: Duration = Duration::from_millis(500);

/// When which session reports.
#[derive(Default)]
struct ReportSchedule {
    entries: Mutex<Vec<ScheduledReport>>,
    changed: Notify,
}

struct ScheduledReport {
    due: Instant,
    session: Weak<StreamSender>,
}

/// Sends reports of a session from now on, until it cannot send them any more or is gone.
pub(super) fn schedule_reports(session: &Arc<StreamSender>) {
    static SCHEDULE: OnceLock<Arc<ReportSchedule>> = OnceLock::new();

    let schedule = match SCHEDULE.get() {
        Some(schedule) => schedule,
        None => match runtime::timers() {
            Ok(timers) => SCHEDULE.get_or_init(|| begin(&timers)),
            Err(error) => {
                gstreamer::warning!(CAT, "no receiver reports: {error}");
                return;
            }
        },
    };
    let entry = ScheduledReport {
        due: timer::now() + about(INTERVAL / 2),
        session: Arc::downgrade(session),
    };
    lock(&schedule.entries).push(entry);
    schedule.changed.notify_one();
}

fn begin(timers: &tokio::runtime::Handle) -> Arc<ReportSchedule> {
    let schedule = Arc::<ReportSchedule>::default();
    #[expect(
        clippy::disallowed_methods,
        reason = "the one task for the reports of all sessions; it waits while there are none"
    )]
    timers.spawn(keep(schedule.clone()));
    schedule
}

async fn keep(schedule: Arc<ReportSchedule>) {
    loop {
        let next = lock(&schedule.entries).iter().map(|entry| entry.due).min();
        let mut alarm = timer::Alarm::at(next);
        tokio::select! {
            () = alarm.rings() => report_all(&schedule),
            () = schedule.changed.notified() => {}
        }
    }
}

fn report_all(schedule: &ReportSchedule) {
    let now = timer::now();
    let mut due = Vec::new();
    lock(&schedule.entries).retain_mut(|entry| {
        if entry.due > now + GATHER {
            return true;
        }
        let Some(session) = entry.session.upgrade() else {
            return false;
        };
        due.push(session);
        entry.due = now + about(INTERVAL);
        true
    });
    let is_over = |session: &Arc<StreamSender>| !session.report(now);
    let over: Vec<_> = due.into_iter().filter(is_over).collect();
    if !over.is_empty() {
        let is_over = |entry: &ScheduledReport| {
            over.iter()
                .any(|it| entry.session.as_ptr() == Arc::as_ptr(it))
        };
        lock(&schedule.entries).retain(|entry| !is_over(entry));
    }
}

/// `time`, varied at random by half.
fn about(time: Duration) -> Duration {
    time.mul_f64(glib::random_double_range(0.5, 1.5))
}

impl StreamSender {
    /// Sends a report for each stream. False if the session has no connection to send it on.
    fn report(&self, now: Instant) -> bool {
        let Some(reports) = lock(&self.reports).clone() else {
            return false;
        };
        for stream in self.streams.values() {
            let (own, report) = stream.receiver_report(now);
            let packet = rtcp::receiver_report(own, report, &self.name);
            if !reports.try_send(stream.number, packet) {
                gstreamer::log!(CAT, obj = stream.pad, "a report was dropped");
            }
        }
        true
    }
}
