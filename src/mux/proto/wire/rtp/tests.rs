//! The payloads begin as those of real encoders and payloaders (GStreamer 1.22, 64 x 48):
//!
//! ```text
//! x264enc tune=zerolatency key-int-max=3 option-string=slices=2 ! rtph264pay mtu=120
//! x264enc tune=zerolatency key-int-max=3 ! rtph264pay aggregate-mode=max-stap
//! x264enc tune=zerolatency key-int-max=6 intra-refresh=true ! rtph264pay
//! x265enc tune=zerolatency key-int-max=3 ! rtph265pay mtu=120, and aggregate-mode=max
//! ```

use super::*;

const AHEAD: Content = Content::Ahead { recovers: false };
const KEY: Content = Content::Picture { is_key: true };
const OTHER: Content = Content::Picture { is_key: false };

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn assert_looks(coding: VideoCoding, payloads: &[(&str, Content, &str)]) {
    for (hex, expected, what) in payloads {
        assert_eq!(coding.look(&bytes(hex)), *expected, "{what}");
    }
}

#[test]
fn h264_in_single_units_and_fragments() {
    assert_looks(
        VideoCoding::H264,
        &[
            ("0910", AHEAD, "delimiter"),
            (
                "6742c015da11ec05a8303035280000030008000003019478b175",
                AHEAD,
                "SPS",
            ),
            ("68ce3c80", AHEAD, "PPS"),
            (
                "1c8605ffffaddc45e9bde6d948b7962cd820d923eeef78323634",
                AHEAD,
                "a long message begins",
            ),
            (
                "1c06202d20636f7265203136342072333039352062616565",
                AHEAD,
                "it goes on",
            ),
            ("7c85888406a831200e00020380002002000226", KEY, "IDR begins"),
            (
                "7c0588840a06a831200e00020380002002000226",
                Content::Rest,
                "IDR goes on",
            ),
            (
                "7c851222101aa0c6000800022a0000226a00021f",
                Content::Rest,
                "second slice of an IDR picture",
            ),
            ("419a201aa130", OTHER, "P picture"),
            (
                "5c811268806a89c67000700010c600010f2000",
                Content::Rest,
                "second slice of a P picture",
            ),
        ],
    );
}

#[test]
fn h264_in_aggregates() {
    assert_looks(
        VideoCoding::H264,
        &[
            (
                "7800020910001a6742c015da11ec05a8303035280000030008000003019478b175000468ce3c80",
                AHEAD,
                "delimiter and parameter sets",
            ),
            ("78000209100005658884009a", KEY, "delimiter and IDR"),
            ("58000209300005419a201aa1", OTHER, "delimiter and P picture"),
            ("7800020910001a6742", Content::Rest, "cut short"),
        ],
    );
}

#[test]
fn gradual_refresh_has_recovery_points() {
    let payloads = [
        (
            "0606017180",
            Content::Ahead { recovers: true },
            "recovery point",
        ),
        (
            "419ac01aa876401c00040700004004000440",
            OTHER,
            "the picture after it",
        ),
        // Picture timing, size 1, then the recovery point.
        (
            "0601010006017180",
            Content::Ahead { recovers: true },
            "second message",
        ),
        ("0601ff", AHEAD, "size cut short"),
        (
            "78000506060171800005419ac01aa8",
            Content::Picture { is_key: true },
            "in an aggregate",
        ),
    ];
    assert_looks(VideoCoding::H264, &payloads);
}

#[test]
fn h265_in_single_units_fragments_and_aggregates() {
    assert_looks(
        VideoCoding::H265,
        &[
            (
                "40010c01ffff01600000030090000003000003003fba0240",
                AHEAD,
                "VPS",
            ),
            (
                "42010101600000030090000003000003003fa02083165ba4a4c2fff0",
                AHEAD,
                "SPS",
            ),
            ("4401c0718112", AHEAD, "PPS"),
            (
                "6201a705ffffffffffffffffff122ca2de09b51747dbbb55a4fe7f",
                AHEAD,
                "a long message begins",
            ),
            (
                "620194ac1ae0a649bf8cbe330eb9173fd91343dd474c058cbba0b6",
                KEY,
                "IDR begins",
            ),
            (
                "620114ac1ae0a649bf8cbe330eb9173fd91343dd474c058cbba0b6",
                Content::Rest,
                "IDR goes on",
            ),
            (
                "6201942c1ae0a649bf8cbe330eb9173fd91343dd474c058cbba0b6",
                Content::Rest,
                "its second slice",
            ),
            (
                "620181d0097880d7febf94c09bf2cfb0e238fc1f87c54adb1ab41e",
                OTHER,
                "P picture begins",
            ),
            (
                "0201d0097880d7febf94c09bf2cfb0e238fc1f87c54adb1ab41e3e",
                OTHER,
                "P picture",
            ),
            (
                "6001001840010c01ffff01600000030090000003000003003fba024000064401c0718112",
                AHEAD,
                "parameter sets",
            ),
            ("600100064401c071811200052801ac1ae0", KEY, "PPS and IDR"),
        ],
    );
}

#[test]
fn whatever_comes_nothing_is_read_beyond_its_end() {
    for coding in [VideoCoding::H264, VideoCoding::H265] {
        for first in 0..=255 {
            for second in [0, 1, 0x7f, 0x80, 0xff] {
                for length in 0..6 {
                    let payload = [first, second, 0xff, 0xff, 0x80, 0];
                    let content = coding.look(&payload[..length]);
                    assert!(length > 0 || content == Content::Rest);
                }
            }
        }
    }
}
