//! A server that stops in the middle of something and then sends a byte now and then, so that its
//! connection looks alive (fault F42).

use crate::network::{Drip, Event, Fault, Half, Millis, World};
use crate::recovery::after;

const SECOND: Millis = 1_000;

impl World {
    /// From now on nothing comes over this wire but the drip.
    pub(crate) fn begin_drip(&mut self, wire: usize, drip: Drip) {
        self.coverage.hit("drip");
        let half: &[u8] = match drip.half {
            Half::Header => b"$\0\x02",
            // 300 bytes are said to come, of a packet on a channel that plays.
            Half::Frame => b"$\0\x01\x2c\x80\x60\0\x01\0\0\0\x01\0\0\0\x01 half a frame",
            // More than one drip ever brings.
            Half::LongFrame => b"$\0\xff\xff\x80\x60\0\x01\0\0\0\x01\0\0\0\x01",
            Half::Answer => b"RTSP/1.0 200 OK\r\nCSeq: 7\r\nDate: ",
        };
        self.send_to_client(wire, half);
        self.wires[wire].drips = Some(drip);
        self.at(self.now + drip.every, Event::Drop(wire));
    }

    pub(crate) fn drop_on(&mut self, wire: usize) {
        let Some(drip) = self.wires[wire].drips.take() else {
            return;
        };
        self.send_to_client(wire, &[drip.byte]);
        self.wires[wire].drips = Some(drip);
        if self.wires[wire].is_open() {
            self.at(self.now + drip.every, Event::Drop(wire));
        }
    }
}

#[test]
fn f42_after_a_drip_all_sessions_are_on_one_new_connection_within_13_s() {
    for half in [Half::Header, Half::Frame, Half::LongFrame, Half::Answer] {
        for every in [SECOND, 5 * SECOND] {
            for byte in [0, b'A', b'\n', b'$', 0x80] {
                let drip = Drip { half, every, byte };
                let outcome = after(Fault::Drip(drip), 60 * SECOND);
                let (first, last) = (outcome.first(), outcome.last());
                assert!(first <= 12 * SECOND + SECOND, "{drip:?}: {first} ms");
                assert!(last - first <= SECOND, "{drip:?}: {:?}", outcome.back);
                assert_eq!(outcome.dials, 1, "{drip:?}");
                outcome.assert_nothing_was_learned();
            }
        }
    }
}
