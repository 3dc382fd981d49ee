//! A thread of the crew: how it is summoned, and whether it waits for something or for a processor.

use std::{fs, path::PathBuf, sync::Condvar};

/// One thread.
#[derive(Debug)]
pub(super) struct Hand {
    /// For this one, while it is idle.
    pub(super) summons: Condvar,
    /// Where Linux tells how it is (proc(5)). None on other systems.
    status: Option<PathBuf>,
}

/// How a thread was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It runs, or would if it got a processor.
    Busy,
    /// It waits for something: a lock, a condition, a disk. `waits`: how often it has begun to wait
    /// so far. A thread that is found at the same wait twice is held up; one that contends with
    /// others for a lock, as for that of a bus, is found at another one.
    Waiting { waits: u64 },
}

impl Hand {
    pub(super) fn of_this_thread() -> Self {
        let own = fs::read_link("/proc/thread-self");
        Self {
            summons: Condvar::new(),
            status: own
                .ok()
                .map(|own| PathBuf::from("/proc").join(own).join("status")),
        }
    }

    /// How it is. Where the system does not tell, a thread that takes its time waits.
    pub(super) fn look(&self) -> Found {
        let status = self
            .status
            .as_ref()
            .and_then(|status| fs::read_to_string(status).ok());
        let found = status.and_then(|status| found(&status));
        found.unwrap_or(Found::Waiting { waits: 0 })
    }
}

/// What `/proc/.../status` says.
fn found(status: &str) -> Option<Found> {
    let field = |name| {
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    if field("State:")?.starts_with('R') {
        return Some(Found::Busy);
    }
    let waits = field("voluntary_ctxt_switches:")?.parse().ok()?;
    Some(Found::Waiting { waits })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, OnceLock,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
    };

    use super::*;

    #[test]
    fn the_state_and_the_waits_are_found_in_a_status() {
        let status = |state: &str| {
            format!(
                "Name:\trtspmux-feed\nState:\t{state}\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t3\n"
            )
        };
        assert_eq!(found(&status("R (running)")), Some(Found::Busy));
        let waiting = Some(Found::Waiting { waits: 17 });
        assert_eq!(found(&status("S (sleeping)")), waiting);
        assert_eq!(found(&status("D (disk sleep)")), waiting);
        for cut in [
            "",
            "State:\tS (sleeping)\n",
            "voluntary_ctxt_switches:\t17\n",
        ] {
            assert_eq!(found(cut), None);
        }
    }

    #[test]
    fn what_cannot_be_looked_at_waits() {
        let hand = Hand {
            status: None,
            ..Hand::of_this_thread()
        };
        assert_eq!(hand.look(), Found::Waiting { waits: 0 });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn one_that_is_busy_is_told_from_one_that_waits() {
        let (tell, told) = mpsc::channel();
        let is_enough = Arc::new(AtomicBool::new(false));
        let busy = thread::spawn({
            let (tell, is_enough) = (tell.clone(), Arc::clone(&is_enough));
            move || {
                tell.send(Hand::of_this_thread()).unwrap();
                while !is_enough.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        });
        let busy_one = told.recv().unwrap();
        // It may wait for memory or for the channel just then.
        while busy_one.look() != Found::Busy {
            thread::yield_now();
        }
        is_enough.store(true, Ordering::Relaxed);
        busy.join().unwrap();

        let gate = Arc::new(OnceLock::new());
        let waiting = thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                tell.send(Hand::of_this_thread()).unwrap();
                let () = gate.wait();
            }
        });
        let waiting_one = told.recv().unwrap();
        // It is at the same wait twice only once it is at the gate.
        let mut before = Found::Busy;
        loop {
            let now = waiting_one.look();
            if now != Found::Busy && now == before {
                break;
            }
            before = now;
            thread::yield_now();
        }
        gate.set(()).unwrap();
        waiting.join().unwrap();
    }
}
