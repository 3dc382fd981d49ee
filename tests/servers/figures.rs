//! What a family costs in connections and requests.

use std::fmt::Write as _;

use crate::case::{Case, Cost, Order, PATIENCE, Trouble};
use crate::support::mock_server::Family;

/// Whether several sessions of a family can share a connection.
fn shares(family: Family) -> bool {
    !matches!(
        family,
        Family::MediaMtx
            | Family::Go2Rtc
            | Family::ZlMediaKit
            | Family::AioToolkit
            | Family::Phz76
            | Family::Xiu
            | Family::EvoStream
            | Family::Vlc
            | Family::Rockchip
            | Family::Lal
            | Family::CheapCamera
            | Family::AtLimit(_)
    )
}

/// Whether its sessions have one id.
fn has_one_id(family: Family) -> bool {
    matches!(
        family,
        Family::Lal | Family::AioToolkit | Family::Phz76 | Family::Xiu
    )
}

impl Case {
    /// The most it may cost. Learning costs at most one extra round-trip set, once per server: a connection, and a
    /// DESCRIBE and a SETUP of each session that is on the way by then, a fence, a TEARDOWN; or what a second session would
    /// send: a canary of DESCRIBE, SETUP and TEARDOWN, a DESCRIBE of nothing and an OPTIONS behind it. Where a canary is
    /// given the id of the session that it was sent beside, that one is brought up anew, and nothing is torn down.
    fn limit(&self) -> Cost {
        let cameras = self.cameras as usize;
        let of_one = match self.family {
            // Two SETUPs.
            Family::H264Dvr => 4,
            // A challenge now and then.
            Family::Axis => 5,
            _ => 3,
        };
        let learning = match (cameras, self.order) {
            (1, _) => 0,
            // A SETUP that may have been lost is sent once more, behind a fence.
            (_, Order::Together) => 2 * cameras + 3,
            (_, Order::OneByOne) if has_one_id(self.family) => 6,
            // And one URI that plays is described once more, to see that the server tells them apart.
            (_, Order::OneByOne) => 6,
        };
        // A DESCRIBE that was lost behind another one is sent once more on another connection, where four are open.
        let of_lost = match self.family {
            Family::Phz76 if cameras > 2 => cameras.div_ceil(4),
            _ => 0,
        };
        let connections = match (shares(self.family), self.order) {
            (true, Order::Together) => 1,
            (true, Order::OneByOne) if self.family == Family::Gst => cameras.min(2),
            // What has not been described is described where nothing plays.
            (true, Order::OneByOne) => cameras.min(3),
            (false, _) if cameras == 1 => 1,
            (false, _) => cameras + 1 + of_lost,
        };
        Cost {
            connections,
            requests: of_one * cameras + learning,
        }
    }

    /// What is wrong with such a cost, if it is too high.
    pub(crate) fn too_much(&self, cost: Cost) -> Option<String> {
        let limit = self.limit();
        let is_too_much = self.trouble == Trouble::Nothing
            && (cost.connections > limit.connections || cost.requests > limit.requests);
        is_too_much.then(|| format!("{self}: {cost:?}, which is more than {limit:?}"))
    }
}

/// Prints the table of docs/sharing.md.
#[test]
fn connections_and_requests_by_family() {
    let mut table = "connections / requests by cameras\n\
         | family | together: 1 | 2 | 16 | one after another: 2 | 16 |\n|---|---|---|---|---|---|\n"
        .to_owned();
    let running: Vec<_> = Family::ALL
        .map(|family| std::thread::spawn(move || row(family)))
        .into_iter()
        .collect();
    for row in running {
        let _ = writeln!(table, "{}", row.join().unwrap());
    }
    println!("{table}");
}

fn row(family: Family) -> String {
    let mut row = format!("| {family:?} |");
    let columns = [
        (1, Order::Together),
        (2, Order::Together),
        (16, Order::Together),
        (2, Order::OneByOne),
        (16, Order::OneByOne),
    ];
    for (cameras, order) in columns {
        let case = Case {
            family,
            cameras,
            order,
            trouble: Trouble::Nothing,
        };
        let _ = match case.run(PATIENCE) {
            Ok(cost) => write!(row, " {} / {} |", cost.connections, cost.requests),
            Err(text) => write!(row, " {text} |"),
        };
    }
    row
}
