//! The pool of this process. Other tests use it as well, so nothing is said about how many threads
//! there are at most.

use std::{sync::mpsc, time::Duration};

use super::*;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn those_that_block_hold_up_nobody() {
    let pool = WorkerPool::shared().unwrap();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (done, is_done) = mpsc::channel();
    let blocked: Vec<_> = (0..32)
        .map(|_| {
            let (gate, done) = (gate.clone(), done.clone());
            let task = Task::new(pool, move |_| {
                let open = gate.1.wait_while(lock(&gate.0), |is_open| !*is_open);
                drop(open);
                let _ = done.send("blocked");
            });
            task.call();
            task
        })
        .collect();
    let free = Task::new(pool, move |_| {
        let _ = done.send("free");
    });
    free.call();
    assert_eq!(is_done.recv_timeout(LONG), Ok("free"));
    *lock(&gate.0) = true;
    gate.1.notify_all();
    for _ in blocked {
        assert_eq!(is_done.recv_timeout(LONG), Ok("blocked"));
    }
}

#[test]
fn a_call_during_a_turn_is_another_turn() {
    let pool = WorkerPool::shared().unwrap();
    let (done, is_done) = mpsc::channel();
    let turns = Mutex::new(0);
    let task = Task::new(pool, move |task| {
        let mut turns = lock(&turns);
        *turns += 1;
        if *turns < 3 {
            task.call();
            task.call();
        }
        let _ = done.send(*turns);
    });
    task.call();
    let turns: Vec<i32> = (0..3)
        .map(|_| is_done.recv_timeout(LONG).unwrap())
        .collect();
    assert_eq!(turns, [1, 2, 3]);
}

#[test]
fn one_that_goes_on_lets_others_in_between() {
    let pool = WorkerPool::shared().unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let stopped = Mutex::new(stopped);
    let busy = Task::new(pool, move |task| {
        if lock(&stopped).try_recv().is_err() {
            task.call();
        }
    });
    busy.call();
    let (done, is_done) = mpsc::channel();
    let other = Task::new(pool, move |_| {
        let _ = done.send(());
    });
    other.call();
    assert_eq!(is_done.recv_timeout(LONG), Ok(()));
    stop.send(()).unwrap();
}

#[test]
fn futures_are_woken_from_anywhere_and_may_wait_for_time() {
    let (ask, question) = tokio::sync::oneshot::channel::<u32>();
    let (answer, answers) = mpsc::channel();
    spawn(async move {
        let question = question.await.unwrap();
        timer::pass(Duration::from_millis(1)).await;
        let _ = answer.send(question + 1);
    })
    .unwrap();
    ask.send(1).unwrap();
    assert_eq!(answers.recv_timeout(LONG), Ok(2));
}

/// Such as have been quick for long enough.
fn quick(pool: &'static WorkerPool, turn: impl Fn() + Send + Sync + 'static) -> Arc<Task> {
    let task = Task::new(pool, move |_| turn());
    task.pass_trial();
    task
}

fn thread_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or_default().to_owned()
}

#[test]
fn quick_tasks_run_on_the_thread_that_reads_and_one_that_blocks_leaves_it() {
    let pool = WorkerPool::shared().unwrap();
    let (done, is_done) = mpsc::channel();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let blocking = quick(pool, {
        let (gate, done) = (gate.clone(), done.clone());
        move || {
            let open = gate.1.wait_while(lock(&gate.0), |is_open| !*is_open);
            drop(open);
            let _ = done.send(thread_name());
        }
    });
    blocking.call();
    // Neither another task nor a timer waits for it.
    let timer = tokio::time::Duration::from_millis(1);
    let (rang, has_rung) = mpsc::channel();
    let ring = async move {
        timer::pass(timer).await;
        let _ = rang.send(());
    };
    drop(pool.runtime().spawn(ring));
    let other = quick(pool, {
        let done = done.clone();
        move || _ = done.send(thread_name())
    });
    other.call();
    assert_eq!(is_done.recv_timeout(LONG).as_deref(), Ok(READER));
    assert_eq!(has_rung.recv_timeout(LONG), Ok(()));
    *lock(&gate.0) = true;
    gate.1.notify_all();
    assert_eq!(is_done.recv_timeout(LONG).as_deref(), Ok(READER));
    blocking.call();
    assert_eq!(is_done.recv_timeout(LONG).as_deref(), Ok("rtspmux-feed"));
}

#[test]
fn quick_tasks_that_all_block_hold_up_neither_others_nor_timers() {
    let pool = WorkerPool::shared().unwrap();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (done, is_done) = mpsc::channel();
    let blocked: Vec<_> = (0..32)
        .map(|_| {
            let (gate, done) = (gate.clone(), done.clone());
            let task = quick(pool, move || {
                let open = gate.1.wait_while(lock(&gate.0), |is_open| !*is_open);
                drop(open);
                let _ = done.send("blocked");
            });
            task.call();
            task
        })
        .collect();
    let free = quick(pool, move || _ = done.send("free"));
    free.call();
    assert_eq!(is_done.recv_timeout(LONG), Ok("free"));
    *lock(&gate.0) = true;
    gate.1.notify_all();
    for _ in blocked {
        assert_eq!(is_done.recv_timeout(LONG), Ok("blocked"));
    }
}
