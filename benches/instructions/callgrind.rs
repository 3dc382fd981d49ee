//! Runs this program under callgrind and reads what it wrote.

use std::{
    error::Error,
    path::Path,
    process::{Command, Stdio},
};

pub(crate) fn is_installed() -> bool {
    let version = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Instructions that the program itself executes with these arguments.
pub(crate) fn count(arguments: &[&str]) -> Result<u64, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let out = program.with_extension(format!("{}.callgrind", std::process::id()));
    let run = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--compress-strings=no",
            "--compress-pos=no",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&program)
        .args(arguments)
        .output()?;
    let profile = std::fs::read_to_string(&out);
    // Nothing to be done about a file that stays.
    let _ = std::fs::remove_file(&out);
    if !run.status.success() {
        return Err(String::from_utf8_lossy(&run.stderr).into());
    }
    Ok(own_instructions(&profile?, &program))
}

/// Adds up the lines of a profile that are in `program`. They are `line cost`, below an `ob=` that
/// names the object; the one after a `calls=` is what the callee cost and is in there already.
fn own_instructions(profile: &str, program: &Path) -> u64 {
    let (mut sum, mut is_own, mut is_call) = (0, false, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_own = Path::new(object) == program;
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost = line
                .split(' ')
                .nth(1)
                .and_then(|cost| cost.parse::<u64>().ok());
            if is_own && !is_call {
                sum += cost.unwrap_or(0);
            }
            is_call = false;
        }
    }
    sum
}
