//! A metadata value: a scalar, a string or a flat array, with its type as the file states it.

use super::Strings;

/// Declares the scalar types of GGUF once: variant, Rust type (whose name is the type's name), id.
macro_rules! scalars {
    ($($variant:ident $type:ty, $id:literal;)+) => {
        /// A value's type; ids as GGUF numbers them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ValueType { $($variant,)+ Str, Array }

        impl ValueType {
            pub(crate) const fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)+ 8 => Some(Self::Str), 9 => Some(Self::Array), _ => None }
            }

            pub(crate) const fn id(self) -> u32 {
                match self { $(Self::$variant => $id,)+ Self::Str => 8, Self::Array => 9 }
            }

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($type),)+ Self::Str => "string", Self::Array => "array" }
            }
        }

        /// A metadata value.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value { $($variant($type),)+ Str(String), Array(Array) }

        /// An array of one type; GGUF's arrays of arrays are refused.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Array { $($variant(Vec<$type>),)+ Str(Strings) }

        impl Value {
            pub fn value_type(&self) -> ValueType {
                match self {
                    $(Self::$variant(_) => ValueType::$variant,)+
                    Self::Str(_) => ValueType::Str,
                    Self::Array(_) => ValueType::Array,
                }
            }
        }

        impl Array {
            pub fn item_type(&self) -> ValueType {
                match self { $(Self::$variant(_) => ValueType::$variant,)+ Self::Str(_) => ValueType::Str }
            }

            pub fn len(&self) -> usize {
                match self { $(Self::$variant(items) => items.len(),)+ Self::Str(items) => items.len() }
            }
        }

        $(impl From<$type> for Value {
            fn from(value: $type) -> Self { Self::$variant(value) }
        }
        impl From<Vec<$type>> for Value {
            fn from(items: Vec<$type>) -> Self { Self::Array(Array::$variant(items)) }
        })+
    };
}

scalars! {
    U8 u8, 0;
    I8 i8, 1;
    U16 u16, 2;
    I16 i16, 3;
    U32 u32, 4;
    I32 i32, 5;
    F32 f32, 6;
    Bool bool, 7;
    U64 u64, 10;
    I64 i64, 11;
    F64 f64, 12;
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl From<Strings> for Value {
    fn from(items: Strings) -> Self {
        Self::Array(Array::Str(items))
    }
}

impl Array {
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The type in words, as messages name it: `u32`, `string`, `array of f32`.
pub(crate) fn type_name(value: &Value) -> String {
    match value {
        Value::Array(array) => format!("array of {}", array.item_type().name()),
        scalar => scalar.value_type().name().into(),
    }
}
