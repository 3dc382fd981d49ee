//! The element: translates properties, URI and state changes into calls of the other modules.
//!
//! # Locks
//!
//! In the order in which they may be taken:
//!
//! 1. GStreamer's state lock of the element (held by GStreamer around `change_state`)
//! 2. [`BuildGuard`](crate::rtspsrc::session::control::BuildGuard): a section, for which PAUSED to
//!    READY waits
//! 3. The lock under which pads are added and announced (`pads`). Streaming threads take it while they
//!    hold the lock of their stream; no holder of a lock above waits for them
//! 4. GStreamer's other locks of pads, and of rtpbin
//! 5. `settings`, `intent`, `server_messages`, `session`, `mux`, the locks in `messages::server` and
//!    `bus_queue`, and the small ones of `pads` and `rtpbin`: leaves. A thread that holds one posts no
//!    message, touches no pad, state or signal, and takes no other lock

use std::{
    sync::{Arc, LazyLock, Mutex, atomic::AtomicBool},
    time::Duration,
};

use gst::{glib, prelude::*, subclass::prelude::*};
use gstreamer as gst;

use super::{
    certificates::Decider,
    properties::{self, Settings},
    rtsp_message::{emit_before_send, emit_handle_request},
    settings::{PLAYED, parse_location},
    signals, stats,
};
use crate::{
    mux::{BeforeSend, Intent, Multiplex, Mux, OnRequest, SessionOptions},
    rtspsrc::{
        CAT, guard, handlers, lock,
        manager::{self, Manager},
        messages::{self, FailureMessage, bus_queue, server},
        session::{
            control::{SessionControl, SessionPlan, TargetState},
            seek::Seeking,
        },
    },
};

/// The state of an element `rtspmuxsrc`.
#[derive(Default)]
pub struct RtspMuxSrc {
    settings: Mutex<Settings>,
    /// Announces a session to the pool, from NULL to PAUSED, so that others can wait for it.
    intent: Mutex<Option<Intent>>,
    /// Set from NULL to READY until READY to NULL: the subscription to messages about the server.
    server_messages: Mutex<Option<server::Subscription>>,
    /// Set from READY to PAUSED until READY to NULL, which waits for the answer to its TEARDOWN.
    session: Mutex<Option<Arc<SessionControl>>>,
    /// Its seeks.
    seeking: Arc<Seeking>,
    /// Asks the application in TLS handshakes. Another one for each start from NULL: what the application has
    /// accepted serves no other element, and no other run.
    decider: Mutex<Option<Arc<Decider>>>,
    /// Shows the application the requests of the element's connection; another one for each start from NULL.
    before_send: Mutex<Option<BeforeSend>>,
    /// The same for the server's requests.
    on_request: Mutex<Option<OnRequest>>,
    /// From a context; `None`: that of the process.
    mux: Mutex<Option<Mux>>,
    /// No message of this element is posted any more.
    pub(crate) is_silent: AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for RtspMuxSrc {
    const NAME: &'static str = "GstRtspMuxSrc";
    type Type = crate::rtspsrc::RtspMuxSrc;
    type ParentType = gst::Bin;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for RtspMuxSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        &properties::SPECS
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        &signals::SIGNALS
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        // A bin takes these flags from its children; this element is a source with or without children.
        element.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        element.set_element_flags(gst::ElementFlags::SOURCE);
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        guard(&self.obj(), (), || {
            let mut settings = lock(&self.settings);
            settings.set(spec.name(), value);
            let without_effect = settings.why_without_effect(spec.name());
            drop(settings);
            if let Some(why) = without_effect {
                gst::warning!(CAT, imp = self, "{} has no effect: {why}", spec.name());
            }
            match spec.name() {
                "user-id" | "user-pw" => self.change_credentials(),
                // A connection that the one before has accepted is not used any more.
                "tls-database" | "tls-interaction" => drop(lock(&self.decider).take()),
                _ => {}
            }
        });
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        guard(&self.obj(), spec.default_value().clone(), || {
            match spec.name() {
                "stats" => self.stats().to_value(),
                name => {
                    let value = lock(&self.settings).value(name);
                    value.unwrap_or_else(|| spec.default_value().clone())
                }
            }
        })
    }

