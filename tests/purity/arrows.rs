//! Which module may use which. A module is a folder or file directly below `src/mux` or `src/rtspsrc`.
//!
//! The imports of all files are read, tests left out, and held against the table. The table itself has
//! no circle, so the modules have none. Neither have the files inside the modules of `mux`: a file may use
//! what the mod.rs above it defines, and apart from that no file uses, however indirectly, one that uses
//! it. Nor have the policies, each a file or a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{code, root, sources};

/// A module, and what it may use. `mux` and `rtspsrc` alone are their mod.rs.
const MAY_USE: &[(&str, &[&str])] = &[
    // The ground floor of the multiplexer.
    ("mux::proto", &[]),
    ("mux::ids", &[]),
    ("mux::network", &[]),
    ("mux::release", &[]),
    ("mux::tls", &[]),
    // What users set and see.
    ("mux::error", &["mux::ids", "mux::proto"]),
    ("mux::clock", &["mux::error", "mux::ids"]),
    ("mux::event", &["mux::ids"]),
    ("mux::stats", &["mux::event", "mux::ids", "mux::proto"]),
    ("mux::server_key", &["mux::proto", "mux::tls"]),
    (
        "mux::config",
        &[
            "mux::error",
            "mux::ids",
            "mux::proto",
            "mux::server_key",
            "mux::tls",
        ],
    ),
    // One connection, and what is decided about it.
    (
        "mux::delivery",
        &["mux::config", "mux::error", "mux::proto", "mux::stats"],
    ),
    (
        "mux::driver",
        &[
            "mux::clock",
            "mux::delivery",
            "mux::error",
            "mux::event",
            "mux::ids",
            "mux::network",
            "mux::proto",
            "mux::release",
            "mux::server_key",
            "mux::stats",
            "mux::tls",
        ],
    ),
    (
        "mux::policy",
        &[
            "mux::config",
            "mux::error",
            "mux::event",
            "mux::ids",
            "mux::proto",
            "mux::server_key",
            "mux::stats",
        ],
    ),
    (
        "mux::connection_pool",
        &[
            "mux::clock",
            "mux::config",
            "mux::driver",
            "mux::error",
            "mux::event",
            "mux::ids",
            "mux::network",
            "mux::policy",
            "mux::proto",
            "mux::release",
            "mux::server_key",
            "mux::stats",
            "mux::tls",
        ],
    ),
    (
        "mux::session",
        &[
            "mux::clock",
            "mux::config",
            "mux::connection_pool",
            "mux::delivery",
            "mux::driver",
            "mux::error",
            "mux::ids",
            "mux::policy",
            "mux::proto",
            "mux::release",
            "mux::server_key",
            "mux::stats",
        ],
    ),
    (
        "mux",
        &[
            "mux::clock",
            "mux::config",
            "mux::connection_pool",
            "mux::delivery",
            "mux::error",
            "mux::event",
            "mux::ids",
            "mux::network",
            "mux::policy",
            "mux::proto",
            "mux::release",
            "mux::session",
            "mux::stats",
            "mux::tls",
        ],
    ),
    // What a user finds out with it.
    ("mux::probe", &["mux", "mux::clock", "mux::proto"]),
    // The element. Its mod.rs has the log category and the type, which all its modules use.
    ("rtspsrc::threads", &["mux", "rtspsrc"]),
    ("rtspsrc::handlers", &["rtspsrc"]),
    ("rtspsrc::messages", &["mux", "rtspsrc", "rtspsrc::threads"]),
    (
        "rtspsrc::media",
        &[
            "mux",
            "mux::proto",
            "rtspsrc",
            "rtspsrc::handlers",
            "rtspsrc::threads",
        ],
    ),
    (
        "rtspsrc::manager",
        &[
            "mux",
            "mux::proto",
            "rtspsrc",
            "rtspsrc::media",
            "rtspsrc::threads",
        ],
    ),
    (
        "rtspsrc::session",
        &[
            "mux",
            "mux::proto",
            "rtspsrc",
            "rtspsrc::handlers",
            "rtspsrc::manager",
            "rtspsrc::media",
            "rtspsrc::messages",
            "rtspsrc::threads",
        ],
    ),
    (
        "rtspsrc::element",
        &[
            "mux",
            "mux::proto",
            "rtspsrc",
            "rtspsrc::handlers",
            "rtspsrc::manager",
            "rtspsrc::messages",
            "rtspsrc::session",
            "rtspsrc::threads",
        ],
    ),
    ("rtspsrc::shim", &["rtspsrc", "rtspsrc::element"]),
    ("rtspsrc", &["mux", "rtspsrc::element", "rtspsrc::manager"]),
];

