//! gst-launch-1.0, gst-inspect-1.0 and other programs, which see the plugin file of this build.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of the test's own, with the plugin and a registry.
pub(crate) struct Tool {
    directory: PathBuf,
    ranks: String,
}

impl Tool {
    pub(crate) fn with_plugin(test: &str) -> Self {
        Self::with_plugin_as(test, "libgstrtspmux.so")
    }

    /// The plugin file under another name, from which GStreamer derives the name of the plugin.
    pub(crate) fn with_plugin_as(test: &str, file: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("gst_launch")
            .join(test);
        let _ = fs::remove_dir_all(&directory);
        let plugins = directory.join("plugins");
        fs::create_dir_all(&plugins).unwrap();
        // Linked, because GStreamer looks at everything there is in a directory of plugins.
        symlink(plugin_file(), plugins.join(file)).unwrap();
        Self {
            directory,
            ranks: String::new(),
        }
    }

    /// Sets other ranks than the elements have.
    pub(crate) fn set_ranks(&mut self, ranks: &str) {
        self.ranks = ranks.to_owned();
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("GST_PLUGIN_PATH", self.directory.join("plugins"))
            .env("GST_REGISTRY", self.directory.join("registry.bin"))
            .env("GST_PLUGIN_FEATURE_RANK", &self.ranks)
            .env("RTSPMUX_STATE", self.file("servers"))
            .env_remove("GST_DEBUG")
            .stdin(Stdio::null());
        command
    }

    /// What gst-inspect-1.0 prints.
    pub(crate) fn inspect(&self, arguments: &[&str]) -> String {
        let output = self
            .command("gst-inspect-1.0")
            .arg("--no-colors")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a program in Python prints; its bindings are those of the system.
    pub(crate) fn python(&self, script: &Path, arguments: &[&str]) -> String {
        let output = self
            .command("/usr/bin/python3")
            .arg(script)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a line as a shell would give it to gst-launch-1.0; there is nothing to quote in it.
    pub(crate) fn launch(&self, line: &str) -> Launched {
        let mut command = self.command("gst-launch-1.0");
        command.arg("--no-position");
        Launched::spawn(command, line)
    }

    /// Runs another program that takes such a line, and has a standard input that can be closed.
    pub(crate) fn run(&self, program: &Path, line: &str) -> Launched {
        let program = program.to_str().unwrap();
        let mut command = self.command(program);
        command.stdin(Stdio::piped());
        Launched::spawn(command, line)
    }
}

/// Where cargo puts it for the tests: beside the test itself.
fn plugin_file() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let file = test.with_file_name("libgstrtspmux.so");
    assert!(
        file.exists(),
        "cargo builds {} with the tests",
        file.display()
    );
    file
}

#[derive(Default)]
struct Printed {
    text: Mutex<(String, bool)>,
    changed: Condvar,
}

/// A gst-launch-1.0 that runs. Dropped before its end, it is killed.
pub(crate) struct Launched {
    child: Child,
    line: String,
    printed: Arc<Printed>,
    readers: Vec<JoinHandle<()>>,
    errors: Arc<Mutex<String>>,
}

impl Launched {
    pub(crate) fn spawn(mut command: Command, line: &str) -> Self {
        let mut child = command
            .args(line.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = Arc::<Printed>::default();
        let errors = Arc::<Mutex<String>>::default();
        let (mut stdout, mut stderr) = (
            BufReader::new(child.stdout.take().unwrap()),
            child.stderr.take().unwrap(),
        );
        let (to_printed, to_errors) = (Arc::clone(&printed), Arc::clone(&errors));
        let readers = vec![
            std::thread::spawn(move || {
                let mut line = String::new();
                while stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
                    to_printed.text.lock().unwrap().0.push_str(&line);
                    to_printed.changed.notify_all();
                    line.clear();
                }
                to_printed.text.lock().unwrap().1 = true;
                to_printed.changed.notify_all();
            }),
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = stderr.read_to_string(&mut text);
                *to_errors.lock().unwrap() = text;
            }),
        ];
        Self {
            child,
            line: line.to_owned(),
            printed,
            readers,
            errors,
        }
    }

    fn wait_until(&self, is_so: impl Fn(&str, bool) -> bool) {
        let printed = self.printed.text.lock().unwrap();
        let (printed, _) = self
            .printed
            .changed
            .wait_timeout_while(printed, PATIENCE, |(text, is_over)| !is_so(text, *is_over))
            .unwrap();
        assert!(is_so(&printed.0, printed.1), "{}: {}", self.line, printed.0);
    }

    /// Waits until it has printed so many lines that contain `text`.
    pub(crate) fn wait_for_lines(&self, text: &str, count: usize) {
        self.wait_until(|printed, _| printed.matches(text).count() >= count);
    }

    /// Ends its standard input.
    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// What Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// Waits for its end. Returns whether it succeeded, and all that it printed.
    pub(crate) fn end(mut self) -> (bool, String) {
        self.wait_until(|_, is_over| is_over);
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let printed = self.printed.text.lock().unwrap().0.clone();
        (status.success(), printed + &self.errors.lock().unwrap())
    }

    /// Waits until it ends with success. Returns what it printed.
    pub(crate) fn finish(self) -> String {
        let line = self.line.clone();
        let (is_good, printed) = self.end();
        assert!(is_good && !printed.contains("ERROR"), "{line}: {printed}");
        printed
    }

    /// Waits until it ends with a failure. Returns what it printed.
    pub(crate) fn fail(self) -> String {
        let line = self.line.clone();
        let (is_good, printed) = self.end();
        assert!(!is_good, "{line}: {printed}");
        printed
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
