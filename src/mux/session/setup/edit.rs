//! A description that the session's user has changed before its streams are set up.
//!
//! The connection goes on with what the server has described: it is compared with other descriptions, and
//! remembered for other sessions. The edit takes its place where streams are set up and played.

use super::Setup;
use crate::mux::proto::Presentation;

#[derive(Clone)]
pub(super) struct Edit {
    of: Presentation,
    into: Presentation,
}

impl Setup {
    /// From now on `into` is played where the server describes `of`.
    pub(crate) fn edit(&mut self, of: Presentation, into: Presentation) {
        self.edit = Some(Edit { of, into });
    }

    /// What is played of a description. The edit holds for it if it has the same streams: many servers
    /// describe a session with another number or time in `o=` each time.
    pub(crate) fn edited<'a>(&'a self, described: &'a Presentation) -> &'a Presentation {
        let edit = self.edit.as_ref();
        let edit = edit.filter(|edit| described.is_set_up_like(&edit.of));
        edit.map_or(described, |edit| &edit.into)
    }

    /// What is played of the present description.
    pub(super) fn played(&self) -> Option<&Presentation> {
        Some(self.edited(self.here.presentation.as_ref()?))
    }

    /// The same, to be changed by what the server has answered.
    pub(super) fn played_mut(&mut self) -> Option<&mut Presentation> {
        let described = self.here.presentation.as_mut()?;
        let edit = self.edit.as_mut();
        Some(
            match edit.filter(|edit| described.is_set_up_like(&edit.of)) {
                Some(edit) => &mut edit.into,
                None => described,
            },
        )
    }
}
