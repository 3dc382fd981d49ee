//! The shim: programs that know only `rtspsrc`, unchanged, with the plugin file under the name `libgstrtsp.so`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/gst_server.rs"]
mod gst_server;
#[path = "shim/interface.rs"]
mod interface;
#[path = "shim/messages.rs"]
mod messages;
#[path = "shim/programs.rs"]
mod programs;
#[path = "shim/restarts.rs"]
mod restarts;
mod support;
#[path = "gst_launch/tool.rs"]
#[allow(dead_code, reason = "tests/gst_launch.rs uses the rest")]
mod tool;

use std::path::Path;

use tool::{Launched, Tool};

/// The plugin file as `libgstrtsp.so`.
fn shim(test: &str) -> Tool {
    Tool::with_plugin_as(&format!("shim_{test}"), "libgstrtsp.so")
}

/// Runs a script of this folder. `None` where Python or its bindings are missing.
fn script(tool: &Tool, name: &str, arguments: &str) -> Option<Launched> {
    script_with(tool, "", name, arguments)
}

/// The same, with variables for its environment.
fn script_with(tool: &Tool, variables: &str, name: &str, arguments: &str) -> Option<Launched> {
    let python = Path::new("/usr/bin/python3");
    let probe = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst";
    let probed = std::process::Command::new(python)
        .args(["-c", probe])
        .output();
    if !probed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3-gi or gir1.2-gstreamer-1.0 is not installed");
        return None;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim");
    let line = format!(
        "{variables} {} {folder}/{name} {arguments}",
        python.display()
    );
    Some(tool.run(Path::new("/usr/bin/env"), &line))
}
