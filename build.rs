//! The version that the plugin shows: commit and date of this checkout, or of the release.

fn main() {
    #[cfg(feature = "plugin")]
    gst_plugin_version_helper::info();
}
