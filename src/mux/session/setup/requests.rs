//! DESCRIBE, SETUP of the streams that are wanted, and PLAY: what is sent, and what the answers say.

use url::Url;

use super::{
    Setup,
    attempt::{Completion, SetUpFailure, StreamsSetUp, WantedStreams, Work},
};
use crate::mux::{
    clock,
    connection_pool::{FreshDescription, Joining, Looked},
    driver::DriverHandle,
    error::{Error, ErrorKind},
    policy::{
        failover::{FailedStep, Recourse, recourse},
        next_step::{AnswerPatience, DescribeTiming, Operation, SetupStage},
        sharing::{ServerIdentity, descriptions::Account},
    },
    proto::{
        Failure, FailureKind, FirstAsked, PlayRange, Presentation, Profile, Reply, SessionRequest,
        SourcePolicy, StreamGrant,
        wire::{
            sdp::parse_presentation,
            uri::{is_bare, presentation_base},
        },
    },
    session::attachment::{Attachment, Pending, Requester},
};

pub(super) fn setup_request(presentation: &Presentation, stream: usize) -> Option<SessionRequest> {
    let media = presentation.streams.get(stream)?;
    Some(SessionRequest::Setup {
        stream,
        control: media.control.clone(),
        profile: media.profile(),
        payload_types: media.payload_types.clone(),
        sources: SourcePolicy::of_tool(presentation.tool.as_deref()),
    })
}

fn granted(reply: Reply) -> Option<StreamGrant> {
    match reply {
        Reply::SetUp(grant) => Some(grant),
        _ => None,
    }
}

/// The streams one by one until one is granted, because its answer brings the session id; then the
/// others at once. A stream that the server had no room for is asked for once more behind them: it has room
/// for the session. Where the description is from memory it is asked for as well. `may_help_elsewhere`
/// tells whether another connection may help against the failure of a session's first SETUP; where none
/// does, the failure is that stream's own.
fn set_up<F: Fn(&FailureKind) -> bool + Send + Sync>(
    attachment: &Attachment,
    camera: String,
    presentation: &Presentation,
    streams: &[usize],
    is_remembered: bool,
    may_help_elsewhere: F,
) -> impl Future<Output = Result<StreamsSetUp, SetUpFailure>> + Send + use<F> {
    let delivery = attachment.consumer.delivery();
    delivery.describe(&presentation.streams);
    let requests = streams.iter().filter_map(|stream| {
        let other = presentation.streams.get(*stream)?.other_control.clone();
        Some((*stream, (setup_request(presentation, *stream)?, other)))
    });
    let requests: Vec<_> = requests.collect();
    let mut once_more = requests.clone();
    let mut requests = requests.into_iter();
    // In the same round trip, and before it: gst-rtsp-server keeps a medium that it has described
    // for the SETUP that comes next, and would make another one for a DESCRIBE behind it.
    let describing = is_remembered.then(|| attachment.send(SessionRequest::Describe));
    let first = requests.next();
    let mut first = first.map(|(stream, request)| {
        let sent = attachment.send(request.0.clone());
        (stream, (request, sent))
    });
    let (requester, key) = (attachment.requester(), attachment.key());
    async move {
        let (mut done, mut failed) = (StreamsSetUp::default(), Vec::new());
        while let Some((stream, sent)) = first.take() {
            match reply_to_setup(&requester, sent, &may_help_elsewhere).await {
                Ok((reply, control)) => done.on_reply(stream, reply, control),
                Err(failure) => {
                    let is_own = is_of_stream_alone(&failure) && !may_help_elsewhere(&failure.kind);
                    failed.push((stream, failure));
                    let next = requests.next().filter(|_| is_own && !is_remembered);
                    first = next.map(|(stream, request)| (stream, send_setup(&requester, request)));
                }
            }
        }
        if done.grants.is_empty() && !failed.is_empty() {
            let (stream, failure) = failed.swap_remove(0);
            return Err(SetUpFailure {
                failure,
                stream: Some(stream),
                is_first: true,
            });
        }
        let has_other = !done.controls.is_empty();
        let pending = requests.map(|(stream, mut forms)| {
            if has_other {
                let control = swap_forms(&mut forms);
                done.controls.extend(control.map(|it| (stream, it)));
            }
            (stream, send_setup(&requester, forms))
        });
        let pending: Vec<_> = pending.collect();
        let later = |failure, stream| SetUpFailure {
            failure,
            stream,
            is_first: false,
        };
        for (stream, pending) in pending {
            match reply_to_setup(&requester, pending, &may_help_elsewhere).await {
                Ok((reply, control)) => done.on_reply(stream, reply, control),
                Err(failure) if is_of_stream_alone(&failure) => failed.push((stream, failure)),
                Err(failure) => return Err(later(failure, Some(stream))),
            }
        }
        once_more.retain(|(stream, _)| {
            let mut failed = failed.iter();
            failed.any(|(it, failure)| it == stream && is_temporary(failure))
        });
        for (stream, (request, _)) in once_more {
            if let Ok(reply) = requester.send(request).reply().await {
                failed.retain(|(it, _)| *it != stream);
                done.on_reply(stream, reply, None);
            }
        }
        let id = requester.connection();
        for (stream, failure) in failed {
            tracing::info!("{id}/{key}: stream {stream} left out: {failure}");
            let error = Error::from_failure(&failure).of_camera(&camera).on(id);
            done.failed.push((stream, error));
        }
        if let Some(describing) = describing {
            let described = describing.reply().await;
            done.described = Some(described.map_err(|failure| later(failure, None))?);
        }
        Ok(done)
    }
}

