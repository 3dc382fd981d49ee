//! The documentation names files that exist.

use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

/// What a path in the documentation may be relative to.
const BASES: [&str; 7] = [
    "",
    "src",
    "src/mux",
    "src/mux/proto",
    "src/mux/session",
    "src/rtspsrc",
    "fixtures",
];

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).into_iter().flatten();
    let docs = docs.filter_map(|entry| Some(entry.ok()?.path()));
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let top = ["README.md", "CONTRIBUTING.md", "fixtures/README.md"].map(|page| root().join(page));
    docs.filter(is_page).chain(top).collect()
}

/// The words between backquotes that are paths of files.
fn paths(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        let is_file = [".rs", ".md", ".py", ".sh"]
            .iter()
            .any(|end| word.ends_with(end));
        let is_fixture = ["core/", "servers/", "sessions/"]
            .iter()
            .any(|folder| word.starts_with(folder));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./{},".contains(c);
        word.contains('/') && (is_file || is_fixture) && word.chars().all(is_plain)
    };
    quoted.filter(is_path).flat_map(expanded).collect()
}

/// `a/{b,c}.rs` stands for two files.
fn expanded(path: &str) -> Vec<String> {
    let braces = path.split_once('{').and_then(|(before, rest)| {
        let (names, after) = rest.split_once('}')?;
        Some((before, names, after))
    });
    match braces {
        Some((before, names, after)) => {
            let expand = |name| format!("{before}{name}{after}");
            names.split(',').map(expand).collect()
        }
        None => vec![path.to_owned()],
    }
}

fn exists(path: &str) -> bool {
    let endings = ["", ".rtsp.txt"];
    let candidates = BASES
        .iter()
        .flat_map(|base| endings.map(|ending| Path::new(base).join(format!("{path}{ending}"))));
    candidates
        .into_iter()
        .any(|file| root().join(file).exists())
}

#[test]
fn the_documentation_names_only_files_that_exist() {
    let mut missing = Vec::new();
    let mut named = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        // Commands in blocks name files of the user.
        let outside = text.split("```").step_by(2).collect::<String>();
        for path in paths(&outside) {
            named += 1;
            if !exists(&path) {
                missing.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named > 100, "only {named} paths found");
}
