//! The matrix: one test a family.

use crate::case::{Case, Order, PATIENCE, Trouble};
use crate::support::mock_server::Family;

/// 1, 2, 4 and 16 cameras in both orders; of four, one missing or one slow; of sixteen, four in trouble.
fn cases(family: Family) -> Vec<Case> {
    let troubles = [
        (1, Trouble::Nothing),
        (2, Trouble::Nothing),
        (4, Trouble::Nothing),
        (16, Trouble::Nothing),
        (4, Trouble::Missing(3)),
        (4, Trouble::Slow(2)),
        (16, Trouble::Four),
    ];
    let orders = [Order::Together, Order::OneByOne];
    let case = |order| {
        troubles.map(|(cameras, trouble)| Case {
            family,
            cameras,
            order,
            trouble,
        })
    };
    orders.into_iter().flat_map(case).collect()
}

/// Why a case does not hold.
enum Wrong {
    /// A camera does not play, or plays wrongly.
    Outcome(String),
    /// It took more connections or requests than it should.
    Cost(String),
}

fn check(case: Case) -> Result<(), Wrong> {
    match case.run(PATIENCE) {
        Ok(cost) => case
            .too_much(cost)
            .map_or(Ok(()), |why| Err(Wrong::Cost(why))),
        Err(what) => Err(Wrong::Outcome(format!("{case}: {what}"))),
    }
}

/// What is wrong when nothing runs beside the case.
fn check_again(case: Case) -> Option<String> {
    match check(case) {
        Ok(()) => None,
        Err(Wrong::Outcome(what) | Wrong::Cost(what)) => Some(what),
    }
}

fn check_all(family: Family) {
    let running: Vec<_> = cases(family)
        .into_iter()
        .map(|case| (case, std::thread::spawn(move || check(case))))
        .collect();
    let wrong: Vec<String> = running
        .into_iter()
        .map(|(case, running)| (case, running.join().unwrap()))
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|(case, checked)| match checked {
            Ok(()) => None,
            // A session that turns away from a slow answer ends its camera's stream at xiu, and on a busy machine,
            // which the cases beside it make, it may turn away before that comes.
            Err(Wrong::Outcome(_)) if family == Family::Xiu => check_again(case),
            Err(Wrong::Outcome(what)) => Some(what),
            // Answers that take 300 ms spread sessions over more connections, and on a busy machine they do.
            // The case has to hold when nothing runs beside it.
            Err(Wrong::Cost(_)) => check_again(case),
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

macro_rules! families {
    ($($name:ident: $family:expr;)*) => {
        $(
            #[test]
            fn $name() {
                check_all($family);
            }
        )*

        #[test]
        fn every_family_has_a_test() {
            assert_eq!([$($family),*], Family::ALL);
        }
    };
}

families! {
    gst_rtsp_server: Family::Gst;
    live555: Family::Live555;
    live555_before_2017: Family::LiveOld;
    mediamtx: Family::MediaMtx;
    go2rtc: Family::Go2Rtc;
    zlmediakit: Family::ZlMediaKit;
    aio_rtsp_toolkit: Family::AioToolkit;
    phz76_rtsp_server: Family::Phz76;
    xiu: Family::Xiu;
    evostream: Family::EvoStream;
    vlc: Family::Vlc;
    rtsp_demo: Family::Rockchip;
    lal: Family::Lal;
    h264dvr: Family::H264Dvr;
    cheap_camera: Family::CheapCamera;
    tapo: Family::Tapo;
    axis: Family::Axis;
    hikvision: Family::Hikvision;
    dahua: Family::Dahua;
    own_channels: Family::OwnChannels;
    no_interleaved: Family::NoInterleaved;
    at_limit_453: Family::AtLimit(453);
    at_limit_503: Family::AtLimit(503);
    serial: Family::Serial;
}
