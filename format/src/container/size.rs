//! The one type for counts, lengths and offsets that come from a file. It has no raw arithmetic: each
//! operation says `None` where the result does not fit, so that no check can be forgotten.

/// A number of bytes or elements, or a position in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub u64);

impl Size {
    pub const ZERO: Self = Self(0);

    pub fn of<T>(items: &[T]) -> Self {
        // usize is never wider than u64 on a platform that Rust knows
        Self(items.len() as u64)
    }

    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub fn minus(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    pub fn times(self, other: Self) -> Option<Self> {
        self.0.checked_mul(other.0).map(Self)
    }

    /// The next multiple of `alignment`.
    pub fn padded(self, alignment: Self) -> Option<Self> {
        self.0.checked_next_multiple_of(alignment.0).map(Self)
    }

    pub fn is_multiple_of(self, alignment: Self) -> bool {
        self.0.checked_rem(alignment.0) == Some(0)
    }

    /// As a length in memory.
    pub fn index(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn nothing_wraps() {
        let (max, one) = (Size(u64::MAX), Size(1));
        assert_eq!(max.plus(one), None);
        assert_eq!(max.times(Size(2)), None);
        assert_eq!(one.minus(Size(2)), None);
        assert_eq!(max.padded(Size(32)), None);
        assert_eq!(one.padded(Size(0)), None);
        assert_eq!(Size(33).padded(Size(32)), Some(Size(64)));
        assert_eq!(Size(64).padded(Size(32)), Some(Size(64)));
        assert!(Size(64).is_multiple_of(Size(32)) && !Size(65).is_multiple_of(Size(32)));
        assert!(!one.is_multiple_of(Size(0)));
    }
}
