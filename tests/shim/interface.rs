//! What programs see of the shim before it plays: the factory, its properties, which plugin is active.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use gstreamer as gst;

use super::{script_with, shim};
use crate::gst_server::GstServer;

/// `gst-inspect-1.0 rtspsrc` without the shim, with a registry of its own.
fn real(registry: &Path) -> Command {
    let mut command = Command::new("gst-inspect-1.0");
    command
        .env_remove("GST_PLUGIN_PATH")
        .env("GST_REGISTRY", registry)
        .args(["--no-colors", "rtspsrc"]);
    command
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines below each property, without its blurb.
fn properties(inspected: &str) -> BTreeMap<String, Vec<String>> {
    let (_, list) = inspected.split_once("Element Properties:").unwrap();
    let list = list.split("Element Signals:").next().unwrap();
    let mut properties = BTreeMap::new();
    let mut name = String::new();
    for line in list.lines() {
        if line.starts_with("  ") && !line.starts_with("   ") {
            name = line.split(':').next().unwrap().trim().to_owned();
            properties.insert(name.clone(), Vec::new());
        } else if let Some(lines) = properties.get_mut(&name) {
            // When it may be changed, `rtspsrc` does not say.
            let line = line.trim().split(", changeable").next().unwrap();
            lines.push(line.to_owned());
        }
    }
    properties
}

fn value<'a>(inspected: &'a str, name: &str) -> &'a str {
    let of = |line: &'a str| line.trim().strip_prefix(name).map(str::trim);
    inspected.lines().find_map(of).unwrap_or_default()
}

#[test]
fn the_factory_is_that_of_rtspsrc() {
    let tool = shim("factory");
    let ours = tool.inspect(&["rtspsrc"]);
    let theirs = text(real(&tool.file("real.bin")).output().unwrap());
    assert_eq!(value(&ours, "Rank"), "primary (256)");
    for name in ["Klass", "Name", "Version", "SRC template:"] {
        assert_eq!(value(&ours, name), value(&theirs, name), "{name}");
    }
    let uris = |text: &str| -> String {
        let (_, list) = text.split_once("Supported URI protocols:").unwrap();
        list.split("Pads:").next().unwrap().to_owned()
    };
    assert_eq!(uris(&ours), uris(&theirs));
    assert!(ours.contains("+----GstRTSPSrc"), "{ours}");
    assert!(ours.contains(&tool.file("plugins").display().to_string()));

    let (ours, theirs) = (properties(&ours), properties(&theirs));
    let same: Vec<&String> = theirs
        .keys()
        .filter(|name| ours.contains_key(*name))
        .collect();
    assert!(same.len() > 40, "{same:?}");
    for name in same {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    assert!(
        ours["connect-failure"]
            .iter()
            .any(|line| line.ends_with("\"error\""))
    );
}

/// With and without the shim, in turn with one registry, and side by side with two.
#[test]
fn registries_with_and_without_the_shim_find_each_its_own() {
    let tool = shim("registries");
    let shared = tool.file("registry.bin");
    let alone = tool.file("alone.bin");
    let ours = |text: &str| value(text, "Filename").contains("shim_registries");
    let inspect = || {
        let mut command = tool.command("gst-inspect-1.0");
        command.args(["--no-colors", "rtspsrc"]);
        command
    };
    for turn in 0..10 {
        assert!(ours(&text(inspect().output().unwrap())), "turn {turn}");
        // The registry that the shim was in is used without it, and the other way round.
        let file = if turn % 5 == 0 { &shared } else { &alone };
        assert!(!ours(&text(real(file).output().unwrap())), "turn {turn}");
    }
    let pairs: Vec<_> = (0..10)
        .map(|_| {
            let piped = |mut command: Command| {
                let command = command.stdout(std::process::Stdio::piped());
                command.stderr(std::process::Stdio::null()).spawn().unwrap()
            };
            (piped(inspect()), piped(real(&alone)))
        })
        .collect();
    for (with, without) in pairs {
        assert!(ours(&text(with.wait_with_output().unwrap())));
        assert!(!ours(&text(without.wait_with_output().unwrap())));
    }
}

/// The real plugin cannot be hidden where it is loaded already.
#[test]
fn beside_the_real_rtspsrc_the_shim_is_not_registered_and_says_so() {
    let tool = shim("beside");
    let plugin: PathBuf = tool.file("plugins").join("libgstrtsp.so");
    let mut command = tool.command("/usr/bin/python3");
    // The path of the shim is given by hand: GStreamer must find its own plugin.
    command.env_remove("GST_PLUGIN_PATH").env("GST_DEBUG", "1");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim");
    let output = command
        .arg(format!("{folder}/beside.py"))
        .arg(plugin)
        .output()
        .unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("No module named") {
        return eprintln!("skipped: python3-gi is not installed");
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "registered: 0\n");
    assert!(
        errors.contains("another plugin with rtspsrc is loaded"),
        "{errors}"
    );
}

#[test]
fn getters_return_what_was_set_and_dumps_leave_it_out() {
    let server = GstServer::builder().start().unwrap();
    let tool = shim("getters");
    let url = server.url(0).replace("rtsp://", "rtsp://viewer:hunter2@");
    let variables = "RTSPMUX_PROPERTIES=multiplex=never,latency=70";
    let Some(script) = script_with(&tool, variables, "facts.py", &url) else {
        return;
    };
    let printed = script.finish();
    let (major, minor, micro, _) = gst::version();
    for fact in [
        "type: GstRTSPSrc".to_owned(),
        format!("version: {major}.{minor}.{micro} True"),
        format!("location: {url}"),
        format!("uri: {url}"),
        "user-pw: hunter2".to_owned(),
        "protocols: 7".to_owned(),
        // Of the variable; and set by the program, which goes before it.
        "multiplex: never".to_owned(),
        "latency: 0".to_owned(),
        "buffer-mode: GstRTSPSrcBufferMode slave".to_owned(),
        "dump: False".to_owned(),
    ] {
        assert!(
            printed.lines().any(|line| line == fact),
            "{fact}: {printed}"
        );
    }
    // The pad has the name that rtpbin gives, and all pads come before `no-more-pads`.
    let ssrc = crate::gst_server::ssrc(0, 0);
    let pads = format!("pads: recv_rtp_src_0_{ssrc}_96 no-more-pads");
    assert!(printed.contains(&pads), "{pads}: {printed}");
}

#[test]
fn what_is_not_played_and_what_does_not_exist_is_told() {
    let tool = shim("variable");
    let mut command = tool.command("gst-launch-1.0");
    command
        .env(
            "RTSPMUX_PROPERTIES",
            "latency=70,multiplex=never,manager=rtpbin,nothing=1",
        )
        .env("GST_DEBUG", "rtspmuxsrc:1")
        .args([
            "-v",
            "--no-position",
            "rtspsrc",
            "location=rtspu://127.0.0.1/x",
            "latency=80",
        ]);
    let output = command.args(["!", "fakesink"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("RTSPMUX_PROPERTIES: nothing: no such property"),
        "{errors}"
    );
    // What it cannot play says how to go back.
    assert!(!output.status.success());
    assert!(
        errors.contains("without the directory of the shim in GST_PLUGIN_PATH"),
        "{errors}"
    );
}
