//! What the description of a session means for its recovery: whether it announces an end, and whether a
//! later description still fits what the first one was set up for.

use std::fmt;

use crate::mux::proto::{MediaStream, Presentation, ServerText};

/// What an RTCP BYE of a source means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnBye {
    /// The end of the stream.
    End,
    /// The loss of the session: a camera has no end, so one that sends BYE restarts.
    Loss,
}

impl OnBye {
    /// `is_recovered` tells whether a session of this presentation is set up again after a loss.
    pub(crate) fn of(presentation: &Presentation, is_recovered: bool) -> Self {
        match is_recovered && !presentation.announces_end() {
            true => Self::Loss,
            false => Self::End,
        }
    }
}

/// Which streams a session has, and what medium each of them carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamKinds(Vec<(usize, String)>);

impl StreamKinds {
    /// Those of the streams that are to be played.
    pub(crate) fn of<'a>(streams: impl IntoIterator<Item = &'a MediaStream>) -> Self {
        let streams = streams.into_iter();
        let kind = |stream: &MediaStream| (stream.index, stream.media.clone());
        Self(streams.map(kind).collect())
    }

    /// Whether a consumer that was built for these streams can go on with `now`: as many streams, each
    /// of the medium that it had. Another codec is no change of kind.
    ///
    /// # Errors
    ///
    /// It cannot, and what was described before and now.
    pub(crate) fn check(&self, now: &Self) -> Result<(), StreamsChanged> {
        if self == now {
            return Ok(());
        }
        Err(StreamsChanged {
            before: self.clone(),
            now: now.clone(),
        })
    }
}

impl fmt::Display for StreamKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (_, media)) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{}", ServerText::new(media))?;
        }
        Ok(())
    }
}

/// A session is described with other streams than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamsChanged {
    before: StreamKinds,
    now: StreamKinds,
}

impl fmt::Display for StreamsChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, now } = self;
        write!(f, "the streams have changed: {now} instead of {before}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::proto::wire::sdp::parse_presentation;

    fn presentation(range: &str) -> Presentation {
        let sdp = format!("v=0\r\n{range}m=video 0 RTP/AVP 96\r\n");
        parse_presentation(sdp.into(), "rtsp://camera/1".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_bye_is_a_loss_where_the_description_announces_no_end() {
        for live in [
            "",
            "a=range:npt=now-\r\n",
            "a=range:npt=0-\r\n",
            "a=range:clock=20260101T000000Z-\r\n",
        ] {
            let live = presentation(live);
            assert_eq!(OnBye::of(&live, true), OnBye::Loss, "{live:?}");
            let without_recovery = OnBye::of(&live, false);
            assert_eq!(without_recovery, OnBye::End, "{live:?}");
        }
        for recorded in [
            "a=range:npt=0-7.741\r\n",
            "a=range:clock=20260101T000000Z-20260101T010000Z\r\n",
        ] {
            let recorded = presentation(recorded);
            assert_eq!(OnBye::of(&recorded, true), OnBye::End, "{recorded:?}");
        }
    }

    fn kinds(media: &[(usize, &str)]) -> StreamKinds {
        let stream = |&(index, media): &(usize, &str)| MediaStream {
            index,
            media: media.to_owned(),
            protocol: "RTP/AVP".to_owned(),
            payload_types: vec![96],
            control: "rtsp://camera/track".parse().unwrap(),
            encodings: Vec::new(),
        };
        StreamKinds::of(&media.iter().map(stream).collect::<Vec<_>>())
    }

    #[test]
    fn streams_fit_if_there_are_as_many_and_each_is_of_its_medium() {
        let before = kinds(&[(0, "video"), (1, "audio")]);
        let table: [(&[(usize, &str)], bool); 5] = [
            (&[(0, "video"), (1, "audio")], true),
            (&[(0, "video")], false),
            (&[(0, "video"), (2, "audio")], false),
            (&[(0, "audio"), (1, "video")], false),
            (&[(0, "video"), (1, "audio"), (2, "application")], false),
        ];
        for (now, fits) in table {
            assert_eq!(before.check(&kinds(now)).is_ok(), fits, "{now:?}");
        }
        let changed = before.check(&kinds(&[(0, "video")])).unwrap_err();
        let text = changed.to_string();
        assert!(text.ends_with(": video instead of video, audio"), "{text}");
    }
}
