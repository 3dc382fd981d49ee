//! What ends the lines of a head.

/// What ends the lines of a head, as its first line shows. Other lines may end with something else:
/// `rtspsrc` takes CRLF, LF and CR in any mixture. It takes CR CR for the end of the head. Here that is so
/// only where the first line ends with CR alone, because some servers write CR CR LF for CRLF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnds {
    /// LF, with any number of CR before it.
    Lf,
    Cr,
    LfCr,
}

/// The longest end of a head: LF CR LF CR.
pub(super) const LONGEST_HEAD_END: usize = 4;

impl LineEnds {
    /// `None`: more bytes are needed.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let first = head.iter().position(is_line_end)?;
        match head.get(first..)? {
            [b'\n', b'\r', b'\n', ..] | [b'\n', b'\n', ..] => Some(Self::Lf),
            [b'\n', b'\r', _, ..] => Some(Self::LfCr),
            [b'\n' | b'\r'] | [b'\n', b'\r'] => None,
            [b'\r', second, ..] if !is_line_end(second) => Some(Self::Cr),
            _ => Some(Self::Lf),
        }
    }

    /// The end of the head with its blank line, behind the first `searched` bytes.
    pub(super) fn find_head_end(self, head: &[u8], searched: usize) -> Option<usize> {
        let from = searched.saturating_sub(LONGEST_HEAD_END - 1);
        let mut rest = head.get(from..)?;
        loop {
            // Most lines end with LF: to look for that byte alone takes half the time.
            let next = match self {
                Self::Lf => rest.iter().position(|byte| *byte == b'\n'),
                Self::Cr | Self::LfCr => rest.iter().position(is_line_end),
            };
            rest = rest.get(next?..)?;
            let length = match (rest, self) {
                ([b'\n', b'\r', b'\n', b'\r', ..], Self::LfCr)
                | ([b'\r', b'\n', b'\r', b'\n', ..], _)
                | ([b'\n', b'\r', b'\r', b'\n', ..], Self::Lf) => 4,
                ([b'\n', b'\r', b'\n', ..], Self::Lf | Self::Cr) => 3,
                ([b'\n', b'\n', ..], _) | ([b'\r', b'\r', ..], Self::Cr) => 2,
                _ => {
                    rest = rest.get(1..)?;
                    continue;
                }
            };
            return Some(head.len() - rest.len() + length);
        }
    }
}

pub(super) fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_shows_what_ends_lines_or_needs_more_bytes() {
        for (head, ends) in [
            ("a", None),
            ("a\r", None),
            ("a\n", None),
            ("a\n\r", None),
            ("a\r\n", Some(LineEnds::Lf)),
            ("a\r\r", Some(LineEnds::Lf)),
            ("a\n\n", Some(LineEnds::Lf)),
            ("a\n\r\n", Some(LineEnds::Lf)),
            ("a\nb", Some(LineEnds::Lf)),
            ("a\n\rb", Some(LineEnds::LfCr)),
            ("a\rb", Some(LineEnds::Cr)),
        ] {
            assert_eq!(LineEnds::of(head.as_bytes()), ends, "{head:?}");
        }
    }
}
