//! A real server in Python, aio-rtsp-toolkit, where `scripts/setup.sh` could install it: one session and one
//! id for each connection, the second session silences the first, and every request is answered with 200.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gstrtspmux::mux::probe::{ProbePatience, probe};
use gstrtspmux::mux::{SessionOptions, SharingVerdict};

use crate::PATIENCE;
use crate::gst_server::clip;
use crate::process::{Clips, ServerProcess};
use crate::viewer::mux;

/// Where setup.sh installs it.
const FOLDER: &str = "target/python-servers/bin";
/// From a byte stream of H.264 to the files that the server plays.
const TO_MP4: &str = "
import av, fractions, sys
source = av.open(sys.argv[1], format='h264')
target = av.open(sys.argv[2], 'w')
stream = target.add_stream_from_template(source.streams.video[0])
tick, length = fractions.Fraction(1, 90000), 90000 // int(sys.argv[3])
packets = (packet for packet in source.demux(video=0) if packet.size)
for number, packet in enumerate(packets):
    packet.stream, packet.time_base, packet.duration = stream, tick, length
    packet.pts = packet.dts = number * length
    target.mux(packet)
target.close()
";

/// The server and its files. Dropped, it is killed and they are removed.
struct Toolkit {
    _process: ServerProcess,
    _clips: Clips,
    port: u16,
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(FOLDER)
        .join(name)
}

/// Two free ports, of which the second is its control port.
fn free_ports() -> [u16; 2] {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (one, other) = (listen(), listen());
    [one, other].map(|listener| listener.local_addr().unwrap().port())
}

impl Toolkit {
    /// None where it is not installed.
    fn start(cameras: usize) -> Option<Self> {
        let server = program("rtsp-server");
        if !server.is_file() {
            println!(
                "skipped: aio-rtsp-toolkit is not installed (scripts/setup.sh, want_python_server)"
            );
            return None;
        }
        let clips = Clips::write("python", cameras);
        (0..cameras).for_each(|camera| pack(&clips.0, camera));
        let [port, control] = free_ports();
        let process = Command::new(server)
            .args(["-H", "127.0.0.1", "-d"])
            .arg(&clips.0)
            .args(["-p", &port.to_string(), "-cp", &control.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let toolkit = Self {
            _process: ServerProcess(process),
            _clips: clips,
            port,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline, "it does not listen");
            std::thread::yield_now();
        }
        Some(toolkit)
    }

    fn cameras(&self, count: usize) -> Vec<SessionOptions> {
        let url = |camera| format!("rtsp://127.0.0.1:{}/cam{camera}.mp4", self.port);
        let options = |camera| SessionOptions::new(&url(camera)).unwrap();
        (0..count).map(options).collect()
    }
}

/// Makes the file that the server plays of a camera's byte stream.
fn pack(folder: &Path, camera: usize) {
    let stream = folder.join(format!("cam{camera}.264"));
    let made = Command::new(program("python3"))
        .args(["-c", TO_MP4])
        .arg(&stream)
        .arg(stream.with_extension("mp4"))
        .arg(clip::FRAME_RATE.to_string())
        .status()
        .unwrap();
    assert!(made.success(), "{made}");
    std::fs::remove_file(&stream).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_camera_of_aio_rtsp_toolkit_plays_on_a_connection_of_its_own() {
    let Some(toolkit) = Toolkit::start(4) else {
        return;
    };
    let patience = ProbePatience {
        start: PATIENCE / 2,
        play: Duration::from_secs(1),
    };
    for count in [1, 2, 4] {
        let mux = mux();
        let report = probe(&mux, toolkit.cameras(count), patience).await.unwrap();
        assert!(report.all_play(), "{report}");
        let server = &report.servers[0];
        assert_eq!(server.sharing, SharingVerdict::No, "{report}");
        assert_eq!(server.connections.len(), count.max(2), "{report}");
        mux.shutdown(PATIENCE).await;
    }
}
