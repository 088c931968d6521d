//! Numbers as they lie in a file: little endian, whatever the machine is.

use super::size::Size;

pub(super) trait Number: Copy {
    const SIZE: Size;

    /// `bytes` are `SIZE` bytes.
    fn from_le(bytes: &[u8]) -> Self;

    fn put_le(self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($type:ident)+) => {
        $(impl Number for $type {
            const SIZE: Size = Size(size_of::<$type>() as u64);

            fn from_le(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                $type::from_le_bytes(array)
            }

            fn put_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        })+
    };
}

numbers! { u8 i8 u16 i16 u32 i32 f32 u64 i64 f64 }
