//! What stands where the state file is to be (F48): nothing hangs, and no file is harmed.

use std::{
    env, fs, iter,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process, thread,
    time::Instant,
};

use gstrtspmux::mux::{Mux, MuxEvent, Pooling, SharingVerdict};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{
    player::{PATIENCE, camera_url, options, play, play_all, server},
    support::{mock_server::MockServer, polling::ready},
};

/// A directory of its own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("rtspmux-state-{name}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Two cameras play until they have shown that their server shares: on a busy machine one of them may
/// come too late for the other to be tried together with it. What was told meanwhile.
async fn learn(mux: &Mux, server: &MockServer) -> Vec<MuxEvent> {
    let is_yes = |event: &MuxEvent| matches!(event, MuxEvent::Sharing(change) if change.verdict == SharingVerdict::Yes);
    let mut events = mux.events();
    let mut told = Vec::new();
    while !told.iter().any(is_yes) {
        drop(play_all(mux, server, 2, &Pooling::default()).await);
        told.extend(iter::from_fn(|| ready(events.next()).flatten()));
    }
    told
}

/// What is told of the state file.
async fn told(path: &Path, server: &MockServer) -> Vec<String> {
    let mux = Mux::builder().state(path).build();
    let mut events = mux.events();
    learn(&mux, server).await;
    mux.shutdown(PATIENCE).await;
    let mut told = Vec::new();
    while let Some(event) = ready(events.next()).flatten() {
        if let MuxEvent::StateFile(problem) = event {
            assert_eq!(problem.path, path);
            told.push(problem.reason);
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_what_is_no_file_of_ours_is_told_once_and_stays_as_it_is() {
    let place = Place::new("kinds");
    let path = place.file();
    let server = server(2);

    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let reasons = told(&path, &server).await;
    assert_eq!(reasons, ["not read: it is no regular file"]);
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    let reasons = told(&path, &server).await;
    assert_eq!(reasons, ["not read: it is no regular file"]);
    fs::remove_dir(&path).unwrap();

    let target = place.0.join("target");
    for text in ["precious", "rtspmux-state 4\n"] {
        fs::write(&target, text).unwrap();
        symlink(&target, &path).unwrap();
        let reasons = told(&path, &server).await;
        let expected = "not read: it is a symbolic link, which is not followed";
        assert_eq!(reasons, [expected]);
        assert_eq!(fs::read_to_string(&target).unwrap(), text);
        fs::remove_file(&path).unwrap();
    }

    fs::write(&path, "precious").unwrap();
    let reasons = told(&path, &server).await;
    assert_eq!(reasons, ["not read: it holds something else"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let names = fs::read_dir(&place.0).unwrap();
    assert_eq!(names.count(), 2, "no temporary file is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_a_link_under_an_old_temporary_name_is_not_followed() {
    let place = Place::new("planted");
    let target = place.0.join("target");
    fs::write(&target, "precious").unwrap();
    let temporary = format!("state.{}.new", process::id());
    symlink(&target, place.0.join(temporary)).unwrap();
    let server = server(2);
    assert!(told(&place.file(), &server).await.is_empty());
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    let kept = fs::read_to_string(place.file()).unwrap();
    assert!(kept.contains("\nyes 127.0.0.1:"), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_a_file_of_300_megabytes_is_not_read_and_is_replaced() {
    let place = Place::new("large");
    fs::write(place.file(), "rtspmux-state 4\n").unwrap();
    let file = fs::OpenOptions::new().append(true).open(place.file());
    file.unwrap().set_len(300_000_000).unwrap();
    let server = server(2);
    let reasons = told(&place.file(), &server).await;
    assert_eq!(reasons, ["not read: it is larger than 16 MiB"]);
    let kept = fs::read_to_string(place.file()).unwrap();
    assert!(kept.contains("\nyes 127.0.0.1:"), "{kept}");
}

/// Each process knows another server; both write whenever they learn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_two_with_one_file_keep_what_the_other_has_learned() {
    let place = Place::new("two");
    let path = place.file();
    let servers = [server(2), server(2)];
    let muxes = [(); 2].map(|()| Mux::builder().state(&path).build());
    for (mux, server) in muxes.iter().zip(&servers) {
        learn(mux, server).await;
    }
    for mux in &muxes {
        mux.shutdown(PATIENCE).await;
    }
    let kept = fs::read_to_string(&path).unwrap();
    for server in &servers {
        let line = format!("\nyes {} ", server.address());
        assert!(kept.contains(&line), "{kept}");
        let line = format!("\nplayed {} ", camera_url(server, 1));
        assert!(kept.contains(&line), "{kept}");
    }
}

/// The thread that writes ends with its work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_no_thread_waits_for_something_to_write() {
    let place = Place::new("threads");
    let server = server(2);
    let mux = Mux::builder().state(place.file()).build();
    let sessions = play_all(&mux, &server, 2, &Pooling::default()).await;
    let until = Instant::now() + PATIENCE;
    while !place.file().exists() || is_writing() {
        assert!(Instant::now() < until, "written, and the thread gone");
        thread::yield_now();
    }
    let third = play(&mux, options(&camera_url(&server, 1))).await;
    drop((sessions, third));
    mux.shutdown(PATIENCE).await;
}

fn is_writing() -> bool {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let mut threads = threads.filter_map(Result::ok);
    threads.any(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "rtspmux-state\n")
    })
}