/// The path of the module that a file is, from the crate on: `mux::driver::tls`.
fn module_of(path: &Path) -> Vec<String> {
    let path = path.strip_prefix(root().join("src")).unwrap_or(path);
    let mut parts: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        parts.pop();
    }
    parts
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn flatten(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split_once(" as ").map_or(tree, |(path, _)| path);
        return vec![path.trim().to_owned()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let mut depth = 0;
    let parts = inner.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    let parts = parts.filter(|part| !part.trim().is_empty());
    parts
        .flat_map(flatten)
        .map(|part| format!("{}{part}", head.trim()))
        .collect()
}

/// All paths of the crate that a file names: in `use` statements, and behind `crate::` elsewhere.
fn paths_in(path: &Path) -> Vec<Vec<String>> {
    let text: String = code(path)
        .into_iter()
        .map(|(_, line)| line + "\n")
        .collect();
    let own = module_of(path);
    let mut found = Vec::new();
    for (at, _) in text.match_indices("use ") {
        let is_statement = text[..at].ends_with('\n')
            || text[..at].ends_with(") ")
            || text[..at].ends_with("pub ");
        if let (true, Some((tree, _))) = (is_statement, text[at + 4..].split_once(';')) {
            found.extend(flatten(&tree.replace('\n', " ")));
        }
    }
    for (at, _) in text.match_indices("crate::") {
        let end = text[at..].find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        let path = text[at..].split_at(end.unwrap_or(text.len() - at)).0;
        // Those of a tree are among the statements.
        if !path.ends_with("::") {
            found.push(path.to_owned());
        }
    }
    let resolved = found.iter().filter_map(|path| {
        let mut base = own.clone();
        let mut segments = path.split("::").map(str::trim).peekable();
        match segments.next()? {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
                while segments.next_if_eq(&"super").is_some() {
                    base.pop();
                }
            }
            _ => return None,
        }
        base.extend(segments.map(str::to_owned));
        Some(base)
    });
    resolved.collect()
}

/// The module of a path: a folder or file below `mux` or `rtspsrc`, or one of these.
fn room(path: &[String], modules: &BTreeSet<String>) -> Option<String> {
    let first = path
        .first()
        .filter(|first| *first == "mux" || *first == "rtspsrc")?;
    let below = path.get(1).map(|second| format!("{first}::{second}"));
    Some(
        below
            .filter(|below| modules.contains(below))
            .unwrap_or_else(|| first.clone()),
    )
}

fn arrows() -> BTreeMap<(String, String), String> {
    let mut files = sources(&root().join("src/mux"));
    files.extend(sources(&root().join("src/rtspsrc")));
    let modules: BTreeSet<String> = files
        .iter()
        .map(|file| module_of(file))
        .filter(|module| module.len() >= 2)
        .map(|module| module[..2].join("::"))
        .collect();
    let mut arrows = BTreeMap::new();
    for file in &files {
        let Some(from) = room(&module_of(file), &modules) else {
            continue;
        };
        for path in paths_in(file) {
            let to = room(&path, &modules).filter(|to| *to != from);
            if let Some(to) = to {
                let name = file
                    .strip_prefix(root())
                    .unwrap_or(file)
                    .display()
                    .to_string();
                arrows.insert((from.clone(), to), name);
            }
        }
    }
    arrows
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let found = arrows();
    assert!(found.len() > 60, "{found:?}");
    let may = |from: &str, to: &str| table.get(from).is_some_and(|allowed| allowed.contains(&to));
    let bad: Vec<String> = found
        .iter()
        .filter(|((from, to), _)| !may(from, to))
        .map(|((from, to), file)| format!("{from} -> {to} ({file})"))
        .collect();
    assert_eq!(bad, Vec::<String>::new());
}

