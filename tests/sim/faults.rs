//! What goes wrong, and how.

use crate::network::{AfterSuspend, Event, Fault, Millis, NEVER, World};
use crate::server::Reach;

impl World {
    /// Whether bytes were changed on a way from this server: what clients take it for may be wrong.
    pub(crate) fn has_corrupted(&self, server: usize) -> bool {
        let mut wires = self.wires.iter();
        wires.any(|wire| wire.server == server && wire.is_corrupted)
    }

    pub(crate) fn on_fault(&mut self, fault: Fault) {
        self.trace
            .note(self.now, &format!("fault {fault:?}"), 0, &[]);
        match fault {
            Fault::Kill(server, back, is_refusing) => self.kill(server, back, is_refusing),
            Fault::Return(server) => self.servers[server].reach = Reach::Up,
            Fault::Sleep(time, after_suspend) => self.sleep(time, after_suspend),
            _ => {
                let open: Vec<usize> = (0..self.wires.len())
                    .filter(|wire| self.wires[*wire].is_open())
                    .collect();
                if !open.is_empty() {
                    let wire = self.random.pick(&open);
                    self.strike(wire, fault);
                }
            }
        }
    }

    fn strike(&mut self, wire: usize, fault: Fault) {
        self.wires[wire].is_disturbed = true;
        let now = self.now;
        match fault {
            Fault::Reset => {
                self.coverage.hit("reset");
                self.reset(wire);
            }
            Fault::CutFrame => {
                self.coverage.hit("cut in mid-frame");
                self.send_to_client(wire, b"$\0\x01\x00 half a frame");
                self.close_by_server(wire);
                self.forget(wire);
            }
            Fault::Stall(time) => {
                self.coverage.hit("stall");
                self.wires[wire].stalled_until = now + time;
            }
            Fault::Hole => {
                self.coverage.hit("black hole");
                self.wires[wire].stalled_until = NEVER;
            }
            Fault::Deaf(time) => {
                self.coverage.hit("deaf server");
                self.wires[wire].deaf_until = now + time;
            }
            Fault::Corrupt(deliveries) => self.wires[wire].to_corrupt += deliveries,
            Fault::Garbage(length) => {
                self.coverage.hit("garbage");
                self.wires[wire].is_corrupted = true;
                let garbage: Vec<u8> = (0..length)
                    .map(|_| u8::try_from(self.random.below(256)).unwrap_or_default())
                    .collect();
                self.send_to_client(wire, &garbage);
            }
            Fault::Drip(drip) => self.begin_drip(wire, drip),
            Fault::Trickle => {
                self.coverage.hit("trickle");
                self.wires[wire].trickles = true;
            }
            Fault::Kill(..) | Fault::Return(_) | Fault::Sleep(..) => {}
        }
    }

    fn sleep(&mut self, time: Millis, after_suspend: AfterSuspend) {
        self.coverage.hit("slept");
        self.asleep += time;
        let wires: Vec<usize> = (0..self.wires.len())
            .filter(|wire| !self.wires[*wire].is_forgotten)
            .collect();
        for wire in wires {
            self.wires[wire].is_disturbed = true;
            match after_suspend {
                AfterSuspend::Expired => self.expire_all(wire),
                AfterSuspend::Reset => self.reset(wire),
                AfterSuspend::Silence => {
                    self.forget(wire);
                    self.wires[wire].stalled_until = NEVER;
                }
            }
        }
    }

    /// Both ends are cut off at once.
    fn reset(&mut self, wire: usize) {
        self.forget(wire);
        let state = &mut self.wires[wire];
        state.is_reset = true;
        state.is_disturbed = true;
        state.inbox.clear();
        state.wake();
    }

    fn kill(&mut self, server: usize, back: Millis, is_refusing: bool) {
        self.coverage.hit("server killed");
        self.servers[server].reach = match is_refusing {
            true => Reach::Refusing,
            false => Reach::Unreachable,
        };
        self.at(self.now + back, Event::Fault(Fault::Return(server)));
        let wires: Vec<usize> = (0..self.wires.len())
            .filter(|wire| self.wires[*wire].server == server && !self.wires[*wire].is_forgotten)
            .collect();
        for wire in wires {
            match is_refusing {
                true => self.reset(wire),
                // The power is gone: not even a RST comes.
                false => {
                    self.forget(wire);
                    self.wires[wire].is_disturbed = true;
                    self.wires[wire].stalled_until = NEVER;
                }
            }
        }
    }
}
