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
    /// Adds a number.
    pub(super) fn push(&mut self, mut value: u64) {
        let len = self.bytes.len() + bytes_of(value);
        if len > self.bytes.capacity() {
            // There are many small ones: less room in advance than `Vec` would make.
            let room = whole_chunk(len + len / 4);
            self.bytes.reserve_exact(room - self.bytes.len());
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

/// Bytes that a number takes.
const fn bytes_of(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// The least room, of `bytes` or more, of which an allocator that gives multiples of 16 bytes, 8 of them for
/// itself, as that of glibc does, leaves nothing unused.
const fn whole_chunk(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16) - 8
}

/// A small number for a small integer of either sign.
pub(super) const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// The integer of which [`zigzag`] made this number.
pub(super) const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// Integers of which neighbours are close to each other, with `N` small numbers beside each: an integer is
/// packed as its difference to the one before.
#[derive(Debug, Clone)]
pub(super) struct Deltas<const N: usize> {
    packed: Packed,
    last: i64,
    len: usize,
}

impl<const N: usize> Default for Deltas<N> {
    fn default() -> Self {
        Self { packed: Packed::default(), last: 0, len: 0 }
    }
}

impl<const N: usize> Deltas<N> {
    /// Adds an integer and the numbers beside it.
    pub(super) fn push(&mut self, value: i64, beside: [u64; N]) {
        self.packed.push(zigzag(value.wrapping_sub(self.last)));
        for number in beside {
            self.packed.push(number);
        }
        self.last = value;
        self.len += 1;
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The integers and what stands beside them, in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, [u64; N])> + '_ {
        let (mut numbers, mut last) = (self.packed.iter(), 0_i64);
        std::iter::from_fn(move || {
            last = last.wrapping_add(unzigzag(numbers.next()?));
            let mut beside = [0; N];
            for number in &mut beside {
                *number = numbers.next()?;
            }
            Some((last, beside))
        })
    }
}

impl<const N: usize> FromIterator<(i64, [u64; N])> for Deltas<N> {
    fn from_iter<T: IntoIterator<Item = (i64, [u64; N])>>(values: T) -> Self {
        let mut deltas = Self::default();
        values.into_iter().for_each(|(value, beside)| deltas.push(value, beside));
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
            values in prop::collection::vec((any::<i64>(), 0..64_u32).prop_map(|(n, shift)| n >> shift), 0..50),
            beside in any::<[u64; 2]>(),
        ) {
            let rows: Vec<_> = values.into_iter().map(|value| (value, beside)).collect();
            let deltas: Deltas<2> = rows.iter().copied().collect();
            prop_assert_eq!(deltas.len(), rows.len());
            prop_assert_eq!(deltas.iter().collect::<Vec<_>>(), rows);
        }

        #[test]
        fn room_is_a_whole_chunk(bytes in 0..100_000_usize) {
            let room = whole_chunk(bytes);
            prop_assert!((bytes..bytes + 16).contains(&room) && (room + 8).is_multiple_of(16));
        }
    }
}
