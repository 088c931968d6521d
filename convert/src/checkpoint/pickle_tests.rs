use super::*;

/// A pickle put together opcode by opcode, as torch.save would.
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Pickle {
        Pickle(vec![0x80, 2])
    }

    fn op(mut self, op: u8) -> Pickle {
        self.0.push(op);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Pickle {
        self.0.extend(bytes);
        self
    }

    fn global(self, module: &str, name: &str) -> Pickle {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    fn str(self, text: &str) -> Pickle {
        self.op(b'X').raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    fn int(self, n: i32) -> Pickle {
        self.op(b'J').raw(&n.to_le_bytes())
    }

    fn ints(self, values: &[i32]) -> Pickle {
        values.iter().fold(self.op(b'('), |p, n| p.int(*n)).op(b't')
    }

    fn storage(self, class: &str, key: &str, n: i32) -> Pickle {
        self.op(b'(').str("storage").global("torch", class).str(key).str("cpu").int(n).op(b't').op(b'Q')
    }

    /// A tensor over the storage `key`, everything but the storage's class free to be wrong.
    fn tensor(self, n_storage: i32, offset: i32, size: &[i32], stride: &[i32]) -> Pickle {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b'(')
            .storage("BFloat16Storage", "0", n_storage)
            .int(offset)
            .ints(size)
            .ints(stride)
            .op(0x89)
            .op(b'N')
            .op(b't')
            .op(b'R')
    }

    fn end(self) -> Vec<u8> {
        self.op(b'.').0
    }
}

#[test]
fn reads_a_dict_of_tensors() {
    let bytes = Pickle::new()
        .op(b'}')
        .raw(b"q\x00")
        .op(b'(')
        .str("a")
        .tensor(24, 4, &[4, 5], &[5, 1])
        .str("b")
        .global("torch._utils", "_rebuild_parameter")
        .op(b'(')
        .tensor(24, 0, &[6, 4], &[1, 6])
        .op(0x88)
        .op(b'N')
        .op(b't')
        .op(b'R')
        .op(b'u')
        .end();
    let tensors = read(&bytes).unwrap();
    assert_eq!(tensors.iter().map(|t| t.0.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let expected = PickledTensor {
        dtype: SourceType::BF16,
        key: "0".into(),
        n_storage: 24,
        offset: 4,
        shape: vec![4, 5],
        strides: vec![5, 1],
    };
    assert_eq!(tensors[0].1, expected);
    assert_eq!(tensors[1].1.strides, [1, 6]);
}

#[test]
fn integers_of_every_width() {
    let cases: &[(&[u8], i64)] = &[
        (b"K\xff", 255),
        (b"M\xff\xff", 65535),
        (b"J\xff\xff\xff\xff", -1),
        (b"\x8a\x00", 0),
        (b"\x8a\x01\x80", -128),
        (b"\x8a\x05\x00\x00\x00\x00\x01", 1 << 32),
        (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", i64::MAX),
    ];
    for (bytes, expected) in cases {
        let bytes = [b"\x80\x02", *bytes, b"."].concat();
        let mut machine = Machine { bytes: &bytes, ..Machine::default() };
        let value = machine.run().unwrap();
        assert!(matches!(value, Value::Int(n) if n == *expected), "{bytes:?}: {value:?}");
    }
}

#[test]
fn refuses_what_is_no_dict_of_tensors() {
    let p = Pickle::new;
    let tensor = |n, offset, size: &[i32], stride: &[i32]| p().tensor(n, offset, size, stride).end();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "byte 0: the pickle ends in the middle"),
        (vec![0x80, 4], "byte 0: expected pickle protocol 2, found 4"),
        (p().global("os", "system").end(), "byte 2: global os.system is not one that files of tensors use"),
        (p().global("builtins", "eval").end(), "global builtins.eval is not one"),
        (p().global("torch", "load").end(), "global torch.load is not one"),
        (p().global("torch", "").end(), "global torch. is not one"),
        (
            p().global("torch.storage", "_load_from_bytes").end(),
            "global torch.storage._load_from_bytes is not one",
        ),
        (p().global("a\u{1b}[2J", "b").end(), "global a\\u{1b}[2J.b is not one"),
        (p().raw(b"cos\nsystem").end(), "byte 2: a name without an end"),
        (p().raw(b"c").raw(&[b'a'; 5000]).end(), "byte 2: a name without an end"),
        (p().raw(b"\x93").end(), "byte 2: opcode 0x93 is not one that files of tensors use"),
        (p().raw(b"ios\nsystem\n").end(), "opcode 0x69"),
        (p().raw(b"\x82\x01").end(), "opcode 0x82"),
        (p().raw(b"]").end(), "opcode 0x5d"),
        (p().end(), "byte 2: a value is taken from the empty stack"),
        (p().op(b't').end(), "byte 2: a mark is expected on the stack, found none"),
        (p().op(b'u').end(), "byte 2: a mark is expected on the stack, found none"),
        (p().op(0x87).end(), "byte 2: a value is taken from the empty stack"),
        (p().raw(b"q\x00").end(), "byte 2: a value is taken from the empty stack"),
        (p().raw(b"h\x07").end(), "byte 2: memo 7 was never set"),
        (p().raw(b"j\xff\xff\xff\xff").end(), "byte 2: memo 4294967295 was never set"),
        (p().op(b'N').op(b'N').end(), "expected one value at the end, found 1 more"),
        (p().raw(b"X\xff\xff\xff\xff").end(), "expected a string of at most 4096 bytes, found 4294967295"),
        (p().raw(b"X\x05\x00\x00\x00abc").end(), "the pickle ends in the middle"),
        (p().raw(b"X\x01\x00\x00\x00\xff").end(), "a string is not UTF-8"),
        (p().raw(b"\x8a\x09").end(), "expected an integer of at most 8 bytes, found 9"),
        (p().op(b'N').op(b')').op(b'R').end(), "None is called"),
        (
            p().global("collections", "OrderedDict").op(b'N').op(b'R').end(),
            "a call without a tuple of arguments",
        ),
        (
            p().global("collections", "OrderedDict").int(1).op(0x85).op(b'R').end(),
            "OrderedDict is called with 1 arguments of other kinds",
        ),
        (
            p().global("torch", "FloatStorage").op(b')').op(b'R').end(),
            "Storage(F32) is called with 0 arguments",
        ),
        (p().op(b'N').op(b'Q').end(), "a persistent id that is no storage"),
        (p().op(b'(').str("module").op(b't').op(b'Q').end(), "a persistent id that is no storage"),
        (p().storage("FloatStorage", "0", -1).end(), "a storage's size of -1"),
        (tensor(4, -1, &[2], &[1]), "an offset of -1"),
        (tensor(4, 0, &[-2], &[1]), "a size of -2"),
        (tensor(4, 0, &[2], &[-1]), "a stride of -1"),
        (tensor(4, 0, &[2, 2], &[1]), "a tensor of 2 sizes and 1 strides"),
        (tensor(4, 0, &[1; 9], &[1; 9]), "a size of 9 dimensions"),
        (tensor(4, 0, &[2], &[1]), "expected a dict of tensors, found a tensor"),
        (p().op(b'}').int(1).op(b'N').op(b's').end(), "expected the name of a tensor, found an integer"),
        (p().op(b'}').str("epoch").int(3).op(b's').end(), "epoch: expected a tensor, found an integer"),
        (p().op(b'}').op(b'(').str("a").op(b'u').end(), "a key without its value"),
        (p().op(b'N').str("a").int(3).op(b's').end(), "an item is set in None, expected a dict"),
        (p().op(b'}').op(b'N').op(b'b').end(), "a state that is None, expected a dict"),
        (p().op(b'N').op(b'}').op(b'b').end(), "an item is set in None, expected a dict"),
    ];
    for (bytes, expected) in cases {
        let text = read(&bytes).unwrap_err().to_string();
        assert!(text.contains(expected), "expected {expected}\n   found {text}");
    }
}

#[test]
fn bombs_run_into_a_cap() {
    // a dict that holds itself, and tuples nested a million deep: neither recurses
    let knot = Pickle::new().op(b'}').raw(b"q\x00").str("a").raw(b"h\x00").op(b's').end();
    assert_eq!(read(&knot).unwrap_err().what, "a: expected a tensor, found a dict");
    let nested = Pickle::new().op(b'N').raw(&[0x85; 1_000_000]).end();
    assert_eq!(read(&nested).unwrap_err().what, "expected a dict of tensors, found a tuple");

    let laughs = (0..40u8).fold(Pickle::new().op(b'N').raw(b"q\x00"), |p, i| {
        p.raw(&[b'h', i]).raw(&[b'h', i]).op(0x86).raw(&[b'q', i + 1])
    });
    assert!(read(&laughs.end()).is_err());

    let cases = [
        (Pickle::new().raw(&[b'('; STACK_MAX + 1]).end(), "more than 65536 values on the stack"),
        (Pickle::new().op(b'N').raw(&[0x85; VALUES_MAX + 1]).end(), "more than 1048576 values"),
        (
            (0..=MEMO_MAX as u32).fold(Pickle::new().op(b'N'), |p, i| p.op(b'r').raw(&i.to_le_bytes())).end(),
            "more than 1048576 memoized values",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(read(&bytes).unwrap_err().what, expected);
    }
}

#[test]
fn mutations_of_a_good_pickle_never_panic() {
    let good = Pickle::new()
        .global("collections", "OrderedDict")
        .op(b')')
        .op(b'R')
        .op(b'(')
        .str("weight")
        .tensor(24, 4, &[4, 5], &[5, 1])
        .op(b'u')
        .op(b'}')
        .op(b'b')
        .end();
    assert_eq!(read(&good).unwrap().len(), 1);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=random() % 3 {
            let at = random() % bytes.len();
            match random() % 3 {
                0 => bytes[at] = random() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random() as u8),
            }
        }
        let _ = read(&bytes);
    }
}
