//! SETUP of the streams that are wanted.

use super::{
    BringUp, Passage, Step, first_asked,
    waiting::{Wait, Waited},
};
use crate::mux::{
    error::Error,
    proto::{Failure, FailureKind, FirstAsked, Presentation, Reply, SessionRequest, StreamGrant},
    session::attachment::{Attachment, Pending},
};

/// What the SETUPs of a session came to.
#[derive(Debug, Default)]
pub(crate) struct StreamsSetUp {
    pub(crate) grants: Vec<StreamGrant>,
    /// Streams left out, and why.
    pub(crate) failed: Vec<(usize, Error)>,
    /// What the server describes now, where an earlier description was gone by.
    described: Option<Reply>,
}

pub(super) fn setup_request(
    presentation: &Presentation,
    stream: usize,
) -> Option<(usize, SessionRequest)> {
    let media = presentation.streams.get(stream)?;
    let request = SessionRequest::Setup {
        stream,
        control: media.control.clone(),
        payload_types: media.payload_types.clone(),
    };
    Some((stream, request))
}

fn granted(reply: Reply) -> Option<StreamGrant> {
    match reply {
        Reply::SetUp(grant) => Some(grant),
        _ => None,
    }
}

impl BringUp {
    /// Sets up `streams`; as far as another connection is needed for it, describes again there.
    /// Gives back what took part in the end, the grants, and why streams were left out.
    pub(crate) async fn set_up(
        &mut self,
        mut attachment: Attachment,
        mut presentation: Presentation,
        streams: &[usize],
    ) -> Result<(Attachment, Presentation, StreamsSetUp), Error> {
        let mut streams = streams.to_vec();
        loop {
            let may_stay = self.await_sharing(&attachment).await?
                && (!self.checkout.needs_describe || self.may_set_up(&attachment) == Passage::Open);
            if may_stay {
                attachment = match self.rejoin(attachment, &presentation).await {
                    Ok(attachment) => attachment,
                    Err((handle, failure)) => {
                        self.recover(Step::SetUp, &handle, failure)?;
                        drop(handle);
                        (attachment, presentation) = self.describe().await?;
                        continue;
                    }
                };
            }
            if may_stay && self.may_remain(&attachment) {
                self.look_for_leavers();
                let joining = self.joining(&attachment);
                let setting_up = self.set_up_on(&attachment, &presentation, &streams);
                let outcome = self.unless_held_up(&attachment, Wait::SetUp, setting_up);
                let outcome = outcome.await;
                drop(joining);
                match outcome? {
                    Waited::Answer(Ok(mut done)) => {
                        if self.still_holds(&attachment, &mut presentation, &mut done)? {
                            self.on_set_up(&attachment, &done);
                            return Ok((attachment, presentation, done));
                        }
                    }
                    // Of what is described no more.
                    Waited::Answer(Err(failure))
                        if std::mem::take(&mut self.here.is_remembered) =>
                    {
                        self.pool.forget(&self.checkout);
                        self.here.known = None;
                        self.on_describe_failed(&attachment, &failure);
                        if !self.may_try_again() {
                            return Err(self.error(attachment.handle(), &failure));
                        }
                    }
                    Waited::Answer(Err(failure)) => {
                        self.recover(Step::SetUp, attachment.handle(), failure)?;
                    }
                    Waited::HeldUp | Waited::Spread => {
                        self.doubt_what_is_remembered();
                        self.on_held_up(&attachment);
                    }
                }
            }
            // Released before the next one is opened: the server may allow one session more only.
            drop(attachment);
            let streams_before = presentation.streams.len();
            (attachment, presentation) = self.describe().await?;
            let streams_now = presentation.streams.len();
            if streams_now == streams_before {
                continue;
            }
            if streams.len() < streams_before {
                return Err(self.unusable(&attachment, "it has other streams than before"));
            }
            streams = (0..streams_now).collect();
        }
    }

    /// Whether what was set up is what the server describes now, where an earlier description was
    /// gone by. If so `presentation` is the new one.
    fn still_holds(
        &mut self,
        attachment: &Attachment,
        presentation: &mut Presentation,
        done: &mut StreamsSetUp,
    ) -> Result<bool, Error> {
        let Some(reply) = done.described.take() else {
            return Ok(true);
        };
        self.here.is_remembered = false;
        if let Some(described) = &mut self.here.described {
            described.is_first = first_asked(&reply) == FirstAsked::Own;
        }
        let fresh = self.presentation(attachment, reply)?;
        self.here.known = Some(fresh.clone());
        let holds = fresh.is_set_up_like(presentation);
        if holds {
            *presentation = fresh;
        } else {
            self.pool.forget(&self.checkout);
        }
        Ok(holds)
    }

    /// The DESCRIBE beside its SETUP waited behind one that is not answered: it may not be either, and
    /// goes where nothing plays.
    fn doubt_what_is_remembered(&mut self) {
        if std::mem::take(&mut self.here.is_remembered) {
            self.here.known = None;
            self.checkout.is_doubtful = true;
        }
    }

    fn on_set_up(&mut self, attachment: &Attachment, done: &StreamsSetUp) {
        let timeouts = done.grants.iter().map(|grant| grant.session_timeout);
        let timeout = timeouts.min().unwrap_or_default();
        let uri = self.checkout.presentation();
        self.pool.on_set_up(attachment.handle(), uri, timeout);
        if let Some(attempt) = &self.attempt {
            attempt.on_set_up();
        }
        self.on_success(Step::SetUp);
        self.monitor.set_grants(&done.grants);
    }

    /// The first stream alone, because its answer brings the session id; then the others at once.
    async fn set_up_on(
        &self,
        attachment: &Attachment,
        presentation: &Presentation,
        streams: &[usize],
    ) -> Result<StreamsSetUp, Failure> {
        let mut done = StreamsSetUp::default();
        let delivery = attachment.consumer.delivery();
        delivery.describe(&presentation.streams);
        let mut requests = streams
            .iter()
            .filter_map(|stream| setup_request(presentation, *stream));
        let Some((_, first)) = requests.next() else {
            return Ok(done);
        };
        // In the same round trip, and before it: gst-rtsp-server keeps a medium that it has described
        // for the SETUP that comes next, and would make another one for a DESCRIBE behind it.
        let describing = self
            .here
            .is_remembered
            .then(|| attachment.send(SessionRequest::Describe));
        let first = attachment.send(first);
        let granted_first = first.reply().await.inspect_err(|failure| {
            if matches!(failure.kind, FailureKind::Status { .. }) {
                attachment.on_refused();
            }
        })?;
        done.grants.extend(granted(granted_first));
        let pending: Vec<(usize, Pending<'_>)> = requests
            .map(|(stream, request)| (stream, attachment.send(request)))
            .collect();
        for (stream, pending) in pending {
            match pending.reply().await {
                Ok(reply) => done.grants.extend(granted(reply)),
                Err(failure) if is_of_stream_alone(&failure) => {
                    tracing::info!(
                        "{}/{}: stream {stream} left out: {failure}",
                        attachment.connection(),
                        attachment.key()
                    );
                    done.failed
                        .push((stream, self.error(attachment.handle(), &failure)));
                }
                Err(failure) => return Err(failure),
            }
        }
        if let Some(describing) = describing {
            done.described = Some(describing.reply().await?);
        }
        Ok(done)
    }
}

/// Whether a later stream's failure leaves the session as it is: the server does not want this one.
/// 461 and what shows that it confuses sessions is about the connection.
fn is_of_stream_alone(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Status { code: 400..=460 | 462..=499, .. })
}
