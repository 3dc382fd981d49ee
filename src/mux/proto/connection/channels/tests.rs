use super::*;
use crate::mux::proto::event::Undescribed;

const A: SessionKey = SessionKey(1);
const B: SessionKey = SessionKey(2);

fn rtp(payload_type: u8, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type, 0, 1, 0, 0, 0, 0];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet
}

fn rtcp() -> Vec<u8> {
    vec![0x80, 200, 0, 1, 0, 0, 0, 1]
}

fn granted(table: &mut ChannelTable, session: SessionKey, first: u8) -> Result<(), Collision> {
    let grant = Grant {
        session,
        stream: 0,
        payload_types: PayloadTypes::from_iter([96]),
        announced_ssrc: None,
        sources: SourcePolicy::Any,
        is_only_presentation: false,
    };
    table.grant(ChannelPair::from_answer(first, None), grant)
}

fn delivered(
    table: &mut ChannelTable,
    channel: u8,
    packet: &[u8],
    now: Instant,
) -> Option<SessionKey> {
    match table.judge(channel, packet, now) {
        FrameVerdict::Deliver(owner) | FrameVerdict::TakeOver(owner) => Some(owner.session),
        _ => None,
    }
}

#[test]
fn the_first_session_asks_for_0_and_the_next_for_2() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    assert_eq!(table.reserve(A, 0, now), Some(0));
    assert_eq!(table.reserve(B, 0, now), Some(2));
    table.unreserve(A, 0);
    assert_eq!(table.reserve(B, 0, now), Some(0));
}

#[test]
fn all_128_pairs_can_be_had_and_spare_ones_are_kept() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    for _ in 0..120 {
        assert!(table.reserve(A, 8, now).is_some());
    }
    assert_eq!(table.reserve(A, 8, now), None);
    for _ in 0..8 {
        assert!(table.reserve(A, 0, now).is_some());
    }
    assert_eq!(table.reserve(A, 0, now), None);
}

#[test]
fn frames_go_to_the_session_that_was_granted_the_channel() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    granted(&mut table, A, 0).unwrap();
    granted(&mut table, B, 6).unwrap();
    assert_eq!(delivered(&mut table, 0, &rtp(96, 1), now), Some(A));
    assert_eq!(delivered(&mut table, 6, &rtp(96, 1), now), Some(B));
    assert_eq!(delivered(&mut table, 7, &rtcp(), now), Some(B));
    assert_eq!(table.judge(2, &rtp(96, 1), now), FrameVerdict::Unknown);
}

#[test]
fn nothing_is_delivered_on_a_channel_merely_asked_for() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    table.reserve(A, 0, now);
    assert_eq!(table.judge(0, &rtp(96, 1), now), FrameVerdict::Unknown);
}

#[test]
fn two_answers_with_one_channel_collide_and_a_reservation_gives_way() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    assert_eq!(table.reserve(A, 0, now), Some(0));
    assert_eq!(granted(&mut table, B, 0), Ok(()));
    assert_eq!(granted(&mut table, A, 0), Err(Collision(B)));
    table.unreserve(A, 0);
    assert_eq!(
        delivered(&mut table, 0, &rtp(96, 1), now),
        Some(B),
        "B keeps what it was granted"
    );
}

#[test]
fn packets_of_another_version_payload_type_or_length_are_foreign() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    granted(&mut table, A, 0).unwrap();
    for packet in [
        vec![],
        vec![0x80],
        vec![0x40; 20],
        rtp(97, 1)[..11].to_vec(),
        rtp(96, 1)[..11].to_vec(),
    ] {
        assert_eq!(
            table.judge(0, &packet, now),
            FrameVerdict::Foreign,
            "{packet:?}"
        );
    }
    assert_eq!(
        table.judge(1, &rtp(96, 1), now),
        FrameVerdict::Foreign,
        "RTP on the RTCP channel"
    );
}

#[test]
fn f41_a_packet_of_a_payload_type_that_is_not_described_names_it() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    granted(&mut table, A, 0).unwrap();
    let other = FrameVerdict::OtherType(Undescribed {
        session: A,
        stream: 0,
        payload_type: 97,
        count: 1,
    });
    assert_eq!(table.judge(0, &rtp(97, 1), now), other);
    assert_eq!(table.judge(1, &rtp(97, 1), now), FrameVerdict::Foreign);
}

