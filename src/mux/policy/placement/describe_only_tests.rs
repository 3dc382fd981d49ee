//! Sessions that are described where nothing plays, and where they go then.

use super::{
    tests::{Names, connect, key, request},
    *,
};

/// A session that is to be described first, which might cost the others their connection.
fn separate(server: &str, key: u8) -> PlacementRequest {
    PlacementRequest {
        max_connections: Some(1),
        describes: DescribeMode::Separate,
        overflows: true,
        ..request(server, key)
    }
}

/// The one connection a server may have, with something that plays.
fn playing(table: &mut Names, request: &PlacementRequest) -> ConnectionId {
    let id = connect(table, request);
    table.on_connected(id);
    table.on_set_up(id, true);
    table.on_playing(id);
    id
}

#[test]
fn at_the_limit_those_that_are_only_described_share_a_connection() {
    let mut table = Names::new();
    let pooled = playing(&mut table, &separate("nvr", 0));
    let beside = connect(&mut table, &separate("nvr", 0));
    for _ in 1..20 {
        assert_eq!(
            table.checkout(&separate("nvr", 0)),
            Placement::Existing(beside)
        );
    }
    assert_eq!(
        table.count(key("nvr", 0).server(), ConnectionPurpose::Pooled),
        1
    );
    let described = separate("nvr", 0).described();
    assert_eq!(table.checkout(&described), Placement::Existing(pooled));
    for left in (0..20).rev() {
        assert_eq!(table.rejoin(beside, &described), Some(pooled));
        let outcome = match left {
            0 => Checkin::Finished,
            _ => Checkin::Nothing,
        };
        assert_eq!(table.checkin(beside), outcome);
    }
    assert_eq!(table.entry(pooled).unwrap().references, 22);
}

#[test]
fn what_is_described_aside_stays_away_from_what_is_busy_probed_or_anothers() {
    let mut table = Names::new();
    playing(&mut table, &separate("nvr", 0));
    let busy = connect(&mut table, &separate("nvr", 0));
    let shun = vec![busy];
    let elsewhere = PlacementRequest {
        shun,
        ..separate("nvr", 0)
    };
    let probed = connect(&mut table, &elsewhere);
    table.keep_others_away(probed);
    let tried = PlacementRequest {
        avoid: vec![busy],
        ..separate("nvr", 0)
    };
    let third = connect(&mut table, &tried);
    assert_ne!(third, probed);
    let apart = PlacementRequest {
        shared_with: SharedWith::Alone,
        ..separate("nvr", 0)
    };
    let own = connect(&mut table, &apart);
    assert_eq!(
        table.entry(own).unwrap().purpose,
        ConnectionPurpose::Dedicated
    );
    table.retire(third);
    assert_eq!(
        table.checkout(&separate("nvr", 0)),
        Placement::Existing(busy)
    );
}

#[test]
fn no_session_is_described_apart_that_has_no_place_to_go_to() {
    let mut table = Names::new();
    let full = PlacementRequest {
        ceiling: 1,
        ..separate("nvr", 0)
    };
    let id = playing(&mut table, &full);
    assert!(!table.has_place(&full));
    assert_eq!(table.checkout(&full), Placement::Wait { close: None });
    let waiter = table.enqueue(full.clone()).unwrap();
    assert!(table.has_place(&separate("nvr", 0)));
    table.checkin(id);
    assert_eq!(table.serve("nvr"), [(waiter, Placement::Existing(id))]);
}

#[test]
fn who_has_left_a_busy_connection_is_described_aside_if_that_may_cost_the_others() {
    let mut table = Names::new();
    let id = playing(&mut table, &separate("nvr", 0));
    let left = |describes| PlacementRequest {
        describes,
        avoid: vec![id],
        ..separate("nvr", 0)
    };
    assert!(!table.has_place(&left(DescribeMode::InBand)));
    assert!(table.has_place(&left(DescribeMode::Separate)));
    let beside = connect(&mut table, &left(DescribeMode::Separate));
    let described = left(DescribeMode::Separate).described();
    assert_eq!(table.rejoin(beside, &described), None);
    assert_eq!(
        table.count(key("nvr", 0).server(), ConnectionPurpose::Pooled),
        1,
        "it does not count"
    );
}

#[test]
fn no_session_leaves_for_a_connection_that_is_as_busy() {
    let mut table = Names::new();
    let in_band = PlacementRequest {
        describes: DescribeMode::InBand,
        ..separate("nvr", 0)
    };
    let id = playing(&mut table, &in_band);
    let shun = vec![id];
    assert!(!table.has_place(&PlacementRequest {
        shun,
        ..in_band.clone()
    }));
    assert!(table.has_place(&in_band));
    table.on_pressed(id);
    assert!(table.has_place(&in_band));
    assert_ne!(connect(&mut table, &in_band), id);
}

#[test]
fn a_connection_counts_from_when_its_sessions_have_nowhere_else_to_go() {
    let mut table = Names::new();
    let pooled = playing(&mut table, &separate("nvr", 0));
    let beside = connect(&mut table, &separate("nvr", 0));
    table.on_connected(beside);
    table.retire(pooled);
    table.remove(pooled);
    assert_eq!(table.rejoin(beside, &separate("nvr", 0).described()), None);
    assert_eq!(
        table.count(key("nvr", 0).server(), ConnectionPurpose::Pooled),
        1
    );
    assert_eq!(
        table.checkout(&separate("nvr", 0)),
        Placement::Existing(beside)
    );
}
