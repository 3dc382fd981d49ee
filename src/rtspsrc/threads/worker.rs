//! One thread of the pool: how it is woken, and whether it waits for something or for a processor.

use std::{fs, path::PathBuf, sync::Condvar, time::Duration};

/// One thread.
#[derive(Debug)]
pub(super) struct Worker {
    /// For this one, while it is idle.
    pub(super) wake: Condvar,
    /// Where Linux tells how it is (proc(5)). None on other systems.
    folder: Option<PathBuf>,
}

/// How a thread was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It runs, or would if it got a processor.
    Busy,
    /// It waits for something that takes its time: a condition, as a sink does before all are
    /// prerolled, a clock, a disk.
    Waiting,
    /// It waits for a lock, or may do so. `waits`: how often it has begun to wait so far. A thread that
    /// contends with others for a lock, as for that of a bus, is found at another wait soon.
    Locked { waits: u64 },
}

impl Worker {
    pub(super) fn of_this_thread() -> Self {
        let own = fs::read_link("/proc/thread-self");
        Self {
            wake: Condvar::new(),
            folder: own.ok().map(|own| PathBuf::from("/proc").join(own)),
        }
    }

    /// How it is. Where the system does not tell, a thread that takes its time waits.
    pub(super) fn look(&self) -> Found {
        let read = |name| {
            let folder = self.folder.as_ref()?;
            fs::read_to_string(folder.join(name)).ok()
        };
        found(read("syscall").as_deref(), || read("status")).unwrap_or(Found::Waiting)
    }
}

/// What the system has noted of this thread: proc(5), `schedstat` and `status`.
pub(super) struct Usage {
    on_processor: Duration,
    waits: u64,
}

impl Usage {
    /// None where the system does not tell.
    pub(super) fn of_this_thread() -> Option<Self> {
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let on_processor = schedstat.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Self {
            on_processor: Duration::from_nanos(on_processor),
            waits: waits(&fs::read_to_string("/proc/thread-self/status").ok()?)?,
        })
    }

    /// Of the time that has passed since, what the thread has not only waited for a processor.
    pub(super) fn own_time(&self, elapsed: Duration) -> Option<Duration> {
        let now = Self::of_this_thread()?;
        match now.waits > self.waits {
            true => Some(elapsed),
            false => Some(now.on_processor.saturating_sub(self.on_processor)),
        }
    }
}

