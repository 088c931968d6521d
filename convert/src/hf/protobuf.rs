//! The wire format of protobuf, as far as a SentencePiece model needs it: fields of a message one after the
//! other. Nothing is copied and nothing recurses.

/// One field's number and value.
#[derive(Debug, PartialEq)]
pub enum Field<'a> {
    Varint(u32, u64),
    Bytes(u32, &'a [u8]),
    Fixed32(u32, u32),
    Fixed64(u32),
}

/// The fields of a message in their order. Ends after the first error.
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    failed: bool,
}

impl<'a> Fields<'a> {
    pub fn of(bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, at: 0, failed: false }
    }

    fn field(&mut self) -> Result<Field<'a>, String> {
        let start = self.at;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|n| *n > 0 && *n < 1 << 29);
        let number = number.ok_or_else(|| format!("byte {start}: no field has the number {}", key >> 3))?;
        match key & 7 {
            0 => Ok(Field::Varint(number, self.varint()?)),
            1 => self.take(8).map(|_| Field::Fixed64(number)),
            2 => {
                let len = self.varint()?;
                let len =
                    usize::try_from(len).map_err(|_| format!("byte {start}: a field of {len} bytes"))?;
                Ok(Field::Bytes(number, self.take(len)?))
            }
            5 => {
                let bytes = self.take(4)?;
                Ok(Field::Fixed32(number, u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
            }
            wire => Err(format!("byte {start}: expected wire type 0, 1, 2 or 5, found {wire}")),
        }
    }

    fn varint(&mut self) -> Result<u64, String> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(format!("byte {start}: a number beyond 64 bits"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        if len > rest.len() {
            return Err(format!("byte {}: expected {len} more bytes, found {}", self.at, rest.len()));
        }
        self.at += len;
        Ok(&rest[..len])
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.at == self.bytes.len() {
            return None;
        }
        let field = self.field();
        self.failed = field.is_err();
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_wire_type() {
        let bytes = b"\x08\x96\x01\x12\x02hi\x1d\x01\x00\x00\x00\x21\x00\x00\x00\x00\x00\x00\x00\x00";
        let fields: Vec<_> = Fields::of(bytes).map(Result::unwrap).collect();
        let expected =
            [Field::Varint(1, 150), Field::Bytes(2, b"hi"), Field::Fixed32(3, 1), Field::Fixed64(4)];
        assert_eq!(fields, expected);
    }

    #[test]
    fn refuses_what_runs_over() {
        let cases: &[(&[u8], &str)] = &[
            (b"\x08", "byte 1: expected 1 more bytes, found 0"),
            (b"\x12\x05hi", "byte 2: expected 5 more bytes, found 2"),
            (
                b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01hi",
                "expected 18446744073709551615 more bytes, found 2",
            ),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "byte 1: a number beyond 64 bits"),
            (b"\x0b", "byte 0: expected wire type 0, 1, 2 or 5, found 3"),
            (b"\x00\x00", "byte 0: no field has the number 0"),
            (b"\x0d\x00", "byte 1: expected 4 more bytes, found 1"),
        ];
        for (bytes, expected) in cases {
            let mut fields = Fields::of(bytes);
            let text = fields.next().unwrap().unwrap_err();
            assert!(text.contains(expected), "expected {expected}\n   found {text}");
            assert!(fields.next().is_none());
        }
    }
}