impl StreamsSetUp {
    fn on_reply(&mut self, stream: usize, reply: Reply, control: Option<Url>) {
        self.grants.extend(granted(reply));
        self.controls
            .extend(control.map(|control| (stream, control)));
    }
}

/// A SETUP, and the other URI that its stream may have.
type SetupForms = (SessionRequest, Option<Url>);
type SentSetup = (SetupForms, Pending);

fn send_setup(requester: &Requester, forms: SetupForms) -> SentSetup {
    let sent = requester.send(forms.0.clone());
    (forms, sent)
}

/// The other URI is tried first; gives it.
fn swap_forms((request, other): &mut SetupForms) -> Option<Url> {
    let (SessionRequest::Setup { control, .. }, Some(other)) = (request, other) else {
        return None;
    };
    std::mem::swap(control, other);
    Some(control.clone())
}

/// The answer to a SETUP, and the URI that the server took if it is another one. A server that describes a
/// profile with feedback, and refuses it, is asked for the one without, as most clients do. One that
/// refuses the URI is asked by the other reading of the control attribute and then once more, as `rtspsrc`
/// does, unless the failure may have to do with the connection: some cameras refuse the first SETUP after
/// they were started.
async fn reply_to_setup(
    requester: &Requester,
    ((mut request, other), sent): SentSetup,
    may_help_elsewhere: &impl Fn(&FailureKind) -> bool,
) -> Result<(Reply, Option<Url>), Failure> {
    let refused = match sent.reply().await {
        Ok(reply) => return Ok((reply, None)),
        Err(refused) => refused,
    };
    let (
        FailureKind::Status { code, .. },
        SessionRequest::Setup {
            control, profile, ..
        },
    ) = (&refused.kind, &mut request)
    else {
        return Err(refused);
    };
    let first = control.clone();
    let other = match *profile == Profile::Avpf && matches!(code, 400 | 461) {
        true => {
            *profile = Profile::Avp;
            None
        }
        false if is_about_uri(*code) && !may_help_elsewhere(&refused.kind) => other,
        false => return Err(refused),
    };
    for uri in other.into_iter().chain([first.clone()]) {
        if let SessionRequest::Setup { control, .. } = &mut request {
            control.clone_from(&uri);
        }
        match requester.send(request.clone()).reply().await {
            Ok(reply) => return Ok((reply, (uri != first).then_some(uri))),
            Err(again) if matches!(again.kind, FailureKind::Status { .. }) => {}
            Err(_) => break,
        }
    }
    Err(refused)
}

/// Whether a SETUP may be granted a moment later.
fn is_temporary(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        FailureKind::Status {
            code: 453 | 503,
            ..
        }
    )
}

/// Whether a refusal of SETUP may mean its URI, whatever it says, and not the user, the transport or the
/// room of the server.
fn is_about_uri(code: u16) -> bool {
    code >= 400 && !matches!(code, 401 | 407 | 453 | 461 | 503)
}