/// Apart from `rtspsrc` itself, whose mod.rs all its modules use, each module uses only what stands before
/// it in the table.
#[test]
fn the_table_has_no_circle() {
    let place = |name: &str| MAY_USE.iter().position(|(module, _)| *module == name);
    for (module, allowed) in MAY_USE {
        for used in allowed.iter().filter(|used| **used != "rtspsrc") {
            assert!(
                place(used).unwrap() < place(module).unwrap(),
                "{module} -> {used}"
            );
        }
    }
}

/// The file in which the thing behind a path is defined: a mod.rs may only pass it on.
fn home<'a>(
    path: &'a [String],
    files: &'a BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
) -> Option<&'a [String]> {
    let length = (1..=path.len())
        .rev()
        .find(|length| files.contains_key(&path[..*length]))?;
    let (module, rest) = path.split_at(length);
    let passed_on = rest.first().and_then(|name| files[module].get(name));
    match passed_on.filter(|target| target.as_slice() != path) {
        Some(target) => home(target, files),
        None => Some(module),
    }
}

#[test]
fn no_file_of_mux_and_no_policy_is_part_of_a_circle() {
    let sources = sources(&root().join("src/mux"));
    let imports: BTreeMap<Vec<String>, Vec<Vec<String>>> = sources
        .iter()
        .filter(|path| !path.to_string_lossy().ends_with("tests.rs"))
        .map(|path| (module_of(path), paths_in(path)))
        .collect();
    let by_name = |paths: &Vec<Vec<String>>| {
        let named = paths.iter().cloned();
        named
            .filter_map(|path| Some((path.last()?.clone(), path)))
            .collect()
    };
    let files = imports
        .iter()
        .map(|(module, paths)| (module.clone(), by_name(paths)))
        .collect();
    let mut uses: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for (module, paths) in &imports {
        let used = paths.iter().filter_map(|path| home(path, &files));
        let used = used.filter(|used| !module.starts_with(used));
        uses.insert(module, used.collect());
    }
    assert!(
        uses.values().map(BTreeSet::len).sum::<usize>() > 150,
        "{uses:?}"
    );
    let file = |module: &[String]| module.join("::");
    assert_eq!(circles(&uses, file), Vec::<String>::new());
    // The folders and files of the policies: what decides by another decision does not decide for it.
    let policy = |module: &[String]| {
        module
            .iter()
            .take(3)
            .cloned()
            .collect::<Vec<_>>()
            .join("::")
    };
    uses.retain(|module, _| module.starts_with(&["mux".to_owned(), "policy".to_owned()]));
    assert!(uses.len() > 20, "{uses:?}");
    assert_eq!(circles(&uses, policy), Vec::<String>::new());
}

/// The nodes, as `name` gives them, that use one another, however indirectly.
fn circles(
    uses: &BTreeMap<&[String], BTreeSet<&[String]>>,
    name: impl Fn(&[String]) -> String,
) -> Vec<String> {
    let mut left: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, used) in uses {
        let module = name(module);
        let used = used.iter().map(|used| name(used));
        let others = used.filter(|used| *used != module).collect::<Vec<_>>();
        left.entry(module).or_default().extend(others);
    }
    let nodes: BTreeSet<String> = left.keys().cloned().collect();
    left.values_mut()
        .for_each(|used| used.retain(|used| nodes.contains(used)));
    // One that uses none of those that are left, or is used by none of them, is part of no circle.
    let is_done = |node: &String, left: &BTreeMap<String, BTreeSet<String>>| {
        left[node].is_empty() || !left.values().any(|used| used.contains(node))
    };
    while let Some(done) = left.keys().find(|node| is_done(node, &left)).cloned() {
        left.remove(&done);
        left.values_mut().for_each(|used| _ = used.remove(&done));
    }
    left.into_keys().collect()
}

#[test]
fn imports_are_found_however_they_are_written() {
    assert_eq!(flatten("a::{b, c::{d, e}}"), ["a::b", "a::c::d", "a::c::e"]);
    let driver = root().join("src/mux/driver/mod.rs");
    let found = paths_in(&driver);
    let expected: Vec<String> = ["mux", "clock"].map(str::to_owned).into();
    assert!(found.contains(&expected), "{found:?}");
    assert!(fs::exists(driver).unwrap());
}
