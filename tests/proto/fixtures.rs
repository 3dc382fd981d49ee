//! Every transcript under `fixtures/`, in every way its bytes can arrive. One test a file, so that a
//! failure names it; a file without a test is a failure too.

use std::collections::BTreeSet;

use crate::conversation::play_in_every_way;
use crate::support::transcript::Transcript;

macro_rules! transcripts {
    ($folder:ident: $($name:ident)*) => {
        mod $folder {
            use super::*;

            const NAMES: &[&str] = &[$(stringify!($name)),*];

            $(
                #[test]
                fn $name() {
                    let (folder, name) = (stringify!($folder), stringify!($name));
                    let path = format!("{folder}/{name}.rtsp.txt");
                    play_in_every_way(&Transcript::fixture(&path));
                }
            )*

            #[test]
            fn every_transcript_has_a_test() {
                let file = |name: &&str| format!("fixtures/{}/{name}.rtsp.txt", stringify!($folder));
                let listed: BTreeSet<String> = NAMES.iter().map(file).collect();
                let found = Transcript::fixtures_in(stringify!($folder));
                let found: BTreeSet<String> = found.into_iter().map(|found| found.name).collect();
                assert_eq!(listed, found);
            }
        }
    };
}

transcripts! {
    sessions:
    answers_out_of_order
    control_urls
    digest
    dropped_during_setup
    eof_in_mid_frame
    garbage_between_frames
    keep_alive
    media_after_teardown
    media_before_play_answer
    no_channels_in_answer
    no_session_header
    not_found_of_two
    one_camera_two_tracks
    one_pair_for_both_streams
    other_channels_than_asked
    query_string_cameras
    rtcp_on_rtp_channel
    same_channels_twice
    same_session_id_twice
    server_requests
    session_header_padding
    session_id_at_play
    single_channel_number
    teardown_connection_close
    two_cameras_pipelined
}

transcripts! {
    core:
    adopted_from_quarantine
    answers_in_reverse
    blocked_is_not_ignored
    channels_come_back
    channels_of_a_liar_rest
    close_announced_and_not_made
    close_behind_401
    close_ends_idleness
    close_without_answer
    credentials_one_at_a_time
    credentials_refused_in_mid_session
    credentials_unanswered
    cseq_always_1
    deadline_at_head_of_line
    id_given_twice_after_all_have_left
    described_without_base
    describe_passed_over
    idle_zero_waits_for_teardown
    ignored_of_dropped_session
    ignored_setup_answered_late
    keep_alive_401_after_teardown
    keep_alive_454_loses_one
    keep_alive_before_slow_describes
    keep_alive_refused_and_unmatched
    keep_alive_refused_goes_on
    keep_alive_steps_down
    keep_alive_without_public
    late_setup_answer_of_dropped_session
    late_setup_answers_undone_once
    media_before_setup_answer
    no_credentials
    no_cseq_and_not_repeatable
    no_cseq_one_outstanding
    no_cseq_several_outstanding
    nonce_good_once
    one_describe_of_a_camera
    parameters
    password_changed
    paused_is_kept_alive
    permit_given_back
    ping_after_idle_expiry
    ping_before_reuse
    ping_unanswered
    pipelined_requests_dropped
    play_unanswered_after_one_packet
    play_unanswered_while_media_flows
    probe_closed
    probe_stood
    probe_unanswered
    realm_for_each_camera
    realm_of_the_server
    resume_454_loses_session
    second_session_ignored
    seek
    server_redirect
    server_teardown
    session_id_comes_again
    setup_failed_owes_teardown
    setup_of_a_stream_ignored
    setup_without_describe
    silence_at_head_of_line_is_death
    silence_is_death
    silence_is_probed
    stale_nonce_in_mid_session
    tainted_by_second_owner
    teardown_401
    teardown_refused
    teardown_unanswered
    tombstone
    torn_down_while_setup_is_lost
    two_sessions_without_id
    udp_instead_of_tcp
    weaker_algorithm
    wrong_password
    wrong_password_new_nonces
}

transcripts! {
    servers:
    aio_rtsp_toolkit
    at_limit_453
    at_limit_503
    axis
    cheap_camera
    dahua
    evostream
    go2rtc
    go2rtc_playing
    gst_rtsp_server
    gst_rtsp_server_full_connection
    h264dvr
    hikvision
    lal
    lal_playing
    live555
    live555_bad_request
    live555_before_2017
    live555_before_2017_answers_twice
    live555_before_2017_pipelined
    live555_before_2017_restart
    live555_before_2017_strays_first
    mediamtx
    mediamtx_batch
    mediamtx_not_found
    mediamtx_slow_setup
    no_interleaved
    own_channels
    phz76
    phz76_batch
    rtsp_demo
    rtsp_demo_batch
    serial
    simple_rtsp_server
    tapo
    vlc
    xiu
    xiu_not_found
    xiu_playing
    zlmediakit
    zlmediakit_lost_id
    zlmediakit_not_playing
}
