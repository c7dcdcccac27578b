//! Repeated measurements, and what is said of them.

use std::fmt;

/// What was measured, one value a round.
#[derive(Debug, Clone, Default)]
pub struct Sample(pub Vec<f64>);

impl Sample {
    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = part * (sorted.len().max(1) - 1) as f64;
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        at(below) + (at(above) - at(below)) * (place - place.floor())
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The middle half of the rounds: lower and upper quartile.
    pub fn spread(&self) -> (f64, f64) {
        (self.quantile(0.25), self.quantile(0.75))
    }

    /// This over the baseline, round by round: what slows a whole round down
    /// is in both.
    pub fn over(&self, baseline: &Self) -> Self {
        Self(self.0.iter().zip(&baseline.0).map(|(own, other)| own / other).collect())
    }

    /// The median with its spread, in words.
    pub fn text(&self, say: impl Fn(f64) -> String) -> String {
        let (low, high) = self.spread();
        if self.0.len() < 2 {
            say(self.median())
        } else {
            format!("{} ({}–{})", say(self.median()), say(low), say(high))
        }
    }
}

impl fmt::Display for Sample {
    /// As a ratio.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median() >= 10.0 { 1 } else { 2 };
        f.write_str(&self.text(|value| format!("{value:.digits$}")))
    }
}

/// Measures several things in turn, `rounds` times; each round begins with
/// another one, so that none is always the first.
pub fn in_turn<T>(
    rounds: usize,
    contestants: &mut [T],
    mut measure: impl FnMut(&mut T) -> f64,
) -> Vec<Sample> {
    let count = contestants.len();
    let mut samples = vec![Sample::default(); count];
    for round in 0..rounds {
        for position in 0..count {
            let index = (round + position) % count;
            samples[index].0.push(measure(&mut contestants[index]));
        }
    }
    samples
}
