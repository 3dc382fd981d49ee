//! What clippy cannot see: the protocol core and the policies are pure, the clock and the scheduler have
//! one home, and modules depend on each other in one direction only.

#[path = "purity/arrows.rs"]
mod arrows;
#[path = "purity/docs.rs"]
mod docs;

use std::fs;
use std::path::{Path, PathBuf};

/// What a pure core knows nothing of. A word counts where no letter, digit or underscore touches it.
const IMPURE: &[&str] = &[
    "tokio",
    "gst",
    "gstreamer",
    "tracing",
    "log",
    "Instant::now",
    "SystemTime",
    "elapsed",
    "Waker",
    "Mutex",
    "RwLock",
    "thread",
    "async",
    "std::net",
    "std::io",
    "std::env",
    "std::fs",
    "println",
    "eprintln",
    "dbg",
];

/// Time and tasks.
const DRIVEN: &[&str] = &["Instant::now", "sleep", "spawn", "select!"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The file's lines that are compiled without its tests, numbered, comments and strings taken out.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_test_file = name == "tests.rs" || name.ends_with("_tests.rs");
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]" && !is_test_file)
        .enumerate()
        .map(|(index, line)| (index + 1, without_comments_and_strings(line)))
        .collect()
}

fn without_comments_and_strings(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => drop(chars.next()),
            // A quote in a character literal begins no string.
            '\'' if !in_string && chars.peek() == Some(&'"') => drop(chars.next()),
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            c if !in_string => code.push(c),
            _ => {}
        }
    }
    code
}

fn mentions(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn offences(paths: &[PathBuf], words: &[&str]) -> Vec<String> {
    let mut offences = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root()).unwrap_or(path).display();
        for (line, code) in code(path) {
            let found = words.iter().filter(|word| mentions(&code, word));
            offences.extend(found.map(|word| format!("{name}:{line}: {word}")));
        }
    }
    offences
}

#[test]
fn the_protocol_core_is_pure() {
    let paths = sources(&root().join("src/mux/proto"));
    assert!(paths.len() > 10, "{paths:?}");
    assert_eq!(offences(&paths, IMPURE), Vec::<String>::new());
}

#[test]
fn the_policies_are_pure() {
    let paths = sources(&root().join("src/mux/policy"));
    assert!(paths.len() > 4, "{paths:?}");
    assert_eq!(offences(&paths, IMPURE), Vec::<String>::new());
}

#[test]
fn only_the_driver_and_clock_rs_know_the_clock_and_the_scheduler() {
    let is_driver = |path: &PathBuf| {
        let path = path.strip_prefix(root()).unwrap_or(path);
        path == Path::new("src/mux/clock.rs") || path.starts_with("src/mux/driver")
    };
    let mut paths = sources(&root().join("src/mux"));
    paths.retain(|path| !is_driver(path));
    assert_eq!(offences(&paths, DRIVEN), Vec::<String>::new());
}

/// Cargo.toml allows these methods, for tests, examples and benches. Without this line in lib.rs clippy
/// let any file of the library read a clock.
#[test]
fn clippy_denies_clocks_in_the_library() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap_or_default();
    assert!(text.contains("#![cfg_attr(not(test), deny(clippy::disallowed_methods))]"));
}

#[test]
fn words_are_found_as_words_and_not_in_comments_or_strings() {
    let is_offence = |line: &str| mentions(&without_comments_and_strings(line), "log");
    assert!(is_offence("use log::info;"));
    assert!(is_offence(r#"let x = "a string"; log(x);"#));
    assert!(is_offence(r#"let x = '"'; log(x);"#));
    assert!(!is_offence("let catalog = logic;"));
    assert!(!is_offence("/// A log."));
    assert!(!is_offence(r#"let x = "a \" log";"#));
}
