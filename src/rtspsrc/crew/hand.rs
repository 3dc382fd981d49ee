//! A thread of the crew: how it is summoned, and whether it waits for something or for a processor.

use std::{fs, path::PathBuf, sync::Condvar};

/// One thread.
#[derive(Debug)]
pub(super) struct Hand {
    /// For this one, while it is idle.
    pub(super) summons: Condvar,
    /// Where Linux tells how it is (proc(5)). None on other systems.
    stat: Option<PathBuf>,
}

impl Hand {
    pub(super) fn of_this_thread() -> Self {
        let own = fs::read_link("/proc/thread-self");
        Self {
            summons: Condvar::new(),
            stat: own
                .ok()
                .map(|own| PathBuf::from("/proc").join(own).join("stat")),
        }
    }

    /// Whether it waits for something: a lock, a condition, a disk. Where the system does not tell, a
    /// thread that takes its time does.
    pub(super) fn is_waiting(&self) -> bool {
        let stat = self.stat.as_ref().and_then(|stat| fs::read(stat).ok());
        stat.and_then(|stat| is_at_rest(&stat)).unwrap_or(true)
    }
}

/// Whether a line of `/proc/.../stat` is of a thread that neither runs nor could. The name before the
/// state may be anything.
fn is_at_rest(stat: &[u8]) -> Option<bool> {
    let name_end = stat.iter().rposition(|octet| *octet == b')')?;
    match stat.get(name_end + 1..)? {
        [b' ', state, b' ', ..] => Some(*state != b'R'),
        _ => None,
    }
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
    fn the_state_is_found_behind_any_name() {
        assert_eq!(is_at_rest(b"17 (rtspmux-feed) R 1 17"), Some(false));
        assert_eq!(is_at_rest(b"17 (a) R (b) ) S 1 17"), Some(true));
        assert_eq!(is_at_rest(b"17 (rtspmux-feed) D 1 17"), Some(true));
        for cut in [&b""[..], b"17", b"17 (x)", b"17 (x) R"] {
            assert_eq!(is_at_rest(cut), None);
        }
    }

    #[test]
    fn what_cannot_be_looked_at_waits() {
        let hand = Hand {
            stat: None,
            ..Hand::of_this_thread()
        };
        assert!(hand.is_waiting());
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
        while busy_one.is_waiting() {
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
        while !waiting_one.is_waiting() {
            thread::yield_now();
        }
        gate.set(()).unwrap();
        waiting.join().unwrap();
    }
}
