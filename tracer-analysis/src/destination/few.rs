//! Maps that have few keys as a rule.

use std::{borrow::Borrow, collections::BTreeMap, mem};

/// A map as a sorted list: it takes no more memory than its entries do, where a `BTreeMap` makes room for
/// eleven at once. For few keys only: each new one moves those behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few<K, V>(Box<[(K, V)]>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<K: Ord, V> Few<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// Whether there is such a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// The value of a key; a new key has the default value.
    pub fn of<Q>(&mut self, key: &Q) -> &mut V
    where
        K: Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
        V: Default,
    {
        let at = self.find(key).unwrap_or_else(|at| {
            let mut entries = mem::take(&mut self.0).into_vec();
            entries.reserve_exact(1);
            entries.insert(at, (key.to_owned(), V::default()));
            self.0 = entries.into_boxed_slice();
            at
        });
        &mut self.0[at].1
    }

    /// Takes a key out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        let mut entries = mem::take(&mut self.0).into_vec();
        let (_, value) = entries.remove(at);
        self.0 = entries.into_boxed_slice();
        Some(value)
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(other, _)| other.borrow().cmp(key))
    }
}

impl<K, V> Few<K, V> {
    /// Number of keys.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, in order of the keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values in order of the keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> From<Few<K, V>> for BTreeMap<K, V> {
    fn from(few: Few<K, V>) -> Self {
        few.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_like_a_tree(keys in prop::collection::vec(0..12_u8, 0..40)) {
            let (mut few, mut tree) = (Few::<u8, u64>::default(), BTreeMap::new());
            for key in &keys {
                prop_assert_eq!(few.contains_key(key), tree.contains_key(key));
                *few.of(key) += 1;
                *tree.entry(*key).or_insert(0) += 1;
            }
            prop_assert!(few.iter().eq(tree.iter()));
            prop_assert!(few.keys().eq(tree.keys()) && few.values().eq(tree.values()));
            prop_assert_eq!((few.len(), few.get(&0)), (tree.len(), tree.get(&0)));
            prop_assert_eq!(few.remove(&3), tree.remove(&3));
            prop_assert_eq!(BTreeMap::from(few), tree);
        }
    }
}