#[test]
fn rtcp_on_the_rtp_channel_is_rtcp() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    granted(&mut table, A, 0).unwrap();
    let verdict = table.judge(0, &rtcp(), now);
    let owner = PacketOwner {
        session: A,
        stream: 0,
        header: None,
    };
    assert_eq!(verdict, FrameVerdict::Deliver(owner));
}

#[test]
fn f15_a_freed_channel_rests_before_it_is_used_again() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    granted(&mut table, A, 0).unwrap();
    table.quarantine(A, now + Duration::from_secs(2), Duration::ZERO);
    assert_eq!(table.judge(0, &rtp(96, 1), now), FrameVerdict::Quarantined);
    assert_eq!(table.quarantined_pairs(), 1);
    assert_eq!(table.reserve(B, 0, now), Some(2));
    assert_eq!(table.reserve(B, 0, now + Duration::from_secs(2)), Some(0));
}

#[test]
fn a_quarantine_without_answer_lasts_as_long_as_frames_come() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    let second = Duration::from_secs(1);
    granted(&mut table, A, 0).unwrap();
    table.quarantine(A, now + 60 * second, 5 * second);
    assert_eq!(table.judge(0, &rtp(96, 1), now), FrameVerdict::Quarantined);
    table.judge(0, &rtp(96, 1), now + 58 * second);
    assert_eq!(table.reserve(B, 0, now + 62 * second), Some(2));
    assert_eq!(table.reserve(B, 0, now + 63 * second), Some(0));
}

#[test]
fn a_confirmed_teardown_shortens_the_quarantine() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    let second = Duration::from_secs(1);
    granted(&mut table, A, 0).unwrap();
    table.quarantine(A, now + 60 * second, 5 * second);
    table.confirm_teardown(A, now, 2 * second);
    assert_eq!(table.reserve(B, 0, now + 2 * second), Some(0));
}

#[test]
fn an_adopted_channel_does_not_deliver_its_last_owners_packets() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    granted(&mut table, A, 0).unwrap();
    table.judge(0, &rtp(96, 0xaa), now);
    table.quarantine(A, now + Duration::from_secs(2), Duration::ZERO);
    granted(&mut table, B, 0).unwrap();
    assert_eq!(table.judge(0, &rtp(96, 0xaa), now), FrameVerdict::Foreign);
    assert_eq!(delivered(&mut table, 0, &rtp(96, 0xbb), now), Some(B));
}

/// go2rtc gives each session of a connection the same pair, and passes the camera's source on.
#[test]
fn an_adopted_channel_delivers_the_same_source_where_the_connection_has_one_presentation() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    granted(&mut table, A, 0).unwrap();
    table.judge(0, &rtp(96, 0xaa), now);
    table.quarantine(A, now + Duration::from_secs(2), Duration::ZERO);
    let grant = Grant {
        session: B,
        stream: 0,
        payload_types: PayloadTypes::default(),
        announced_ssrc: None,
        sources: SourcePolicy::Any,
        is_only_presentation: true,
    };
    let pair = ChannelPair::from_answer(0, None);
    table.grant(pair, grant).unwrap();
    let late = table.judge(0, &rtp(96, 0xaa), now);
    assert_eq!(late, FrameVerdict::Foreign, "of the old session");
    table.on_play_begun(B, now);
    assert_eq!(delivered(&mut table, 0, &rtp(96, 0xaa), now), Some(B));
}

#[test]
fn single_numbers_and_the_end_of_the_channel_space() {
    assert_eq!(
        ChannelPair::from_answer(6, None),
        ChannelPair {
            rtp: 6,
            rtcp: Some(7)
        }
    );
    assert_eq!(
        ChannelPair::from_answer(9, Some(4)),
        ChannelPair {
            rtp: 9,
            rtcp: Some(4)
        }
    );
    assert_eq!(
        ChannelPair::from_answer(255, None),
        ChannelPair {
            rtp: 255,
            rtcp: None
        }
    );
    assert_eq!(
        ChannelPair::from_answer(3, Some(3)),
        ChannelPair { rtp: 3, rtcp: None }
    );
}

