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
    not_found_of_two
    one_camera_two_tracks
    other_channels_than_asked
    query_string_cameras
    rtcp_on_rtp_channel
    same_channels_twice
    same_session_id_twice
    server_requests
    session_header_padding
    single_channel_number
    teardown_connection_close
    two_cameras_pipelined
}
