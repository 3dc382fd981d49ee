//! Seeking in a recording: what queries hear of it, and how a seek comes to the session task.
//!
//! A SEEK event comes from a thread of the application, or from one that pushes into a sink. It hands the
//! seek to the session task and waits for the server's answer, as `rtspsrc` does, since the event returns
//! whether the server plays from there. The flush runs on the thread of the event too: it may have to wait for
//! downstream. Of several seeks that wait only the last one is made.
//!
//! While no session plays, a seek is kept for the next PLAY.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use gstreamer as gst;
use tokio::sync::Notify;

use super::pads::Timeline;
use crate::rtspsrc::{CAT, lock};

/// What is played, in the time of the recording.
pub(crate) type Segment = gst::FormattedSegment<gst::ClockTime>;

/// The longest wait for the server: a PAUSE and a PLAY, each 10 s at the head of the line, and a second
/// PLAY where the first one was refused.
const PATIENCE: Duration = Duration::from_secs(35);

/// The results of so many seeks are remembered.
const REMEMBERED: usize = 32;

/// Drops what the streams hold, downstream too.
pub(crate) type Flush = Box<dyn FnOnce() + Send>;

/// What the session task says of a seek.
enum SeekAnswer {
    /// The server plays from there. The thread of the event flushes.
    Accepted(Flush),
    /// The server has refused it, or there is no session any more.
    Refused,
    /// Another seek came after it.
    Superseded,
}

/// A seek for the session task. Dropping it refuses it.
pub(crate) struct SeekRequest {
    pub(crate) event: gst::Event,
    answer: mpsc::SyncSender<SeekAnswer>,
}

impl SeekRequest {
    /// The server plays from there. `flush` is dropped if the thread of the event waits no longer.
    pub(crate) fn accept(self, flush: Flush) {
        // An error drops the flush.
        let _ = self.answer.try_send(SeekAnswer::Accepted(flush));
    }

    /// Another seek is made in its place.
    pub(crate) fn supersede(self) {
        let _ = self.answer.try_send(SeekAnswer::Superseded);
    }
}

/// The seeks of one element.
#[derive(Default)]
pub(crate) struct Seeking {
    state: Mutex<SeekState>,
    asked: Notify,
}

struct SeekState {
    segment: Segment,
    /// Nothing but the present can be had of it.
    is_live: bool,
    /// A session task takes seeks.
    is_listening: bool,
    next: Option<SeekRequest>,
    /// For the next PLAY.
    kept: Option<gst::Event>,
    /// The last seeks and their results: each sink of a pipeline sends the same event.
    results: VecDeque<(gst::Seqnum, bool)>,
}

impl Default for SeekState {
    fn default() -> Self {
        Self {
            segment: Segment::new(),
            is_live: false,
            is_listening: false,
            next: None,
            kept: None,
            results: VecDeque::new(),
        }
    }
}

impl std::fmt::Debug for Seeking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seeking").finish_non_exhaustive()
    }
}

impl SeekState {
    fn note(&mut self, seek: gst::Seqnum, result: bool) {
        self.results.truncate(REMEMBERED - 1);
        self.results.push_front((seek, result));
    }
}

/// The calls of the session task.
impl Seeking {
    /// Takes seeks until the guard is dropped.
    pub(crate) fn listen(self: &Arc<Self>) -> Listening {
        lock(&self.state).is_listening = true;
        Listening(self.clone())
    }

    /// The next seek.
    pub(crate) async fn asked(&self) -> SeekRequest {
        loop {
            if let Some(request) = self.take() {
                return request;
            }
            self.asked.notified().await;
        }
    }

    /// The seek that waits.
    pub(crate) fn take(&self) -> Option<SeekRequest> {
        lock(&self.state).next.take()
    }

    /// Keeps a seek for the next PLAY.
    pub(crate) fn keep(&self, event: gst::Event) {
        lock(&self.state).kept = Some(event);
    }

    /// The seek that came while no session played.
    pub(crate) fn take_kept(&self) -> Option<gst::Event> {
        lock(&self.state).kept.take()
    }

    /// What is played.
    pub(crate) fn segment(&self) -> Segment {
        lock(&self.state).segment.clone()
    }

    /// The server plays this from now on.
    pub(crate) fn on_playing(&self, segment: Segment, is_live: bool) {
        let mut state = lock(&self.state);
        (state.segment, state.is_live) = (segment, is_live);
    }

    /// The element goes to READY.
    pub(crate) fn reset(&self) {
        let before = std::mem::take(&mut *lock(&self.state));
        drop(before);
    }
}

/// A session task takes seeks.
pub(crate) struct Listening(Arc<Seeking>);

impl Drop for Listening {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.is_listening = false;
        let next = state.next.take();
        drop(state);
        drop(next);
    }
}

/// The calls of other threads.
impl Seeking {
    /// Takes a SEEK event. Returns whether the server plays from there.
    pub(crate) fn on_event(self: &Arc<Self>, event: &gst::Event) -> bool {
        // A thread of ours that waited here might be the one that has to go on.
        let thread = std::thread::current();
        if !thread.name().is_some_and(|it| it.starts_with("rtspmux-")) {
            return self.seek(event);
        }
        let (own, event) = (self.clone(), event.clone());
        let thread = std::thread::Builder::new().name("rtspmux-seek".to_owned());
        thread.spawn(move || own.seek(&event)).is_ok()
    }