impl Setup {
    /// Sends a request of the session's own.
    pub(super) fn request(
        &self,
        operation: Operation,
        patience: AnswerPatience,
        looked: &mut Looked,
    ) -> Work {
        let joining = looked.joining.take();
        let here = &self.here;
        let (Some(attachment), presentation) = (&here.attachment, self.played()) else {
            return Work::none();
        };
        let work = match (operation, presentation) {
            (Operation::SetUp, Some(presentation)) => {
                let (streams, is_remembered) = (&self.wanted.streams, here.is_remembered);
                let (camera, context) = (self.camera(), self.failure_context(&attachment.handle));
                let tried = here.attempt.tried;
                let may_help_elsewhere =
                    move |kind: &_| recourse(kind, context, tried) != Recourse::Fail;
                let set_up = set_up(
                    attachment,
                    camera,
                    presentation,
                    streams,
                    is_remembered,
                    may_help_elsewhere,
                );
                Work::new(operation, async { Completion::SetUp(set_up.await) })
            }
            (Operation::Play, Some(presentation)) => {
                let aggregate = presentation.aggregate.clone();
                let request = |range| SessionRequest::Play { aggregate, range };
                let begins_at = self.begins_at.clone().map(PlayRange::Given);
                let range = begins_at.unwrap_or_else(|| presentation.play_range());
                let playing = attachment.send(request.clone()(range));
                let requester = attachment.requester();
                Work::new(operation, async move {
                    let reply = playing.reply().await;
                    let is_range_refused = |failure: &Failure| {
                        matches!(
                            failure.kind,
                            FailureKind::Status {
                                code: 456 | 457,
                                ..
                            }
                        )
                    };
                    Completion::Playing(match reply {
                        Err(failure) if is_range_refused(&failure) => {
                            requester.send(request(PlayRange::Unnamed)).reply().await
                        }
                        reply => reply,
                    })
                })
            }
            _ => {
                let describing = attachment.send(SessionRequest::Describe);
                Work::new(operation, async {
                    Completion::Described(describing.reply().await)
                })
            }
        };
        Work {
            patience,
            joining,
            ..work
        }
    }

    /// The server has described the presentation.
    pub(super) fn on_described(
        &mut self,
        reply: Reply,
        joining: Option<Joining>,
    ) -> Result<(), Error> {
        let (Some(attachment), Some(joining)) = (&self.here.attachment, joining) else {
            return Ok(());
        };
        let is_on_describe_only = self.is_on_describe_only(&attachment.handle);
        let first = first_asked(&reply);
        let is_bare = has_no_base(&reply);
        let presentation = match self.described(&reply) {
            Ok(presentation) => presentation,
            Err(why) => {
                self.pool
                    .on_describe_answered(&self.checkout, is_on_describe_only);
                // A relay may have ended the stream with the connection that the session has left.
                let has_left = self.here.attempt.tried.connections > 1;
                if has_left && !std::mem::replace(&mut self.here.is_asked_again, true) {
                    return self.recover_unusable(&why);
                }
                return Err(self.unusable(&why));
            }
        };
        let (at, account) = (clock::now(), Account::of(&presentation));
        let is_first = first == FirstAsked::Own;
        let doubted = self.here.doubted.take_if(|_| is_first);
        let is_as_doubted = doubted.map(|doubted| doubted == account);
        if is_as_doubted == Some(true) {
            // It would have been described so there, too: two names of one camera, or one model.
            self.here.suspected = None;
        }
        self.checkout.is_doubtful = false;
        let took = at.saturating_duration_since(joining.since());
        self.here.attempt.described = Some(DescribeTiming { took, at, is_first });
        self.here.presentation = Some(presentation);
        self.here.fresh = Some(FreshDescription {
            joining,
            took,
            account,
            first,
            is_as_doubted,
            is_on_describe_only,
            is_bare,
            was_lost: std::mem::take(&mut self.here.may_have_lost),
        });
        self.here.attempt.is_described = true;
        self.here.attempt.stage = SetupStage::Described;
        Ok(())
    }

    /// The description in an answer, with the backchannels that the session is to have.
    fn described(&self, reply: &Reply) -> Result<Presentation, String> {
        let presentation = described_presentation(&self.target.url, reply)?;
        Ok(match self.options.backchannel {
            true => presentation.with_backchannels(),
            false => presentation,
        })
    }

    /// The server has set up the session.
    pub(super) fn on_set_up(
        &mut self,
        mut done: StreamsSetUp,
        joining: Option<Joining>,
    ) -> Result<(), Error> {
        if !self.still_holds(&mut done)? {
            self.here.detach();
            return Ok(());
        }
        if let (Some(attachment), Some(joining)) = (&self.here.attachment, joining) {
            let timeouts = done.grants.iter().map(|grant| grant.session_timeout);
            let timeout = timeouts.min().unwrap_or_default();
            let reporter = self.reporter.as_ref();
            let handle = &attachment.handle;
            self.pool
                .on_set_up(handle, attachment.key(), joining, timeout, reporter);
        }
        let is_first = |(stream, _): &(usize, Error)| self.wanted.streams.first() == Some(stream);
        if done.failed.iter().any(is_first) {
            // What the stream met elsewhere, it has met here as well.
            self.here.is_own_failure();
        }
        self.on_success(FailedStep::SetUp);
        for (stream, control) in done.controls.drain(..) {
            let described = self.played_mut();
            if let Some(stream) = described.and_then(|it| it.streams.get_mut(stream)) {
                stream.control = control;
            }
        }
        self.monitor.set_grants(&done.grants);
        self.wanted.streams = done.grants.iter().map(|grant| grant.stream).collect();
        self.wanted.left_out.append(&mut done.failed);
        done.failed.clone_from(&self.wanted.left_out);
        self.here.streams = done;
        self.here.attempt.stage = SetupStage::SetUp;
        Ok(())
    }