    fn dispose(&self) {
        // There is none in NULL; an application may have dropped the element in another state.
        if let Some(session) = lock(&self.session).take() {
            session.set(TargetState::Stopped);
        }
    }
}

impl GstObjectImpl for RtspMuxSrc {}

impl ElementImpl for RtspMuxSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "RTSP source on shared connections",
                "Source/Network",
                "Receives cameras of one RTSP server over one connection (RFC 2326)",
                env!("CARGO_PKG_NAME"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            // As `rtspsrc` has it, though RDT is not played: programs look for a link by both.
            let caps = gst::Caps::builder_full()
                .structure(gst::Structure::new_empty("application/x-rtp"))
                .structure(gst::Structure::new_empty("application/x-rdt"))
                .build();
            let template = gst::PadTemplate::new(
                "stream_%u",
                gst::PadDirection::Src,
                gst::PadPresence::Sometimes,
                &caps,
            );
            template.into_iter().collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => {
                bus_queue::open(&self.obj());
                put(&self.decider, None);
                put(&self.before_send, None);
                put(&self.on_request, None);
                if lock(&self.mux).is_none() {
                    super::request(&self.obj());
                }
                self.announce();
                self.parent_change_state(transition)
            }
            gst::StateChange::ReadyToPaused => {
                self.start()?;
                // If this fails there will be no PAUSED to READY, which would end the session.
                self.parent_change_state(transition)
                    .inspect_err(|_| drop(self.end()))?;
                self.aim(self.target_in_paused());
                Ok(self.paused())
            }
            gst::StateChange::PausedToPlaying => {
                let result = self.parent_change_state(transition);
                self.aim(TargetState::Playing);
                result
            }
            gst::StateChange::PlayingToPaused => {
                self.aim(self.target_in_paused());
                self.parent_change_state(transition)?;
                Ok(self.paused())
            }
            gst::StateChange::PausedToReady => self.stop(transition),
            gst::StateChange::ReadyToNull => {
                put(&self.intent, None);
                self.wait_released();
                put(&self.server_messages, None);
                bus_queue::close(&self.obj());
                self.parent_change_state(transition)
            }
            _ => self.parent_change_state(transition),
        }
    }

    fn set_context(&self, context: &gst::Context) {
        if let Some(mux) = super::mux_of(context) {
            *lock(&self.mux) = Some(mux);
        }
        self.parent_set_context(context);
    }

    /// That of the system, while there are streams, as rtpbin provides it in `rtspsrc`.
    fn provide_clock(&self) -> Option<gst::Clock> {
        self.session()?.build_guard.manager()?;
        Some(gst::SystemClock::obtain())
    }

    /// Pushes downstream events into the streams: EOS sent to the pipeline ends recordings properly.
    /// SELECT_STREAMS chooses among its streams.
    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Seek {
            return self.seeking.on_event(&event);
        }
        if let gst::EventView::SelectStreams(event) = event.view() {
            let session = self.session();
            return session.is_some_and(|session| {
                let ids = event.streams();
                session
                    .selection
                    .choose(ids.iter().map(|id| id.to_string()))
            });
        }
        if !event.is_downstream() {
            return self.parent_send_event(event);
        }
        let manager = self
            .session()
            .and_then(|session| session.build_guard.manager());
        manager.is_some_and(|manager| manager::push_event(&*manager, &event))
    }
}

impl BinImpl for RtspMuxSrc {}

impl URIHandlerImpl for RtspMuxSrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &PLAYED
    }

    fn uri(&self) -> Option<String> {
        lock(&self.settings).shown_location()
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        parse_location(uri)
            .map_err(|error| glib::Error::new(gst::URIError::BadUri, error.message()))?;
        self.set_location(uri);
        Ok(())
    }
}

