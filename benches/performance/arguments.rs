//! `name=value` words, by which the bench tells its roles what to do, and they what they found.

use std::{collections::BTreeMap, str::FromStr};

#[derive(Clone, Debug, Default)]
pub(crate) struct Arguments(BTreeMap<String, String>);

impl Arguments {
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        for word in words {
            let (name, value) = word.split_once('=').ok_or(format!("no value: {word:?}"))?;
            arguments.0.insert(name.to_owned(), value.to_owned());
        }
        Ok(arguments)
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    pub(crate) fn value<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.0.get(name).ok_or(format!("{name} is missing"))?;
        text.parse().map_err(|_| format!("{name}={text}"))
    }

    pub(crate) fn optional<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        match self.0.contains_key(name) {
            true => self.value(name).map(Some),
            false => Ok(None),
        }
    }

    /// `name=value`, each a word.
    pub(crate) fn words(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}"))
    }

    /// All that are numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.parse().ok()?)))
    }

    /// Those whose name begins so, without that.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}