/// A dead session's packets arrive on a channel before it has an owner.
#[test]
fn a_source_heard_on_a_channel_without_owner_gets_no_stream_there() {
    let grant = |session, sources| Grant {
        session,
        stream: 0,
        payload_types: PayloadTypes::from_iter([96]),
        announced_ssrc: None,
        sources,
        is_only_presentation: false,
    };
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    for channel in [0, 4] {
        assert_eq!(
            table.judge(channel, &rtp(96, 9), now),
            FrameVerdict::Unknown
        );
    }
    let pair = |first| ChannelPair::from_answer(first, None);
    table
        .grant(pair(0), grant(A, SourcePolicy::OneAtATime))
        .unwrap();
    table.grant(pair(4), grant(B, SourcePolicy::Any)).unwrap();
    table.on_play_answered(A, &[], now);
    assert_eq!(table.judge(0, &rtp(96, 9), now), FrameVerdict::Foreign);
    assert_eq!(delivered(&mut table, 0, &rtp(96, 1), now), Some(A));
    assert_eq!(table.judge(0, &rtp(96, 9), now), FrameVerdict::Foreign);
    let accepted = delivered(&mut table, 4, &rtp(96, 9), now);
    assert_eq!(accepted, Some(B), "another policy");
}

/// Two sessions of a mount that the server encodes once for all clients.
#[test]
fn one_source_may_be_that_of_two_streams() {
    let (mut table, now) = (ChannelTable::new(false), Instant::now());
    for (session, first) in [(A, 0), (B, 2)] {
        let grant = Grant {
            session,
            stream: 0,
            payload_types: PayloadTypes::default(),
            announced_ssrc: None,
            sources: SourcePolicy::OneAtATime,
            is_only_presentation: false,
        };
        table
            .grant(ChannelPair::from_answer(first, None), grant)
            .unwrap();
        table.on_play_answered(session, &[], now);
    }
    assert_eq!(delivered(&mut table, 0, &rtp(96, 5), now), Some(A));
    assert_eq!(delivered(&mut table, 2, &rtp(96, 5), now), Some(B));
}

#[test]
fn streams_of_a_session_may_share_channels_and_are_told_apart_by_type_and_source() {
    let now = Instant::now();
    // The payload types of two streams, and the channels of the second; those of the first are 0 and 1.
    for (types, second) in [([96, 0], 0), ([96, 96], 0), ([96, 0], 1)] {
        let mut table = ChannelTable::new(false);
        for (stream, first) in [(0, 0), (1, second)] {
            let grant = Grant {
                session: A,
                stream,
                payload_types: PayloadTypes::from_iter([types[stream as usize]]),
                announced_ssrc: Some(10 + stream),
                sources: SourcePolicy::Any,
                is_only_presentation: false,
            };
            table
                .grant(ChannelPair::from_answer(first, None), grant)
                .unwrap();
        }
        let stream = |table: &mut ChannelTable, channel, packet: &[u8]| match table
            .judge(channel, packet, now)
        {
            FrameVerdict::Deliver(owner) | FrameVerdict::TakeOver(owner) => owner.stream,
            other => panic!("{other:?}"),
        };
        let report = |ssrc: u8| [0x80, 200, 0, 1, 0, 0, 0, ssrc];
        for _ in 0..2 {
            assert_eq!(stream(&mut table, 0, &rtp(types[0], 10)), 0);
            assert_eq!(stream(&mut table, second, &rtp(types[1], 11)), 1);
            assert_eq!(stream(&mut table, 1, &report(10)), 0);
            assert_eq!(stream(&mut table, second + 1, &report(11)), 1);
        }
        assert_eq!(table.channel_of(A, 0, PacketKind::Rtcp), Some(1));
        assert_eq!(table.channel_of(A, 1, PacketKind::Rtcp), Some(second + 1));
        assert_eq!(granted(&mut table, B, 0), Err(Collision(A)));
        table.quarantine(A, now, Duration::ZERO);
        assert_eq!(
            table.judge(0, &rtp(types[1], 11), now),
            FrameVerdict::Quarantined
        );
    }
}
