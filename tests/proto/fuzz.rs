//! The targets of `fuzz/`, for a short while: with random bytes among which there are parts of RTSP.

use crate::support::random::Random;

#[allow(
    unreachable_pub,
    reason = "`pub` says what the targets use; a test binary exports nothing"
)]
#[path = "../../fuzz/fuzz_targets/common.rs"]
mod common;

/// What random bytes alone would hardly ever make.
const PARTS: [&[u8]; 10] = [
    common::MARK,
    b"$\0\0\x04\x80\x60ab",
    b"$\x02\0\x04\x80\x60cd",
    b"RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n",
    b"RTSP/1.0 200 OK\r\nCSeq: 6\r\nContent-Length: 9\r\n\r\nv=0\r\nm=x\n",
    b"RTSP/1.0 401 No\r\nCSeq: 5\r\nWWW-Authenticate: Basic realm=\"r\"\r\n\r\n",
    b"TEARDOWN rtsp://nvr/1 RTSP/1.0\r\nCSeq: 1\r\nSession: id1\r\n\r\n",
    b"RTSP/1.0 ",
    b"\r\n",
    b"$",
];

fn some_bytes(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.between(1, 30) {
        match random.once_in(3) {
            true => bytes.push(random.below(256) as u8),
            false => bytes.extend_from_slice(random.pick(&PARTS)),
        }
    }
    bytes
}

#[test]
fn any_bytes_at_any_time_break_nothing() {
    for seed in 0..2_000 {
        common::any_input(&some_bytes(&mut Random::new(seed)));
    }
}

#[test]
fn any_bytes_in_any_pieces_give_the_same() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let cuts: Vec<u8> = (0..random.below(40))
            .map(|_| random.below(20) as u8)
            .collect();
        common::any_splits(&cuts, &some_bytes(&mut random));
    }
}
