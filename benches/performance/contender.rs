//! Who is measured.

use std::path::{Path, PathBuf};

use gst::prelude::*;
use gstreamer as gst;

use crate::arguments::Arguments;

pub(crate) const RTSPSRC: &str = "rtspsrc";
pub(crate) const OURS: &str = "rtspmuxsrc";
const FFMPEG: &str = "ffmpeg";

/// One client, with the properties it is given.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// In tables.
    pub(crate) name: String,
    role: &'static str,
    arguments: Arguments,
    /// None: this program.
    program: Option<PathBuf>,
}

impl Contender {
    /// An element with properties, over those that all have.
    pub(crate) fn element(name: &str, element: &str, properties: &[(&str, &str)]) -> Self {
        let mut arguments = Arguments::default()
            .with("element", element)
            .with("set.latency", 0)
            .with("set.protocols", "tcp");
        for (property, value) in properties {
            arguments = arguments.with(&format!("set.{property}"), value);
        }
        Self {
            name: name.to_owned(),
            role: "role:elements",
            arguments,
            program: None,
        }
    }

    /// The same element, from another build of this program.
    pub(crate) fn built_as(self, name: &str, program: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: Some(program.to_owned()),
            ..self
        }
    }

    /// A client of our own without GStreamer.
    pub(crate) fn bare(name: &str, role: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            role,
            arguments: Arguments::default(),
            program: None,
        }
    }

    /// Where it was built; see `benches/retina`.
    pub(crate) fn retina() -> Option<Self> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/retina/release");
        let program = PathBuf::from(folder).join("bench-retina");
        program.exists().then(|| Self {
            program: Some(program),
            ..Self::bare("retina, 64 connections", "role:retina")
        })
    }

    /// `rtspsrc` first, which all are compared with; then ours in every way it can be, and what
    /// else is installed.
    pub(crate) fn elements() -> Vec<Self> {
        let mut all = vec![Self::element(RTSPSRC, RTSPSRC, &[])];
        all.extend(Self::ours());
        if gst::ElementFactory::find("rtspsrc2").is_some() {
            all.push(Self::element("rtspsrc2", "rtspsrc2", &[]));
        }
        all
    }

    /// As it is, and with each manager it can be told to use.
    pub(crate) fn ours() -> Vec<Self> {
        let mut ours = vec![Self::element(OURS, OURS, &[])];
        for manager in ["rtpbin", "light"] {
            if has_manager(manager) {
                let name = format!("{OURS} manager={manager}");
                ours.push(Self::element(&name, OURS, &[("manager", manager)]));
            }
        }
        ours
    }

    pub(crate) fn ffmpeg() -> Option<Self> {
        let is_installed = std::process::Command::new(FFMPEG)
            .arg("-version")
            .output()
            .is_ok_and(|output| output.status.success());
        is_installed.then(|| Self::bare(FFMPEG, "role:ffmpeg"))
    }

    pub(crate) fn role(&self) -> &'static str {
        self.role
    }

    pub(crate) fn program(&self) -> std::io::Result<PathBuf> {
        self.program.clone().map_or_else(std::env::current_exe, Ok)
    }

    pub(crate) fn arguments(&self) -> Arguments {
        self.arguments.clone()
    }
}

/// Asked of the element itself, which may be older than this program.
fn has_manager(nick: &str) -> bool {
    let Ok(element) = gst::ElementFactory::make(OURS).build() else {
        return false;
    };
    let class = element
        .find_property("manager")
        .and_then(|property| gst::glib::EnumClass::with_type(property.value_type()));
    class.is_some_and(|class| class.value_by_nick(nick).is_some())
}
