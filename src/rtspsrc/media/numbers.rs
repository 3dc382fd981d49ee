//! Which stream of the present session plays on which pad. A camera may come back with streams in another
//! order, or without some.

/// The numbers of streams: in the session, and of their pads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamNumbers(pub(crate) Vec<(usize, usize)>);

impl StreamNumbers {
    /// The pad of a stream of the session.
    pub(crate) fn of_pad(&self, session: usize) -> Option<usize> {
        let mut numbers = self.0.iter();
        Some(numbers.find(|(number, _)| *number == session)?.1)
    }

    /// The stream of the session that plays on a pad.
    pub(crate) fn of_session(&self, pad: usize) -> Option<usize> {
        let mut numbers = self.0.iter();
        Some(numbers.find(|(_, number)| *number == pad)?.0)
    }
}
