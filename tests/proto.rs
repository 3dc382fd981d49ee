//! Tests of the protocol core, without sockets and in simulated time.

mod support;

#[path = "proto/conversation.rs"]
mod conversation;
#[path = "proto/describing.rs"]
mod describing;
#[path = "proto/sim.rs"]
mod sim;

#[path = "proto/fixtures.rs"]
mod fixtures;
#[path = "proto/framing.rs"]
mod framing;
#[path = "proto/fuzz.rs"]
mod fuzz;
#[path = "proto/hostile.rs"]
mod hostile;
#[path = "proto/property.rs"]
mod property;
#[path = "proto/reading_paused.rs"]
mod reading_paused;
#[path = "proto/repeated.rs"]
mod repeated;
#[path = "proto/shown.rs"]
mod shown;
#[path = "proto/suspend.rs"]
mod suspend;
#[path = "proto/time.rs"]
mod time;
#[path = "proto/unasked.rs"]
mod unasked;
