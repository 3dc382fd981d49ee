//! The protocol core allocates nothing for a packet: what it hands out shares the memory read into.
//! Alone in its binary, because the allocator counts for the whole process.
#![allow(unsafe_code, reason = "an allocator that counts")]

#[path = "../benches/packet_path/playing.rs"]
mod playing;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use bytes::BytesMut;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as asked of us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as asked of us.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SESSIONS: u8 = 64;
const CHUNK: usize = 64 * 1024;

#[test]
fn packets_cost_no_allocation_but_the_chunks_they_are_read_into_do() {
    let now = Instant::now();
    let mut connection = playing::connection(SESSIONS, now);
    let bytes = playing::stream(SESSIONS, 10_000);
    let mut buffer = BytesMut::new();
    let mut receive = |chunk: &[u8]| {
        buffer.reserve(CHUNK);
        buffer.extend_from_slice(chunk);
        connection.handle_input(now, &mut buffer);
        playing::drain(&mut connection)
    };
    let mut chunks = bytes.chunks(CHUNK);
    // The queue of events grows once.
    let warm_up = receive(chunks.next().expect("a chunk"));

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let rest: Vec<usize> = chunks.map(&mut receive).collect();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;

    assert_eq!(warm_up + rest.iter().sum::<usize>(), 10_000);
    // A chunk and its reference count each, and the vector just collected.
    let allowed = 3 * rest.len() + 8;
    assert!(
        allocations <= allowed,
        "{allocations} allocations for {} chunks",
        rest.len()
    );
}
