//! Finds the version that the plugin shows: commit and date of this checkout, or of the release.
//!
//! Makes the directory of the shim: `target/<profile>/shim/libgstrtsp.so`, a symbolic link to the plugin file that
//! cargo is about to write. GStreamer takes the name of a plugin from the name of its file, so that one file is
//! two plugins: see `src/rtspsrc/shim`.

use std::{env, fs, io, path::Path};

fn main() {
    #[cfg(feature = "plugin")]
    gst_plugin_version_helper::info();
    let is_wanted = env::var_os("CARGO_FEATURE_PLUGIN").is_some();
    let target = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if !is_wanted || target != "linux" {
        return;
    }
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    // target/<profile>/build/<package>-<hash>/out
    let Some(profile) = Path::new(&out).ancestors().nth(3) else {
        return;
    };
    if let Err(error) = link(&profile.join("shim")) {
        println!("cargo::warning=no directory of the shim: {error}");
    }
}

#[cfg(unix)]
fn link(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let link = directory.join("libgstrtsp.so");
    // It may be there from an earlier build, and may point to what is not there yet.
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink("../libgstrtspmux.so", link)
}

#[cfg(not(unix))]
fn link(_: &Path) -> io::Result<()> {
    Ok(())
}
