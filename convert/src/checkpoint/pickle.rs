//! Reads a pickle of tensors as data. It is a small stack machine that knows only the opcodes torch.save writes
//! for a dict of tensors and only the names such a dict needs; anything else is an error naming it and its place.
//!
//! Nothing is imported or called: GLOBAL yields an inert name, and REDUCE only builds the few values that those
//! names stand for. Values live in arenas and name each other by index, so no input can make this recurse; every
//! arena has a cap.

use std::collections::HashMap;
use std::ops::Range;

use super::dtype::SourceType;

const STACK_MAX: usize = 1 << 16;
const MEMO_MAX: usize = 1 << 20;
const VALUES_MAX: usize = 1 << 20;
const NAME_BYTES_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 4096;

/// A tensor as the pickle describes it: a view into a storage. Sizes and strides count elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickledTensor {
    pub dtype: SourceType,
    /// Name of the storage's entry in the archive.
    pub key: String,
    /// Elements in the whole storage.
    pub n_storage: u64,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// Where in the pickle, and what is wrong with it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("byte {at}: {what}")]
pub struct PickleError {
    pub at: usize,
    pub what: String,
}

/// The tensors of a pickled dict, in its order.
///
/// # Errors
/// On the first byte that is no part of a dict of tensors.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, PickledTensor)>, PickleError> {
    let mut machine = Machine { bytes, ..Machine::default() };
    let root = match machine.run() {
        Ok(root) => root,
        Err(what) => return Err(PickleError { at: machine.op_at, what }),
    };
    machine.tensors_of(root).map_err(|what| PickleError { at: machine.op_at, what })
}

/// The only names that a file of tensors needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(SourceType),
}

#[derive(Clone, Debug)]
enum Value {
    Mark,
    None,
    Bool,
    Int(i64),
    Str(Range<usize>),
    Global(Global),
    Tuple(Range<usize>),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

#[derive(Clone, Debug)]
struct Storage {
    dtype: SourceType,
    key: Range<usize>,
    n_elements: u64,
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    op_at: usize,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    /// Elements of all tuples, one tuple after the other.
    tuples: Vec<Value>,
    dicts: Vec<Vec<(Value, Value)>>,
    n_dict_entries: usize,
    storages: Vec<Storage>,
    tensors: Vec<PickledTensor>,
}

type Step<T = ()> = Result<T, String>;

impl Machine<'_> {
    fn run(&mut self) -> Step<Value> {
        loop {
            self.op_at = self.at;
            let op = self.byte()?;
            if op == b'.' {
                let root = self.pop()?;
                if !self.stack.is_empty() {
                    return Err(format!("expected one value at the end, found {} more", self.stack.len()));
                }
                return Ok(root);
            }
            self.step(op)?;
            if self.stack.len() > STACK_MAX {
                return Err(format!("more than {STACK_MAX} values on the stack"));
            }
            if self.memo.len() > MEMO_MAX {
                return Err(format!("more than {MEMO_MAX} memoized values"));
            }
            let n_values = self.tuples.len() + self.n_dict_entries + self.dicts.len() + self.storages.len();
            if n_values + self.tensors.len() > VALUES_MAX {
                return Err(format!("more than {VALUES_MAX} values"));
            }
        }
    }

    fn step(&mut self, op: u8) -> Step {
        match op {
            0x80 => match self.byte()? {
                2 => Ok(()),
                version => Err(format!("expected pickle protocol 2, found {version}")),
            },
            b'(' => self.push(Value::Mark),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'K' => self.int(1),
            b'M' => self.int(2),
            b'J' => {
                let bytes: [u8; 4] = self.array()?;
                self.push(Value::Int(i64::from(i32::from_le_bytes(bytes))))
            }
            0x8a => self.long(),
            b'X' => {
                let text = self.text()?;
                self.push(Value::Str(text))
            }
            b'c' => {
                let global = self.global()?;
                self.push(Value::Global(global))
            }
            b')' => self.tuple(0),
            0x85 => self.tuple(1),
            0x86 => self.tuple(2),
            0x87 => self.tuple(3),
            b't' => {
                let n = self.stack.len() - self.mark()? - 1;
                let tuple = self.tuple_of_top(n)?;
                self.pop()?;
                self.push(tuple)
            }
            b'}' => self.new_dict(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                let dict = self.top_dict()?;
                self.set(dict, key, value);
                Ok(())
            }
            b'u' => self.set_items(),
            b'q' => {
                let index = u32::from(self.byte()?);
                self.put(index)
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.put(index)
            }
            b'h' => {
                let index = u32::from(self.byte()?);
                self.recall(index)
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)
            }
            b'Q' => self.persistent_id(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            _ => Err(format!("opcode {op:#04x} is not one that files of tensors use")),
        }
    }

