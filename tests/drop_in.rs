//! What a program sees of `rtspsrc` it sees of our element too: each behaviour runs with both, and the
//! observations are compared.
//!
//! A behaviour is a function that takes a [`Stage`](stage::Stage), which makes elements by the name under
//! test, and notes what it observes. `behaviours!` makes a test of each. Environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `DROP_IN_ELEMENT` | the factory that is compared with `rtspsrc`; default `rtspmuxsrc`. `rtspsrc` compares it with itself, which shows that each behaviour is deterministic; `shim`: `rtspsrc` of the shim, in a process of its own |
//! | `DROP_IN_PLUGIN_PATH` | the element is made in a process of its own with this `GST_PLUGIN_PATH` and a registry of its own: for a plugin that has its own `rtspsrc` |
//! | `DROP_IN_ALONE` | the element alone, without `rtspsrc`; a CRITICAL is an abort and, with `GST_TRACERS=leaks`, an element that is left a failure |
#![allow(clippy::unwrap_used, reason = "a test binary")]
#![allow(
    clippy::disallowed_methods,
    reason = "two elements are watched by the wall clock"
)]

mod support;

#[path = "drop_in/buffers.rs"]
mod buffers;
#[path = "drop_in/caps.rs"]
mod caps;
#[path = "drop_in/effects.rs"]
mod effects;
#[path = "drop_in/events.rs"]
mod events;
#[path = "drop_in/interface.rs"]
mod interface;
#[path = "drop_in/media.rs"]
mod media;
#[path = "drop_in/messages.rs"]
mod messages;
#[path = "drop_in/pipelines.rs"]
mod pipelines;
#[path = "drop_in/proxy.rs"]
mod proxy;
#[path = "drop_in/queries.rs"]
mod queries;
#[path = "drop_in/reuse.rs"]
mod reuse;
#[path = "drop_in/stage.rs"]
mod stage;
#[path = "drop_in/states.rs"]
mod states;
