//! A few numbers in as few bytes as each needs.

/// Numbers in the order in which they were added, in LEB128: 7 bits to a byte, the lowest first; the top bit
/// of a byte says that the number goes on.
///
/// Microseconds of a connect take two bytes, those of a minute four.
#[derive(Debug, Clone, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
}

impl Packed {
    /// Bytes that a number takes at most.
    const LONGEST: usize = 10;

    /// Adds a number.
    pub(super) fn push(&mut self, mut value: u64) {
        // There are many small ones: less room in advance than `Vec` would make.
        if self.bytes.capacity() - self.bytes.len() < Self::LONGEST {
            self.bytes.reserve_exact(self.bytes.len() / 8 + 2 * Self::LONGEST);
        }
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.iter().filter(|byte| **byte < 0x80).count()
    }

    /// Whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there are at least `count`. Cheaper than [`Self::len`] while there are few.
    pub(super) fn has(&self, count: usize) -> bool {
        self.bytes.len() >= count && self.len() >= count
    }

    /// The numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + Clone + '_ {
        let ends = |byte: &u8| *byte < 0x80;
        let numbers = self.bytes.split_inclusive(ends);
        numbers.map(|bytes| {
            bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
        })
    }

    /// The numbers in ascending order.
    pub(super) fn sorted(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.iter().collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Integers of which neighbours are close to each other: each is packed as its difference to the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Deltas {
    packed: Packed,
    last: i64,
    len: usize,
}

impl Deltas {
    /// Adds an integer.
    pub(super) fn push(&mut self, value: i64) {
        let delta = value.wrapping_sub(self.last);
        // Small ones, of either sign, become small.
        self.packed.push((delta << 1 ^ delta >> 63).cast_unsigned());
        self.last = value;
        self.len += 1;
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The integers, in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        self.packed.iter().scan(0_i64, |last, delta| {
            let delta = (delta >> 1).cast_signed() ^ -((delta & 1).cast_signed());
            *last = last.wrapping_add(delta);
            Some(*last)
        })
    }
}

impl FromIterator<i64> for Deltas {
    fn from_iter<T: IntoIterator<Item = i64>>(values: T) -> Self {
        let mut deltas = Self::default();
        values.into_iter().for_each(|value| deltas.push(value));
        deltas
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(
            numbers in prop::collection::vec((any::<u64>(), 0..64_u32).prop_map(|(n, shift)| n >> shift), 0..50)
        ) {
            let mut packed = Packed::default();
            for number in &numbers {
                packed.push(*number);
            }
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), numbers.clone());
            prop_assert_eq!(packed.len(), numbers.len());
            prop_assert!(packed.has(numbers.len()) && !packed.has(numbers.len() + 1));
            let mut sorted = numbers;
            sorted.sort_unstable();
            prop_assert_eq!(packed.sorted(), sorted);
        }

        #[test]
        fn integers_come_back(
            values in prop::collection::vec((any::<i64>(), 0..64_u32).prop_map(|(n, shift)| n >> shift), 0..50)
        ) {
            let deltas: Deltas = values.iter().copied().collect();
            prop_assert_eq!(deltas.iter().collect::<Vec<_>>(), values);
        }
    }
}
