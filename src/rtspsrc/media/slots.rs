//! A table by the numbers of pads that grows while threads read it: a camera may come back with a stream
//! more. Reading takes no lock, as it is done for each packet, and nothing is ever taken out.

use std::sync::OnceLock;

/// The highest number is one less: twice what a description may have.
const SLOTS: usize = 64;

/// The table.
pub(crate) struct Slots<T>(Box<[OnceLock<Box<T>>]>);

impl<T> Slots<T> {
    /// The value with this number.
    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        self.0.get(number)?.get().map(Box::as_ref)
    }

    /// Adds a value. False if its number is taken, or beyond the last one.
    pub(crate) fn put(&self, number: usize, value: T) -> bool {
        let slot = self.0.get(number);
        slot.is_some_and(|slot| slot.set(Box::new(value)).is_ok())
    }

    /// The values, in the order of their numbers.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).map(Box::as_ref)
    }

    /// The lowest number behind all those that are taken, if there is one.
    pub(crate) fn next(&self) -> Option<usize> {
        let last = self.0.iter().rposition(|slot| slot.get().is_some());
        let next = last.map_or(0, |last| last + 1);
        (next < self.0.len()).then_some(next)
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(std::iter::repeat_with(OnceLock::new).take(SLOTS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_added_at_free_numbers_and_stay() {
        let slots = Slots::default();
        assert_eq!(slots.next(), Some(0));
        assert!(slots.put(3, "three") && slots.put(1, "one"));
        assert!(!slots.put(3, "other") && !slots.put(SLOTS, "beyond"));
        assert_eq!(slots.values().collect::<Vec<_>>(), [&"one", &"three"]);
        assert_eq!((slots.get(3), slots.get(2)), (Some(&"three"), None));
        assert_eq!(slots.next(), Some(4));
        assert!(slots.put(SLOTS - 1, "last"));
        assert_eq!(slots.next(), None);
    }
}