    /// Whether what was set up is what the server describes now, where an earlier description was
    /// gone by. If so the new one holds.
    fn still_holds(&mut self, done: &mut StreamsSetUp) -> Result<bool, Error> {
        let Some(reply) = done.described.take() else {
            return Ok(true);
        };
        self.here.is_remembered = false;
        if let Some(described) = &mut self.here.attempt.described {
            described.is_first = first_asked(&reply) == FirstAsked::Own;
        }
        let fresh = self.described(&reply);
        let fresh = fresh.map_err(|why| self.unusable(&why))?;
        if let Some(attachment) = &self.here.attachment {
            self.introduce(attachment.driver(), Some(&fresh));
        }
        let before = self.here.presentation.replace(fresh.clone());
        let holds = before.is_some_and(|before| fresh.is_set_up_like(&before));
        if !holds {
            self.pool.forget(&self.checkout);
        }
        Ok(holds)
    }

    /// Has all streams set up where the description has changed since they were chosen.
    pub(super) fn fit_streams(&mut self) -> Result<(), Error> {
        let presentation = self.played();
        let streams = presentation.map_or(0, |presentation| presentation.streams.len());
        if streams == self.wanted.of {
            return Ok(());
        }
        if self.wanted.streams.len() < self.wanted.of {
            return Err(self.unusable("it has other streams than before"));
        }
        self.wanted = WantedStreams {
            streams: (0..streams).collect(),
            of: streams,
            left_out: Vec::new(),
        };
        Ok(())
    }

    pub(super) fn on_playing(&mut self, reply: Reply, joining: Option<Joining>) {
        if let Reply::Playing(answer) = reply {
            self.here.play_answer = answer;
        }
        if let (Some(presentation), Some(joining)) = (&self.here.presentation, joining) {
            let reporter = self.reporter.as_ref();
            self.pool
                .on_playing(&self.checkout, presentation, joining, reporter);
        }
        self.on_success(FailedStep::Play);
        self.here.attempt.stage = SetupStage::Playing;
    }

    /// An answer says who the server is.
    pub(super) fn introduce(&self, driver: &DriverHandle, presentation: Option<&Presentation>) {
        let server = driver.server_info().server_header;
        let identity = ServerIdentity::new(server.as_deref(), presentation);
        self.learn(|sharing| sharing.on_introduced(clock::now(), identity));
    }

    /// The URI is described once more on another connection.
    fn recover_unusable(&mut self, why: &str) -> Result<(), Error> {
        let error = self.unusable(why);
        self.here.attempt.is_described = false;
        self.here.detach();
        self.try_again(error)
    }

    fn unusable(&self, what: &str) -> Error {
        let explanation = format!("the server's description cannot be used: {what}");
        let error = Error::new(ErrorKind::Sdp, explanation);
        let error = error.in_request("DESCRIBE").of_camera(&self.camera());
        match &self.here.attachment {
            Some(attachment) => error.on(attachment.connection()),
            None => error,
        }
    }
}

/// The description in the answer to a DESCRIBE of the URL.
///
/// # Errors
///
/// Why it is of no use.
pub(super) fn described_presentation(url: &Url, reply: &Reply) -> Result<Presentation, String> {
    let Reply::Described {
        sdp,
        content_base,
        content_location,
        ..
    } = reply
    else {
        return Err("the answer is not one to DESCRIBE".to_owned());
    };
    let base = presentation_base(url, content_base.as_deref(), content_location.as_deref());
    parse_presentation(sdp.clone(), base).map_err(|error| error.to_string())
}

/// What the connection on which this was answered had been asked for first.
fn first_asked(reply: &Reply) -> FirstAsked {
    match reply {
        Reply::Described { first, .. } => first.clone(),
        _ => FirstAsked::Unanswered,
    }
}

/// Whether control URLs were described without a base.
fn has_no_base(reply: &Reply) -> bool {
    match reply {
        Reply::Described {
            content_base,
            content_location,
            ..
        } => is_bare(content_base.as_deref(), content_location.as_deref()),
        _ => false,
    }
}

/// Whether the failure of a SETUP may be about its stream alone, and leave the session as it is.
fn is_of_stream_alone(failure: &Failure) -> bool {
    !matches!(
        failure.kind,
        FailureKind::ChannelsExhausted
            | FailureKind::CannotShare(_)
            | FailureKind::ConnectionLost(_)
            | FailureKind::Cancelled
    )
}
