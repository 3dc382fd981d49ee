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
