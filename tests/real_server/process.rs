//! A server in a process of its own, and the files that it plays.

use std::path::PathBuf;
use std::process::Child;

use gstreamer as gst;

use crate::gst_server::clip;

/// A minute: more than any session plays.
const FRAMES: u64 = 60 * clip::FRAME_RATE as u64;

/// A folder with the byte stream `cam{n}.264` of each camera. Dropped, it is removed.
pub(crate) struct Clips(pub(crate) PathBuf);

impl Clips {
    pub(crate) fn write(server: &str, cameras: usize) -> Self {
        gst::init().unwrap();
        let name = format!("rtspmux-{server}-{cameras}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let clips = clip::clips(cameras, clip::Format::SMALL).unwrap();
        for (camera, clip) in clips.iter().enumerate() {
            let frame = |number| clip.frame(number).map_readable().unwrap().to_vec();
            let frames: Vec<Vec<u8>> = (0..FRAMES).map(frame).collect();
            std::fs::write(folder.join(format!("cam{camera}.264")), frames.concat()).unwrap();
        }
        Self(folder)
    }
}

impl Drop for Clips {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process. Dropped, it is killed.
pub(crate) struct ServerProcess(pub(crate) Child);

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
