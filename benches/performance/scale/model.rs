//! A linear model of cost: least squares of the relative error, no factor below zero.

const FACTORS: usize = 4;

/// Cost of one of each load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) factors: [f64; FACTORS],
}

impl Model {
    /// Through loads and what they cost. A load that would bring something is left out.
    pub(super) fn fit(points: &[([f64; FACTORS], f64)]) -> Self {
        let mut used = [true; FACTORS];
        loop {
            let factors = solve(points, used);
            let least = (0..FACTORS)
                .filter(|&i| used[i] && factors[i] < 0.0)
                .min_by(|&a, &b| factors[a].total_cmp(&factors[b]));
            match least {
                Some(index) => used[index] = false,
                None => return Self { factors },
            }
        }
    }

    pub(super) fn at(&self, loads: [f64; FACTORS]) -> f64 {
        self.factors
            .iter()
            .zip(loads)
            .map(|(factor, load)| factor * load)
            .sum()
    }
}

/// The normal equations, by Gauss and Jordan.
fn solve(points: &[([f64; FACTORS], f64)], used: [bool; FACTORS]) -> [f64; FACTORS] {
    let mut rows = [[0.0; FACTORS + 1]; FACTORS];
    for (loads, cost) in points.iter().filter(|point| point.1 > 0.0) {
        let weight = 1.0 / (cost * cost);
        for (i, row) in rows.iter_mut().enumerate().filter(|(i, _)| used[*i]) {
            for j in (0..FACTORS).filter(|&j| used[j]) {
                row[j] += weight * loads[i] * loads[j];
            }
            row[FACTORS] += weight * loads[i] * cost;
        }
    }
    for (i, row) in rows.iter_mut().enumerate() {
        if !used[i] || row[i] == 0.0 {
            *row = [0.0; FACTORS + 1];
            row[i] = 1.0;
        }
    }
    for pivot in 0..FACTORS {
        let best = (pivot..FACTORS)
            .max_by(|&a, &b| rows[a][pivot].abs().total_cmp(&rows[b][pivot].abs()))
            .unwrap_or(pivot);
        rows.swap(pivot, best);
        let head = rows[pivot][pivot];
        if head.abs() < 1e-12 {
            continue;
        }
        let line = rows[pivot].map(|value| value / head);
        rows[pivot] = line;
        for (index, row) in rows.iter_mut().enumerate() {
            if index != pivot {
                let times = row[pivot];
                row.iter_mut()
                    .zip(line)
                    .for_each(|(value, of_line)| *value -= times * of_line);
            }
        }
    }
    rows.map(|row| row[FACTORS])
}