impl RtspMuxSrc {
    /// For the shim: changes what has no property, or has another default there.
    pub(crate) fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.settings));
    }

    /// For the shim: reads settings that the properties show without their secrets.
    pub(crate) fn with_settings<T>(&self, read: impl FnOnce(&Settings) -> T) -> T {
        read(&lock(&self.settings))
    }

    /// Sets the location that a URI handler is given; while the element runs, for the next start.
    pub(crate) fn set_location(&self, uri: &str) {
        lock(&self.settings).location = Some(uri.to_owned());
    }

    pub(crate) fn session(&self) -> Option<Arc<SessionControl>> {
        lock(&self.session).clone()
    }

    fn is_running(&self) -> bool {
        self.obj().current_state() > gst::State::Ready
    }

    /// Uses other credentials from the next attempt on; a session that plays goes on.
    fn change_credentials(&self) {
        let Some(session) = self.session().filter(|_| self.is_running()) else {
            return;
        };
        let settings = lock(&self.settings).clone();
        match self.session_options(&settings) {
            // Those of another location are for the next start.
            Ok(options) if options.url != session.options.borrow().url => {}
            Ok(options) => drop(session.options.send_replace(options)),
            Err(invalid) => gst::warning!(CAT, imp = self, "not used: {invalid}"),
        }
    }

    /// A source that is not live plays in PAUSED as well: downstream takes what it needs.
    fn target_in_paused(&self) -> TargetState {
        match lock(&self.settings).is_live {
            true => TargetState::Paused,
            false => TargetState::Playing,
        }
    }

    /// How the element has gone to PAUSED.
    fn paused(&self) -> gst::StateChangeSuccess {
        match self.target_in_paused() {
            TargetState::Playing => gst::StateChangeSuccess::Success,
            _ => gst::StateChangeSuccess::NoPreroll,
        }
    }

    fn aim(&self, target: TargetState) {
        if let Some(session) = self.session() {
            session.set(target);
        }
    }

    /// The options of the session, with what the application decides while it is set up.
    fn session_options(&self, settings: &Settings) -> Result<SessionOptions, glib::Error> {
        let mut options = settings.session_options()?;
        let element = self.obj();
        let is_asked = settings.tls_database.is_some()
            || settings.tls_interaction.is_some()
            || handlers::are_connected(&element, "accept-certificate");
        if is_asked {
            let mut decider = lock(&self.decider);
            let decider = decider.get_or_insert_with(|| Arc::new(Decider::new(&element)));
            options.tls = options.tls.with_decisions(decider.clone());
        }
        if handlers::are_connected(&element, "before-send") {
            // What its handler takes its time over is then no other element's.
            options.pooling.multiplex = Multiplex::Never;
            let mut before_send = lock(&self.before_send);
            let before_send = before_send.get_or_insert_with(|| {
                let element = element.downgrade();
                BeforeSend::new(move |request| {
                    // Its TEARDOWN is sent without it.
                    let element = element.upgrade();
                    element.is_none_or(|element| {
                        guard(&element, true, || emit_before_send(&element, request))
                    })
                })
            });
            options.before_send = Some(before_send.clone());
        }
        if handlers::are_connected(&element, "handle-request") {
            options.pooling.multiplex = Multiplex::Never;
            let mut on_request = lock(&self.on_request);
            let on_request = on_request.get_or_insert_with(|| {
                let element = element.downgrade();
                OnRequest::new(move |request, answer| {
                    if let Some(element) = element.upgrade() {
                        guard(&element, (), || {
                            emit_handle_request(&element, request, answer)
                        });
                    }
                })
            });
            options.on_request = Some(on_request.clone());
        }
        Ok(options)
    }

    fn mux(&self) -> Mux {
        lock(&self.mux).clone().unwrap_or_else(super::global)
    }

    /// Announces the session in READY, as GStreamer takes all children of a pipeline to READY before the
    /// first of them to PAUSED. Settings that cannot be used are reported in READY to PAUSED.
    fn announce(&self) {
        let settings = lock(&self.settings).clone();
        let Ok(options) = self.session_options(&settings) else {
            return;
        };
        let mux = self.mux();
        put(&self.intent, mux.intend(&options).ok());
        self.subscribe(&mux, &options);
    }

    /// Subscribes to messages about the server, in place of the server before.
    fn subscribe(&self, mux: &Mux, options: &SessionOptions) {
        let server = options.server().ok();
        let subscription = server.and_then(|name| server::subscribe(&self.obj(), mux, name).ok());
        put(&self.server_messages, subscription);
    }

    /// Starts the session and returns before it has sent anything.
    fn start(&self) -> Result<(), gst::StateChangeError> {
        let element = self.obj();
        let settings = lock(&self.settings).clone();
        let options = match self.session_options(&settings) {
            Ok(options) => options,
            // As in `rtspsrc`, the state change succeeds.
            Err(invalid) if invalid.matches(gst::ResourceError::NotFound) => {
                messages::error(&element, FailureMessage::new(invalid));
                return Ok(());
            }
            Err(invalid) => {
                // Posted at once, inside the state change that fails: see `bus_queue`.
                let message = gst::message::Error::builder_from_error(invalid);
                // An error means that the element has no bus, and so no reader.
                let _ = element.post_message(message.src(&*element).build());
                return Err(gst::StateChangeError);
            }
        };
        let intent = lock(&self.intent).take();
        let mux = self.mux();
        // Location and context may have changed since NULL to READY.
        self.subscribe(&mux, &options);
        let plan = SessionPlan {
            mux,
            options,
            intent,
            manager: settings.manager_settings(),
            seeking: self.seeking.clone(),
            onvif: settings.onvif_replay(),
            media_timeout: settings.media_timeout(),
            policy: settings.recovery_policy(),
        };
        let session = SessionControl::start(&element, plan).map_err(|error| {
            gst::element_error!(element, gst::ResourceError::Failed, ("no threads: {error}"));
            gst::StateChangeError
        })?;
        *lock(&self.session) = Some(session);
        Ok(())
    }

    /// Ends the session. Returns the manager that was built for it.
    fn end(&self) -> Option<Arc<dyn Manager>> {
        self.session()?.stop()
    }

    /// Ends the session without waiting for the server. Deactivates the pads first, so that no push is
    /// under way when rtpbin goes down, and removes the manager last.
    fn stop(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let manager = self.end();
        self.seeking.reset();
        if let Some(manager) = &manager {
            manager.deactivate();
        }
        let result = self.parent_change_state(transition);
        if let Some(manager) = manager {
            manager.remove();
        }
        result
    }

    /// Waits for the answer to TEARDOWN, and for the session to say that it is closed. All elements of the
    /// pipeline have sent their TEARDOWNs by now.
    fn wait_released(&self) {
        let Some(session) = lock(&self.session).take() else {
            return;
        };
        let timeout = Duration::from_nanos(lock(&self.settings).teardown_timeout_ns);
        if !session.ended.wait(timeout) {
            gst::info!(
                CAT,
                imp = self,
                "the TEARDOWN was not answered within {timeout:?}"
            );
        }
    }

    fn stats(&self) -> gst::Structure {
        let Some(session) = self.session() else {
            return stats::empty();
        };
        let manager = session.build_guard.manager();
        let reports = manager.map_or_else(Vec::new, |manager| manager.reports());
        let status = lock(&session.status).clone();
        stats::structure(&session.monitor.stats(), &status, &reports)
    }
}

/// Replaces a value. The one before is dropped when the lock is free.
fn put<T>(slot: &Mutex<T>, value: T) {
    let before = std::mem::replace(&mut *lock(slot), value);
    drop(before);
}
