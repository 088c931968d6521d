//! Reads one metadata value off the cursor: the typed bytes become a [`Value`], or an error naming the key.

use super::cursor::{Cursor, Place};
use super::number::Number;
use super::size::Size;
use super::strings::StringsBuilder;
use super::value::ValueType;
use super::{Array, Strings, Value};
use crate::error::Result;

/// A value behind its type.
pub(super) fn value(cursor: &mut Cursor, place: Place) -> Result<Value> {
    Ok(match value_type(cursor, place)? {
        ValueType::U8 => Value::U8(number(cursor, place)?),
        ValueType::I8 => Value::I8(number(cursor, place)?),
        ValueType::U16 => Value::U16(number(cursor, place)?),
        ValueType::I16 => Value::I16(number(cursor, place)?),
        ValueType::U32 => Value::U32(number(cursor, place)?),
        ValueType::I32 => Value::I32(number(cursor, place)?),
        ValueType::F32 => Value::F32(number(cursor, place)?),
        ValueType::U64 => Value::U64(number(cursor, place)?),
        ValueType::I64 => Value::I64(number(cursor, place)?),
        ValueType::F64 => Value::F64(number(cursor, place)?),
        ValueType::Bool => Value::Bool(bool_of(number(cursor, place)?, cursor, place)?),
        ValueType::Str => Value::Str(cursor.str(place, cursor.limits.string_bytes)?.to_owned()),
        ValueType::Array => Value::Array(array(cursor, place)?),
    })
}

/// An array behind its item type and length.
fn array(cursor: &mut Cursor, place: Place) -> Result<Array> {
    let item_type = value_type(cursor, place)?;
    let n_items = cursor.u64(place)?;
    Ok(match item_type {
        ValueType::U8 => Array::U8(numbers(cursor, n_items, place)?),
        ValueType::I8 => Array::I8(numbers(cursor, n_items, place)?),
        ValueType::U16 => Array::U16(numbers(cursor, n_items, place)?),
        ValueType::I16 => Array::I16(numbers(cursor, n_items, place)?),
        ValueType::U32 => Array::U32(numbers(cursor, n_items, place)?),
        ValueType::I32 => Array::I32(numbers(cursor, n_items, place)?),
        ValueType::F32 => Array::F32(numbers(cursor, n_items, place)?),
        ValueType::U64 => Array::U64(numbers(cursor, n_items, place)?),
        ValueType::I64 => Array::I64(numbers(cursor, n_items, place)?),
        ValueType::F64 => Array::F64(numbers(cursor, n_items, place)?),
        ValueType::Bool => Array::Bool(bools(cursor, n_items, place)?),
        ValueType::Str => Array::Str(strings(cursor, n_items, place)?),
        ValueType::Array => {
            return Err(cursor.wrong(place, "expected a flat array, found an array of arrays"));
        }
    })
}

fn value_type(cursor: &mut Cursor, place: Place) -> Result<ValueType> {
    let id = cursor.u32(place)?;
    ValueType::from_id(id)
        .ok_or_else(|| cursor.wrong(place, format!("expected a value type of 0 to 12, found {id}")))
}

fn number<T: Number>(cursor: &mut Cursor, place: Place) -> Result<T> {
    cursor.take(T::SIZE, place).map(T::from_le)
}

fn numbers<T: Number>(cursor: &mut Cursor, n_items: u64, place: Place) -> Result<Vec<T>> {
    let bytes = cursor.items(n_items, T::SIZE, place)?;
    Ok(bytes.chunks_exact(size_of::<T>()).map(T::from_le).collect())
}

fn bools(cursor: &mut Cursor, n_items: u64, place: Place) -> Result<Vec<bool>> {
    let bytes = cursor.items(n_items, Size(1), place)?;
    bytes.iter().map(|&byte| bool_of(byte, cursor, place)).collect()
}

fn bool_of(byte: u8, cursor: &Cursor, place: Place) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        n => Err(cursor.wrong(place, format!("expected a bool of 0 or 1, found {n}"))),
    }
}

/// Goes over the strings twice, so that memory for them is taken once and exactly.
fn strings(cursor: &mut Cursor, n_items: u64, place: Place) -> Result<Strings> {
    let max = cursor.limits.string_bytes;
    let lengths = cursor.at_least(n_items, Size(8), place)?;
    let mut first = cursor.clone();
    for _ in 0..n_items {
        first.str(place, max)?;
    }
    let n_text = first.position().minus(cursor.position()).and_then(|span| span.minus(lengths));
    let mut builder = StringsBuilder::with_capacity(Size(n_items), n_text.unwrap_or(Size::ZERO));
    for _ in 0..n_items {
        let string = cursor.str(place, max)?;
        builder
            .push(string)
            .ok_or_else(|| cursor.limit(place, "bytes of strings", u32::MAX.into(), n_items))?;
    }
    Ok(builder.finish())
}
