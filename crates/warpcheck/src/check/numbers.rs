//! The numbers of launches.
//!
//! An entry of the race check names its launch by its age's parity and by its number within the age, so by the number modulo
//! twice [`LAUNCHES`]. Launches of other streams and threads may begin while one runs, more than that many: then its entries would
//! look like those of a later launch. So a number is left out while entries that look like its own may be there.

use std::sync::{Mutex, PoisonError};

use super::race::{LAUNCHES, age};

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { next: 1, others: Vec::new() });

struct Numbers {
    next: u64,
    /// Launches whose entries may be there, each with the age in which it ended.
    others: Vec<(u64, Option<u64>)>,
}

impl Numbers {
    fn take(&mut self) -> u64 {
        let mut number = self.next;
        // If so many run that all numbers are theirs, one is taken nevertheless.
        for _ in 0..2 * LAUNCHES {
            self.others.retain(|&(other, end)| end.is_none_or(|end| age(number) < cleared(other, end)));
            if self.others.iter().all(|(other, _)| other % (2 * LAUNCHES) != number % (2 * LAUNCHES)) {
                break;
            }
            number += 1;
        }
        self.next = number + 1;
        self.others.push((number, None));
        number
    }

    fn end(&mut self, number: u64) {
        let now = age(self.next - 1);
        if let Some((_, end)) = self.others.iter_mut().find(|(other, _)| *other == number) {
            *end = Some(now);
        }
    }
}

/// The first age whose beginning clears the entries of a launch that ended in the age `end`: of the same parity, and later.
fn cleared(number: u64, end: u64) -> u64 {
    if (end - age(number)).is_multiple_of(2) { end + 2 } else { end + 1 }
}

/// The number of a launch, until it ends.
pub(crate) struct Number(pub u64);

impl Number {
    /// The next one.
    pub fn take() -> Number {
        Number(NUMBERS.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        NUMBERS.lock().unwrap_or_else(PoisonError::into_inner).end(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_each_other_where_launches_do() {
        let mut numbers = Numbers { next: 1, others: Vec::new() };
        for expected in 1..1000 {
            let number = numbers.take();
            assert_eq!(number, expected);
            numbers.end(number);
            assert!(numbers.others.len() <= 3 * LAUNCHES as usize);
        }
    }

    #[test]
    fn no_other_launch_looks_like_one_that_runs_or_has_just_ended() {
        let mut numbers = Numbers { next: 1, others: Vec::new() };
        let long = numbers.take();
        let mut later = 0;
        for _ in 0..1000 {
            later = numbers.take();
            assert_ne!(later % 30, long % 30);
            numbers.end(later);
        }
        numbers.end(long);
        // Its entries are cleared when the next age of its parity begins.
        let mut looks_alike = false;
        for _ in 0..100 {
            let number = numbers.take();
            let alike = number % 30 == long % 30;
            assert!(!alike || age(number) > age(later), "{number}");
            looks_alike |= alike;
            numbers.end(number);
        }
        assert!(looks_alike);
    }
}
