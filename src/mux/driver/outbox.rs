//! The queue of messages that are to be written to the socket.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use bytes::{Buf, Bytes};

use super::transport::Transport;

/// The most messages in one system call.
const SLICES: usize = 32;

/// Whole messages in order; a message is never interrupted by another one.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The number of bytes in the queue.
    pub(super) fn backlog(&self) -> usize {
        self.bytes
    }

    /// Writes what the socket takes without waiting, and returns how many bytes that were.
    pub(super) fn write_to(&mut self, transport: &mut Transport) -> io::Result<usize> {
        let mut total = 0;
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0;
            for (slice, message) in slices.iter_mut().zip(&self.messages) {
                *slice = IoSlice::new(message);
                used += 1;
            }
            match transport.try_write_vectored(&slices[..used]) {
                Ok(written) => {
                    self.advance(written);
                    total += written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.messages.front_mut() {
            if first.len() > written {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.messages.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_end_anywhere() {
        for cut in 0..=6 {
            let mut outbox = Outbox::default();
            for message in ["ab", "c", "def"] {
                outbox.push(Bytes::from_static(message.as_bytes()));
            }
            outbox.advance(cut);
            assert_eq!(outbox.backlog(), 6 - cut);
            assert_eq!(outbox.messages.make_contiguous().concat(), b"abcdef"[cut..]);
            assert!(outbox.messages.iter().all(|message| !message.is_empty()));
        }
    }
}
