//! Servers that send media and never answer PLAY, or lose the first one.

use crate::player::{PATIENCE, Player, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule};
use std::time::{Duration, Instant};

/// How long a session waits for an answer.
const TCP_TIMEOUT: Duration = Duration::from_secs(1);

for_both_managers!(f13_media_shows_within_tcp_timeout_that_it_plays_and_a_lost_play_is_sent_again);
fn f13_media_shows_within_tcp_timeout_that_it_plays_and_a_lost_play_is_sent_again() {
    init();
    for (reaction, times, plays) in [
        (Reaction::Unanswered, usize::MAX, 1),
        (Reaction::Unanswered, 1, 1),
        (Reaction::Ignore, 1, 2),
    ] {
        let server = MockServer::builder()
            .camera("/cam", Camera::video())
            .rule(Rule::new("PLAY", reaction).times(times))
            .start();
        let player = Player::playing(&crate::one_camera::line(
            &server.url("/cam"),
            &format!("tcp-timeout={}", TCP_TIMEOUT.as_micros()),
        ));
        let seen = player.seen_by("sink");
        let began = Instant::now();
        while seen.count() == 0 {
            assert!(began.elapsed() < PATIENCE, "no packet; {plays} PLAYs");
            server.send_packets("/cam", 1);
            server.wait_until(|_| false, Duration::from_millis(40));
        }
        println!("{plays} PLAYs: a packet after {:?}", began.elapsed());
        assert_eq!(server.view().count("PLAY"), plays);
        player.assert_no_error();
    }
}
