//! `docs/performance.md`: what is between two marks there is written by the bench, the rest by hand.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use crate::Outcome;

/// A part of the document, with its plots.
pub(crate) struct Section {
    name: &'static str,
    text: String,
    plots: Vec<(&'static str, String)>,
}

impl Section {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            text: String::new(),
            plots: Vec::new(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.text, "{text}\n");
    }

    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let _ = writeln!(
            self.text,
            "| {} |\n|{}",
            head.join(" | "),
            "---|".repeat(head.len())
        );
        for row in rows {
            let _ = writeln!(self.text, "| {} |", row.join(" | "));
        }
        self.text.push('\n');
    }

    /// An SVG file beside the document.
    pub(crate) fn plot(&mut self, file: &'static str, title: &str, svg: String) {
        let _ = writeln!(self.text, "![{title}](performance/{file})\n");
        self.plots.push((file, svg));
    }

    /// Puts it in the place of the one that is there.
    pub(crate) fn write(&self) -> Outcome {
        let document = folder().join("performance.md");
        let old = std::fs::read_to_string(&document)
            .map_err(|error| format!("{}: {error}", document.display()))?;
        let (begin, end) = (
            format!("<!-- {}: written by ./bench -->", self.name),
            format!("<!-- end of {} -->", self.name),
        );
        let missing = || format!("{}: no {begin}", document.display());
        let (before, rest) = old.split_once(&begin).ok_or_else(missing)?;
        let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
        let text = self.text.trim_end();
        std::fs::create_dir_all(folder().join("performance"))?;
        for (file, svg) in &self.plots {
            std::fs::write(folder().join("performance").join(file), svg)?;
        }
        std::fs::write(&document, format!("{before}{begin}\n{text}\n{end}{after}"))?;
        Ok(())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// Three significant digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}