    fn seek(&self, event: &gst::Event) -> bool {
        let gst::EventView::Seek(seek) = event.view() else {
            return false;
        };
        let (_, flags, _, start, _, _) = seek.get();
        let is_time = start.format() == gst::Format::Time;
        if !is_time || flags.contains(gst::SeekFlags::SEGMENT) {
            gst::debug!(CAT, "refused: {event:?}");
            return false;
        }
        let seqnum = event.seqnum();
        let (answer, answered) = mpsc::sync_channel(1);
        let mut state = lock(&self.state);
        let mut results = state.results.iter();
        if let Some((_, result)) = results.find(|(number, _)| *number == seqnum) {
            return *result;
        }
        if state.is_listening && state.is_live {
            return false;
        }
        if !state.is_listening {
            state.kept = Some(event.clone());
            state.note(seqnum, true);
            return true;
        }
        let event = event.clone();
        let before = state.next.replace(SeekRequest { event, answer });
        drop(state);
        if let Some(before) = before {
            before.supersede();
        }
        self.asked.notify_one();
        let answer = answered.recv_timeout(PATIENCE);
        let result = match answer.unwrap_or(SeekAnswer::Refused) {
            SeekAnswer::Accepted(flush) => {
                flush();
                true
            }
            SeekAnswer::Superseded => true,
            SeekAnswer::Refused => false,
        };
        lock(&self.state).note(seqnum, result);
        result
    }

    /// Answers a query about the recording. `None`: it is not one. `timeline` has the times of the pad.
    pub(crate) fn query(&self, query: &mut gst::QueryRef, timeline: &Timeline) -> Option<bool> {
        let state = lock(&self.state);
        let duration = state.segment.duration();
        match query.view_mut() {
            gst::QueryViewMut::Duration(query) if query.format() == gst::Format::Time => {
                query.set(duration);
                Some(true)
            }
            gst::QueryViewMut::Seeking(query) if query.format() == gst::Format::Time => {
                let is_seekable = duration.is_some_and(|it| !it.is_zero()) && !state.is_live;
                query.set(is_seekable, gst::ClockTime::ZERO, duration);
                Some(true)
            }
            gst::QueryViewMut::Position(query) if query.format() == gst::Format::Time => {
                let passed = timeline.passed()?;
                let (start, rate) = (state.segment.start()?, state.segment.rate());
                let passed = passed.nseconds() as f64 * rate.abs();
                let passed = gst::ClockTime::from_nseconds(passed as u64);
                query.set(match rate > 0.0 {
                    true => Some(start + passed),
                    false => Some(state.segment.stop()?.saturating_sub(passed)),
                });
                Some(true)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: gst::ClockTime = gst::ClockTime::SECOND;

    fn seek(to: gst::ClockTime) -> gst::Event {
        gst::init().unwrap();
        let (set, none) = (gst::SeekType::Set, gst::SeekType::None);
        let flags = gst::SeekFlags::FLUSH;
        gst::event::Seek::new(1.0, flags, set, to, none, gst::ClockTime::NONE)
    }

    fn idle() -> Arc<Seeking> {
        gst::init().unwrap();
        Arc::default()
    }

    fn playing() -> (Arc<Seeking>, Listening) {
        let seeking = idle();
        let listening = seeking.listen();
        (seeking, listening)
    }

    #[test]
    fn a_seek_while_no_session_plays_is_kept_for_the_next_one() {
        let seeking = idle();
        let events = [seek(S), seek(2 * S)];
        assert!(events.iter().all(|event| seeking.on_event(event)));
        assert_eq!(seeking.take_kept().unwrap().seqnum(), events[1].seqnum());
        assert!(seeking.take_kept().is_none());
    }

    #[test]
    fn of_seeks_that_wait_the_last_one_is_made_and_none_fails() {
        let (seeking, _listening) = playing();
        let events: Vec<_> = (1..20).map(|second| seek(second * S)).collect();
        let last = events.last().unwrap().seqnum();
        std::thread::scope(|scope| {
            let mut callers = Vec::new();
            for event in &events {
                callers.push(scope.spawn(|| seeking.on_event(event)));
                let is_there = || {
                    let state = lock(&seeking.state);
                    let next = state.next.as_ref();
                    next.is_some_and(|it| it.event.seqnum() == event.seqnum())
                };
                while !is_there() {
                    std::thread::yield_now();
                }
            }
            let request = seeking.take().unwrap();
            assert_eq!(request.event.seqnum(), last);
            request.accept(Box::new(|| ()));
            assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
        });
        assert!(seeking.take().is_none());
        assert!(
            seeking.on_event(&events[18]),
            "each sink sends the same event"
        );
    }

    #[test]
    fn a_session_that_ends_refuses_the_seek() {
        let (seeking, listening) = playing();
        let event = seek(S);
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| seeking.on_event(&event));
            while lock(&seeking.state).next.is_none() {
                std::thread::yield_now();
            }
            drop(listening);
            assert!(!caller.join().unwrap());
        });
    }

    #[test]
    fn what_is_live_is_not_sought() {
        let (seeking, _listening) = playing();
        seeking.on_playing(Segment::new(), true);
        assert!(!seeking.on_event(&seek(S)));
    }
}
