//! What the runs of a measure gave.

use std::collections::BTreeMap;

use crate::arguments::Arguments;

/// Values by contender, name and round.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    values: BTreeMap<(String, String), BTreeMap<usize, f64>>,
    failures: BTreeMap<String, Vec<String>>,
}

impl Samples {
    pub(crate) fn add(&mut self, round: usize, contender: &str, values: &Arguments) {
        for (name, value) in values.numbers() {
            let key = (contender.to_owned(), name.to_owned());
            self.values.entry(key).or_default().insert(round, value);
        }
    }

    pub(crate) fn fail(&mut self, contender: &str, error: String) {
        self.failures
            .entry(contender.to_owned())
            .or_default()
            .push(error);
    }

    /// Failed runs and why, by contender.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.failures
            .iter()
            .map(|(contender, errors)| (contender.as_str(), errors.as_slice()))
    }

    fn of(&self, contender: &str, name: &str) -> Option<&BTreeMap<usize, f64>> {
        self.values.get(&(contender.to_owned(), name.to_owned()))
    }

    pub(crate) fn median(&self, contender: &str, name: &str) -> Option<f64> {
        median(self.of(contender, name)?.values().copied().collect())
    }

    /// The median of the ratios within the rounds that both have.
    pub(crate) fn ratio(&self, contender: &str, to: &str, name: &str) -> Option<f64> {
        let (values, to) = (self.of(contender, name)?, self.of(to, name)?);
        let ratios = values
            .iter()
            .filter_map(|(round, value)| Some(value / to.get(round)?));
        median(ratios.collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some((upper + lower) / 2.0)
}