fn waits(status: &str) -> Option<u64> {
    field(status, "voluntary_ctxt_switches:")?.parse().ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// What `/proc/.../syscall` says, and `/proc/.../status` where that does not suffice: each takes some
/// microseconds to read. Some systems keep the former to themselves.
fn found(syscall: Option<&str>, status: impl FnOnce() -> Option<String>) -> Option<Found> {
    match syscall {
        Some(syscall) if syscall.starts_with("running") => return Some(Found::Busy),
        Some(syscall) if !may_be_for_a_lock(syscall) => return Some(Found::Waiting),
        _ => {}
    }
    let status = status()?;
    if field(&status, "State:")?.starts_with('R') {
        return Some(Found::Busy);
    }
    waits(&status).map(|waits| Found::Locked { waits })
}

/// Whether a thread in this system call may be waiting for a lock. The mutexes of GLib, glibc and Rust
/// wait in futex(2) for a word that is 2, "locked, and others wait". Condition variables wait there for
/// a number that counts, which is 2 at times. The lock of the process's memory is waited for in a page
/// fault, which is no system call (-1), and in what changes the map: many threads that begin at once do.
fn may_be_for_a_lock(syscall: &str) -> bool {
    const WAIT: u64 = 0;
    const WAIT_BITSET: u64 = 9;
    const OPERATION: u64 = 0x7f;
    const LOCKED_AND_OTHERS_WAIT: u64 = 2;

    let mut words = syscall.split_ascii_whitespace();
    let number = words.next().and_then(|number| number.parse().ok());
    if number.is_some_and(|number| OF_MEMORY.contains(&number)) {
        return true;
    }
    let mut arguments = words.map(|word| {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        u64::from_str_radix(digits, 16).ok()
    });
    if number != FUTEX {
        return false;
    }
    let (operation, word) = (arguments.nth(1).flatten(), arguments.next().flatten());
    match operation.map(|operation| operation & OPERATION) {
        Some(WAIT | WAIT_BITSET) => word.is_none_or(|word| word == LOCKED_AND_OTHERS_WAIT),
        _ => true,
    }
}

/// What stands in `/proc/.../syscall` of a thread that may wait for the process's memory.
#[cfg(target_os = "linux")]
const OF_MEMORY: [libc::c_long; 6] = [
    -1,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_clone3,
];
/// There is no `/proc/.../syscall`.
#[cfg(not(target_os = "linux"))]
const OF_MEMORY: [i64; 0] = [];

/// Its number in `/proc/.../syscall`.
#[cfg(target_os = "linux")]
const FUTEX: Option<libc::c_long> = Some(libc::SYS_futex);
/// There is no `/proc/.../syscall`.
#[cfg(not(target_os = "linux"))]
const FUTEX: Option<i64> = None;

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
    };

    use super::*;

    fn status(state: &str) -> String {
        format!(
            "Name:\trtspmux-feed\nState:\t{state}\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t3\n"
        )
    }

    #[test]
    fn the_state_and_the_waits_are_found_in_a_status() {
        let found = |status: &str| found(None, || Some(status.to_owned()));
        assert_eq!(found(&status("R (running)")), Some(Found::Busy));
        let locked = Some(Found::Locked { waits: 17 });
        assert_eq!(found(&status("S (sleeping)")), locked);
        assert_eq!(found(&status("D (disk sleep)")), locked);
        for cut in [
            "",
            "State:\tS (sleeping)\n",
            "voluntary_ctxt_switches:\t17\n",
        ] {
            assert_eq!(found(cut), None);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_wait_for_a_lock_is_told_from_other_waits_by_the_system_call() {
        let futex = libc::SYS_futex;
        let found_in = |syscall: &str| found(Some(syscall), || Some(status("S (sleeping)")));
        let locked = Some(Found::Locked { waits: 17 });
        for lock in ["0x80 0x2 0x0", "0x189 0x2 0x0", "0x86 0x0 0x0", "x y"] {
            let syscall = format!("{futex} 0x7f3010 {lock} 0x0 0x0 0x7ffe 0x7f30");
            assert_eq!(found_in(&syscall), locked, "{syscall}");
        }
        for condition in ["0x80 0x0 0x0", "0x189 0x7 0x0"] {
            let syscall = format!("{futex} 0x7f3010 {condition} 0x0 0x0 0x7ffe 0x7f30");
            assert_eq!(found_in(&syscall), Some(Found::Waiting), "{syscall}");
        }
        for memory in [-1, libc::SYS_mmap, libc::SYS_munmap] {
            let syscall = format!("{memory} 0x7ffe 0x7f30");
            assert_eq!(found_in(&syscall), locked, "{syscall}");
        }
        for other in ["230 0x1 0x0", ""] {
            assert_eq!(found_in(other), Some(Found::Waiting), "{other}");
        }
        assert_eq!(found_in("running\n"), Some(Found::Busy));
    }

    #[test]
    fn what_cannot_be_looked_at_waits() {
        let worker = Worker {
            folder: None,
            ..Worker::of_this_thread()
        };
        assert_eq!(worker.look(), Found::Waiting);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn one_that_is_busy_waits_for_a_lock_or_for_a_condition_is_told_from_the_others() {
        let (tell, told) = mpsc::channel();
        let is_enough = Arc::new(AtomicBool::new(false));
        let busy = thread::spawn({
            let (tell, is_enough) = (tell.clone(), Arc::clone(&is_enough));
            move || {
                tell.send(Worker::of_this_thread()).unwrap();
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

        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let held = gate.0.lock().unwrap();
        let waiting = thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                tell.send(Worker::of_this_thread()).unwrap();
                let is_open = gate.0.lock().unwrap();
                let open = gate.1.wait_while(is_open, |is_open| !*is_open);
                drop(open);
            }
        });
        let waiting_one = told.recv().unwrap();
        // It is at the same wait twice only once it waits for the lock.
        let mut before = Found::Busy;
        loop {
            let now = waiting_one.look();
            if matches!(now, Found::Locked { .. }) && now == before {
                break;
            }
            before = now;
            thread::yield_now();
        }
        drop(held);
        while waiting_one.look() != Found::Waiting {
            thread::yield_now();
        }
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        waiting.join().unwrap();
    }
}
