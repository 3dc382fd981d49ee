//! Payloads on which the depayloaders of GStreamer 1.22 end the process, whichever source they come from. They
//! are left out.
//!
//! * `rtph264depay` and `rtph265depay` subtract the headers of a fragment (FU) from its length. A payload
//!   shorter than these is copied with a length of nearly 4 GiB.
//! * `rtpmp4gdepay` takes no buffer for an access unit of no bytes, and uses it.

use gstreamer as gst;

/// What is looked at in the payloads of a payload type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PayloadShape {
    #[default]
    Any,
    H264,
    H265,
    /// AU headers (RFC 3640 3.2.1) of nothing but a size and an index: the bits of the size, of the first index,
    /// and of the others.
    AccessUnits {
        size: u32,
        first: u32,
        others: u32,
    },
}

impl PayloadShape {
    pub(crate) fn of(fields: &gst::StructureRef) -> Self {
        let name = fields.get::<&str>("encoding-name").unwrap_or_default();
        match name {
            "H264" => Self::H264,
            "H265" => Self::H265,
            "MPEG4-GENERIC" => {
                let bits = |name: &str| {
                    let text = fields.get::<&str>(name).ok()?;
                    text.parse().ok().filter(|bits| *bits <= 32)
                };
                match bits("sizelength") {
                    Some(size) => Self::AccessUnits {
                        size,
                        first: bits("indexlength").unwrap_or(0),
                        others: bits("indexdeltalength").unwrap_or(0),
                    },
                    None => Self::Any,
                }
            }
            _ => Self::Any,
        }
    }

    /// Whether a depayloader survives the payload.
    pub(crate) fn takes(self, payload: &[u8]) -> bool {
        match (self, payload) {
            (Self::Any, _) => true,
            // FU-A and FU-B.
            (Self::H264, [head, rest @ ..]) => !matches!(head & 0x1f, 28 | 29) || rest.len() >= 2,
            (Self::H265, [head, rest @ ..]) => head >> 1 & 0x3f != 49 || rest.len() >= 3,
            (
                Self::AccessUnits {
                    size,
                    first,
                    others,
                },
                _,
            ) => !has_empty_unit(payload, size, first, others),
            // A packet that keeps something alive.
            (_, []) => true,
        }
    }
}

fn has_empty_unit(payload: &[u8], size: u32, first: u32, others: u32) -> bool {
    let Some((bits, headers)) = payload.split_first_chunk::<2>() else {
        return false;
    };
    let most = u32::try_from(headers.len() * 8).unwrap_or(u32::MAX);
    let end = u32::from(u16::from_be_bytes(*bits)).min(most);
    let is_set = |bit: u32| {
        let byte = headers.get(bit as usize / 8).copied().unwrap_or_default();
        byte & (0x80 >> (bit % 8)) != 0
    };
    let mut at = 0;
    let mut index = first;
    while size > 0 && at + size <= end {
        if !(at..at + size).any(is_set) {
            return true;
        }
        at += size + index;
        index = others;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f51_fragments_of_no_bytes_are_left_out() {
        for (payload, is_taken) in [
            (&[][..], true),
            (&[0x7c], false),
            (&[0x7c, 0x85], false),
            (&[0x7c, 0x85, 1], true),
            (&[0x7d, 0x85], false),
            (&[0x65], true),
            (&[0x78, 0xff], true),
        ] {
            assert_eq!(PayloadShape::H264.takes(payload), is_taken, "{payload:x?}");
            assert!(PayloadShape::Any.takes(payload));
        }
        assert!(!PayloadShape::H265.takes(&[0x62, 1, 0x80]));
        assert!(PayloadShape::H265.takes(&[0x62, 1, 0x80, 5]));
        assert!(PayloadShape::H265.takes(&[0x02]));
    }

    #[test]
    fn f51_access_units_of_no_bytes_are_left_out() {
        let shape = PayloadShape::AccessUnits {
            size: 13,
            first: 3,
            others: 3,
        };
        for (payload, is_taken) in [
            (&[0, 16, 0, 8, 1][..], true),
            (&[0, 16, 0, 7, 1], false),
            (&[0, 32, 0, 8, 0, 0], false),
            (&[0, 32, 0, 8, 0, 8, 1, 2], true),
            // Headers that are not there are no units.
            (&[0xff, 0xff], true),
            (&[0], true),
            (&[], true),
        ] {
            assert_eq!(shape.takes(payload), is_taken, "{payload:x?}");
        }
    }
}