    // What the bytes hold.

    fn byte(&mut self) -> Step<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let bytes = *bytes.ok_or("the pickle ends in the middle")?;
        self.at += N;
        Ok(bytes)
    }

    fn int(&mut self, n_bytes: usize) -> Step {
        let mut value = 0;
        for i in 0..n_bytes {
            value |= i64::from(self.byte()?) << (8 * i);
        }
        self.push(Value::Int(value))
    }

    /// LONG1: a length byte, then that many bytes of a little-endian two's complement number.
    fn long(&mut self) -> Step {
        let n_bytes = usize::from(self.byte()?);
        if n_bytes > 8 {
            return Err(format!("expected an integer of at most 8 bytes, found {n_bytes}"));
        }
        let mut bytes = [0; 8];
        for byte in bytes.iter_mut().take(n_bytes) {
            *byte = self.byte()?;
        }
        if n_bytes > 0 && bytes[n_bytes - 1] & 0x80 != 0 {
            bytes[n_bytes..].fill(0xff);
        }
        self.push(Value::Int(i64::from_le_bytes(bytes)))
    }

    fn text(&mut self) -> Step<Range<usize>> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        if len > KEY_BYTES_MAX {
            return Err(format!("expected a string of at most {KEY_BYTES_MAX} bytes, found {len}"));
        }
        let range = self.at..self.at + len;
        let bytes = self.bytes.get(range.clone()).ok_or("the pickle ends in the middle")?;
        std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8")?;
        self.at += len;
        Ok(range)
    }

    fn line(&mut self) -> Step<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let window = &rest[..rest.len().min(NAME_BYTES_MAX)];
        let len = window.iter().position(|b| *b == b'\n').ok_or("a name without an end")?;
        self.at += len + 1;
        Ok(String::from_utf8_lossy(&window[..len]).into_owned())
    }

    fn global(&mut self) -> Step<Global> {
        let (module, name) = (self.line()?, self.line()?);
        match (module.as_str(), name.as_str()) {
            ("collections", "OrderedDict") => return Ok(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => return Ok(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => return Ok(Global::RebuildParameter),
            ("torch", class) => {
                if let Some(dtype) = SourceType::from_torch_storage(class) {
                    return Ok(Global::Storage(dtype));
                }
            }
            _ => {}
        }
        let full = format!("{module}.{name}");
        Err(format!("global {} is not one that files of tensors use", full.escape_debug()))
    }

    // The stack and the memo.

    fn push(&mut self, value: Value) -> Step {
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Step<Value> {
        self.stack.pop().ok_or_else(|| "a value is taken from the empty stack".to_string())
    }

    /// Where the topmost mark lies.
    fn mark(&self) -> Step<usize> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark));
        mark.ok_or_else(|| "a mark is expected on the stack, found none".to_string())
    }

    fn put(&mut self, index: u32) -> Step {
        let value = self.stack.last().ok_or("a value is taken from the empty stack")?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Step {
        let value = self.memo.get(&index).ok_or_else(|| format!("memo {index} was never set"))?.clone();
        self.push(value)
    }

    // Tuples and dicts.

    fn tuple(&mut self, n: usize) -> Step {
        let tuple = self.tuple_of_top(n)?;
        self.push(tuple)
    }

    fn tuple_of_top(&mut self, n: usize) -> Step<Value> {
        let from = self.stack.len().checked_sub(n).ok_or("a value is taken from the empty stack")?;
        let start = self.tuples.len();
        self.tuples.extend(self.stack.drain(from..));
        Ok(Value::Tuple(start..self.tuples.len()))
    }

    fn items(&self, value: &Value) -> Option<&[Value]> {
        match value {
            Value::Tuple(range) => self.tuples.get(range.clone()),
            _ => None,
        }
    }

    fn new_dict(&mut self) -> Step {
        self.dicts.push(Vec::new());
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    fn top_dict(&self) -> Step<usize> {
        match self.stack.last() {
            Some(Value::Dict(index)) => Ok(*index),
            other => Err(format!("an item is set in {}, expected a dict", self.describe(other))),
        }
    }

    fn set(&mut self, dict: usize, key: Value, value: Value) {
        self.dicts[dict].push((key, value));
        self.n_dict_entries += 1;
    }

    fn set_items(&mut self) -> Step {
        let mark = self.mark()?;
        let items: Vec<Value> = self.stack.drain(mark + 1..).collect();
        self.pop()?;
        let dict = self.top_dict()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key without its value".to_string());
        }
        for [key, value] in pairs {
            self.set(dict, key.clone(), value.clone());
        }
        Ok(())
    }

    // What the names stand for.

    /// BINPERSID over `("storage", class, key, place, n_elements)`.
    fn persistent_id(&mut self) -> Step {
        let id = self.pop()?;
        let storage = match self.items(&id) {
            Some(
                [Value::Str(kind), Value::Global(Global::Storage(dtype)), Value::Str(key), Value::Str(_), n],
            ) if self.str(kind) == "storage" => {
                Storage { dtype: *dtype, key: key.clone(), n_elements: self.count(n, "a storage's size")? }
            }
            _ => return Err("a persistent id that is no storage".to_string()),
        };
        self.storages.push(storage);
        self.push(Value::Storage(self.storages.len() - 1))
    }

    fn reduce(&mut self) -> Step {
        let (args, callee) = (self.pop()?, self.pop()?);
        let Value::Global(global) = callee else {
            return Err(format!("{} is called", self.describe(Some(&callee))));
        };
        let args = self.items(&args).ok_or("a call without a tuple of arguments")?;
        let value = match (global, args) {
            (Global::OrderedDict, []) => return self.new_dict(),
            (Global::RebuildTensor, [Value::Storage(storage), offset, size, stride, Value::Bool, _hooks])
            | (
                Global::RebuildTensor,
                [Value::Storage(storage), offset, size, stride, Value::Bool, _hooks, Value::None],
            ) => {
                let storage = &self.storages[*storage];
                let tensor = PickledTensor {
                    dtype: storage.dtype,
                    key: self.str(&storage.key).to_string(),
                    n_storage: storage.n_elements,
                    offset: self.count(offset, "an offset")?,
                    shape: self.counts(size, "a size")?,
                    strides: self.counts(stride, "a stride")?,
                };
                if tensor.shape.len() != tensor.strides.len() {
                    let (n, m) = (tensor.shape.len(), tensor.strides.len());
                    return Err(format!("a tensor of {n} sizes and {m} strides"));
                }
                self.tensors.push(tensor);
                Value::Tensor(self.tensors.len() - 1)
            }
            (Global::RebuildParameter, [Value::Tensor(tensor), Value::Bool, _hooks]) => {
                Value::Tensor(*tensor)
            }
            _ => return Err(format!("{global:?} is called with {} arguments of other kinds", args.len())),
        };
        self.push(value)
    }

    /// BUILD gives a dict its attributes (`_metadata`), which say nothing about tensors.
    fn build(&mut self) -> Step {
        let state = self.pop()?;
        if !matches!(state, Value::Dict(_)) {
            return Err(format!("a state that is {}, expected a dict", self.describe(Some(&state))));
        }
        self.top_dict().map(|_| ())
    }

    fn str(&self, range: &Range<usize>) -> &str {
        // checked for UTF-8 when it was read
        std::str::from_utf8(&self.bytes[range.clone()]).unwrap_or_default()
    }

    fn count(&self, value: &Value, what: &str) -> Step<u64> {
        match value {
            Value::Int(n) => u64::try_from(*n).map_err(|_| format!("{what} of {n}")),
            other => Err(format!("{what} that is {}", self.describe(Some(other)))),
        }
    }

    fn counts(&self, value: &Value, what: &str) -> Step<Vec<u64>> {
        let items =
            self.items(value).ok_or_else(|| format!("{what} that is {}", self.describe(Some(value))))?;
        if items.len() > 8 {
            return Err(format!("{what} of {} dimensions", items.len()));
        }
        items.iter().map(|item| self.count(item, what)).collect()
    }

    fn describe(&self, value: Option<&Value>) -> String {
        let name = match value {
            None => "nothing",
            Some(Value::Mark) => "a mark",
            Some(Value::None) => "None",
            Some(Value::Bool) => "a bool",
            Some(Value::Int(_)) => "an integer",
            Some(Value::Str(_)) => "a string",
            Some(Value::Global(global)) => return format!("the name {global:?}"),
            Some(Value::Tuple(_)) => "a tuple",
            Some(Value::Dict(_)) => "a dict",
            Some(Value::Storage(_)) => "a storage",
            Some(Value::Tensor(_)) => "a tensor",
        };
        name.to_string()
    }

    fn tensors_of(&self, root: Value) -> Step<Vec<(String, PickledTensor)>> {
        let Value::Dict(dict) = root else {
            return Err(format!("expected a dict of tensors, found {}", self.describe(Some(&root))));
        };
        let mut tensors = Vec::new();
        for (key, value) in &self.dicts[dict] {
            let Value::Str(name) = key else {
                return Err(format!("expected the name of a tensor, found {}", self.describe(Some(key))));
            };
            let name = self.str(name);
            let Value::Tensor(tensor) = value else {
                return Err(format!("{name}: expected a tensor, found {}", self.describe(Some(value))));
            };
            tensors.push((name.to_string(), self.tensors[*tensor].clone()));
        }
        Ok(tensors)
    }
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
mod tests;
