//! The two ways to take a connection's bytes apart that are compared.

use std::{
    hint::black_box,
    sync::Arc,
    task::{Context, Waker},
    time::Instant,
};

use bytes::{Buf as _, BytesMut};
use gstrtspmux::mux::{
    OverflowPolicy, Packet,
    delivery::{Budget, Consumer, Producer, delivery},
    proto::Connection,
};

use crate::playing;

/// Something that takes a connection's bytes.
pub(crate) trait Reader {
    /// Takes what is complete off the buffer; gives the packets in it.
    fn take(&mut self, buffer: &mut BytesMut) -> usize;
}

/// Read and slice.
pub(crate) struct Bare;

impl Reader for Bare {
    fn take(&mut self, buffer: &mut BytesMut) -> usize {
        let mut packets = 0;
        while let Some(&[_, _, high, low]) = buffer.first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if buffer.len() < 4 + length {
                break;
            }
            buffer.advance(4);
            black_box(buffer.split_to(length).freeze());
            packets += 1;
        }
        packets
    }
}

/// Codec, channel table, queue.
pub(crate) struct Multiplexer {
    connection: Connection,
    queues: Vec<(Producer, Consumer)>,
    batch: Vec<Packet>,
    now: Instant,
}

impl Multiplexer {
    /// With that many sessions that play.
    pub(crate) fn new(sessions: u8, now: Instant) -> Self {
        let budget = Budget::for_connection();
        Self {
            connection: playing::connection(sessions, now),
            queues: (0..sessions)
                .map(|_| delivery(Arc::clone(&budget), OverflowPolicy::default()))
                .collect(),
            batch: Vec::new(),
            now,
        }
    }
}

impl Reader for Multiplexer {
    fn take(&mut self, buffer: &mut BytesMut) -> usize {
        let (queues, received) = (&mut self.queues, self.now);
        self.connection.handle_input(received, buffer, |packet| {
            let (producer, _) = &mut queues[packet.session.index()];
            producer.push(Packet {
                stream: packet.stream,
                kind: packet.kind,
                header: packet.header,
                payload: packet.payload,
                received,
                discontinuity: false,
            });
        });
        let mut packets = 0;
        for (producer, consumer) in &mut self.queues {
            producer.hand_over(self.now);
            let taken =
                consumer.poll_batch(&mut Context::from_waker(Waker::noop()), &mut self.batch);
            if taken.is_ready() {
                packets += self.batch.len();
                black_box(&self.batch);
                self.batch.clear();
            }
        }
        packets
    }
}
