//! The protocol core allocates nothing for a packet: what it hands out shares the memory read into.
//! Alone in its binary, because the allocator counts for the whole process.

#[path = "../benches/performance/client/allocations.rs"]
mod allocations;
#[path = "../benches/packet_path/playing.rs"]
mod playing;

use std::time::Instant;

use bytes::BytesMut;

use self::allocations::allocations;

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
        let mut packets = 0;
        connection.handle_input(now, &mut buffer, |_| packets += 1);
        packets
    };
    let mut chunks = bytes.chunks(CHUNK);
    let warm_up = receive(chunks.next().expect("a chunk"));

    let before = allocations();
    let rest: Vec<usize> = chunks.map(&mut receive).collect();
    let allocations = allocations() - before;

    assert_eq!(warm_up + rest.iter().sum::<usize>(), 10_000);
    // A chunk and its reference count each, and the vector just collected.
    let allowed = 3 * rest.len() as u64 + 8;
    assert!(
        allocations <= allowed,
        "{allocations} allocations for {} chunks",
        rest.len()
    );
}
