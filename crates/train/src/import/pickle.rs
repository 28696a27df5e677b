//! Reads the pickles of PyTorch state dicts, and no others.
//!
//! A pickle is a program for a stack machine that may call any function of any Python module. This reader knows the
//! opcodes and the five functions that a state dict needs, and refuses every other by name. It executes nothing: a tensor
//! becomes a description of bytes in the archive.

mod value;

use std::rc::Rc;

pub use value::{ElementType, Error, Known, Storage, Tensor, Value};

/// Most values of a pickle; a state dict of 10,000 tensors needs fewer.
const MOST_VALUES: usize = 1 << 20;
/// Deepest nesting of values; a state dict needs 6.
const DEEPEST: u8 = 32;

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    dicts: Vec<Dict>,
    lists: Vec<Vec<Value>>,
    /// Values in dicts, lists, tuples and tensors, which outlive the stack.
    entries: usize,
}

/// Keys and values in order.
pub type Dict = Vec<(Rc<str>, Value)>;

/// The contents of a pickle.
#[derive(Debug)]
pub struct Pickle {
    /// The value.
    pub root: Value,
    /// All dicts, which values refer to by number.
    pub dicts: Vec<Dict>,
    /// All lists, likewise.
    pub lists: Vec<Vec<Value>>,
    /// Length of the pickle in bytes.
    pub len: usize,
}

/// Reads the pickle at the start of `bytes`.
///
/// # Errors
/// A pickle that is not a state dict's.
pub fn read(bytes: &[u8]) -> Result<Pickle, Error> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        dicts: Vec::new(),
        lists: Vec::new(),
        entries: 0,
    };
    loop {
        if machine.stack.len() + machine.entries > MOST_VALUES || machine.marks.len() > MOST_VALUES {
            return Err(Error::TooLarge);
        }
        let start = machine.at;
        let opcode = machine.take::<1>()?[0];
        if opcode == b'.' {
            let root = machine.pop("a value before the end")?;
            return Ok(Pickle { root, dicts: machine.dicts, lists: machine.lists, len: machine.at });
        }
        machine.step(opcode, start)?;
    }
}

impl Machine<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let taken = self.bytes[self.at..].first_chunk::<N>().ok_or(Error::Truncated(self.bytes.len()))?;
        self.at += N;
        Ok(*taken)
    }

    fn take_slice(&mut self, len: usize) -> Result<&[u8], Error> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(Error::Truncated(self.bytes.len()))?;
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn text(&mut self, len: usize) -> Result<Rc<str>, Error> {
        let at = self.at;
        let slice = self.take_slice(len)?;
        std::str::from_utf8(slice).map(Rc::from).map_err(|_| Error::Malformed { at, reason: "text must be UTF-8" })
    }

    fn line(&mut self) -> Result<Rc<str>, Error> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or(Error::Truncated(self.bytes.len()))?;
        let line = self.text(len)?;
        self.at += 1;
        Ok(line)
    }

    fn malformed<T>(&self, reason: &'static str) -> Result<T, Error> {
        Err(Error::Malformed { at: self.at, reason })
    }

    fn pop(&mut self, reason: &'static str) -> Result<Value, Error> {
        // What lies below a mark belongs to the tuple or dict that the mark opened.
        if self.marks.last().is_some_and(|&mark| mark == self.stack.len()) {
            return self.malformed(reason);
        }
        self.stack.pop().map_or_else(|| self.malformed(reason), Ok)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, Error> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => self.malformed("a mark is missing"),
        }
    }

    fn push_tuple(&mut self, values: Vec<Value>) -> Result<(), Error> {
        let depth = values.iter().map(Value::depth).max().unwrap_or(0) + 1;
        if depth > DEEPEST {
            return Err(Error::TooLarge);
        }
        // The tuple keeps its values, even when it is popped but memoised.
        self.entries += values.len();
        self.stack.push(Value::Tuple(Rc::new(values), depth));
        Ok(())
    }

    fn remember(&mut self, index: usize) -> Result<(), Error> {
        let Some(value) = self.stack.last().cloned() else { return self.malformed("nothing to remember") };
        if index > self.memo.len() + 1024 || index >= MOST_VALUES {
            return Err(Error::TooLarge);
        }
        if index >= self.memo.len() {
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(value);
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), Error> {
        match self.memo.get(index).cloned().flatten() {
            Some(value) => self.stack.push(value),
            None => return self.malformed("nothing was remembered under this number"),
        }
        Ok(())
    }

    fn append(&mut self, values: Vec<Value>) -> Result<(), Error> {
        self.entries += values.len();
        match self.stack.last() {
            Some(&Value::List(list)) => {
                self.lists[list].extend(values);
                Ok(())
            }
            _ => self.malformed("elements need a list below them"),
        }
    }

    fn new_dict(&mut self) -> Value {
        self.dicts.push(Vec::new());
        self.entries += 1;
        Value::Dict(self.dicts.len() - 1)
    }

    /// Puts pairs of key and value into the dict on top; other keys than strings are skipped.
    fn set_items(&mut self, items: Vec<Value>) -> Result<(), Error> {
        let Some(&Value::Dict(dict)) = self.stack.last() else {
            return self.malformed("items need a dict below them");
        };
        if !items.len().is_multiple_of(2) {
            return self.malformed("a key without a value");
        }
        self.entries += items.len();
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            if let Value::String(key) = key {
                self.dicts[dict].push((key, value));
            }
        }
        Ok(())
    }

    fn step(&mut self, opcode: u8, start: usize) -> Result<(), Error> {
        match opcode {
            // PROTO
            0x80 => {
                self.take::<1>()?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool(opcode == 0x88)),
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let value = i32::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.take::<1>()?[0];
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => {
                let len = self.take::<1>()?[0].into();
                let value = long(self.take_slice(len)?);
                self.stack.push(value);
            }
            // BINFLOAT
            b'G' => {
                self.take::<8>()?;
                self.stack.push(Value::Number);
            }
            // BINUNICODE, SHORT_BINUNICODE
            b'X' => {
                let len = u32::from_le_bytes(self.take()?) as usize;
                let text = self.text(len)?;
                self.stack.push(Value::String(text));
            }
            0x8c => {
                let len = self.take::<1>()?[0].into();
                let text = self.text(len)?;
                self.stack.push(Value::String(text));
            }
            b')' => self.push_tuple(Vec::new())?,
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let mut values = Vec::with_capacity(count);
                for _ in 0..count {
                    values.insert(0, self.pop("a tuple needs its elements")?);
                }
                self.push_tuple(values)?;
            }
            b't' => {
                let values = self.since_mark()?;
                self.push_tuple(values)?;
            }
            b']' => {
                self.stack.push(Value::List(self.lists.len()));
                self.lists.push(Vec::new());
                self.entries += 1;
            }
            // APPEND, APPENDS
            b'a' => {
                let value = self.pop("an element to append")?;
                self.append(vec![value])?;
            }
            b'e' => {
                let values = self.since_mark()?;
                self.append(values)?;
            }
            b'}' => {
                let dict = self.new_dict();
                self.stack.push(dict);
            }
            // SETITEM, SETITEMS
            b's' => {
                let value = self.pop("a value to set")?;
                let key = self.pop("a key to set")?;
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set_items(items)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let index = self.take::<1>()?[0].into();
                self.remember(index)?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.take()?) as usize;
                self.remember(index)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' => {
                let index = self.take::<1>()?[0].into();
                self.recall(index)?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.take()?) as usize;
                self.recall(index)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(known(&module, &name)?));
            }
            0x93 => {
                let name = self.pop("a name")?;
                let module = self.pop("a module")?;
                let (Value::String(module), Value::String(name)) = (module, name) else {
                    return self.malformed("a global needs two strings");
                };
                self.stack.push(Value::Global(known(&module, &name)?));
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop("a persistent id")?;
                let storage = self.storage(&id)?;
                self.stack.push(storage);
            }
            // REDUCE
            b'R' => {
                let arguments = self.pop("arguments of a call")?;
                let function = self.pop("a function to call")?;
                let value = self.call(&function, &arguments)?;
                self.stack.push(value);
            }
            // BUILD: a state dict's own attributes, `_metadata`, which hold no tensors.
            b'b' => {
                self.pop("a state")?;
                if !matches!(self.stack.last(), Some(Value::Dict(_))) {
                    return self.malformed("a state is given to something that is no dict");
                }
            }
            // FRAME
            0x95 => {
                self.take::<8>()?;
            }
            _ => return Err(Error::Opcode { name: opcode_name(opcode), at: start }),
        }
        Ok(())
    }

    fn storage(&self, id: &Value) -> Result<Value, Error> {
        if let Value::Tuple(id, _) = id
            && let [
                Value::String(kind),
                Value::Global(Known::Storage(element)),
                Value::String(key),
                Value::String(_),
                len,
                ..,
            ] = id.as_slice()
            && &**kind == "storage"
            && let Some(len) = len.int()
        {
            return Ok(Value::Storage(Rc::new(Storage { key: key.to_string(), element: *element, len })));
        }
        self.malformed("a persistent id must name a storage")
    }

    fn call(&mut self, function: &Value, arguments: &Value) -> Result<Value, Error> {
        let (Value::Global(function), Value::Tuple(arguments, _)) = (function, arguments) else {
            return self.malformed("a call needs a function and a tuple");
        };
        match (function, arguments.as_slice()) {
            (Known::OrderedDict, []) => Ok(self.new_dict()),
            (Known::RebuildParameter, [Value::Tensor(tensor), ..]) => Ok(Value::Tensor(Rc::clone(tensor))),
            (Known::RebuildTensor, [Value::Storage(storage), offset, shape, strides, ..]) => {
                match (offset.int(), shape.ints(), strides.ints()) {
                    (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() && shape.len() <= 16 => {
                        // Counted, since shape and strides are copied out of their tuples.
                        self.entries += 2 * shape.len();
                        let storage = Storage::clone(storage);
                        Ok(Value::Tensor(Rc::new(Tensor { storage, offset, shape, strides })))
                    }
                    _ => self.malformed("a tensor's offset, shape and strides must be numbers"),
                }
            }
            _ => self.malformed("a function is called with the wrong arguments"),
        }
    }
}

fn known(module: &str, name: &str) -> Result<Known, Error> {
    let refuse = || Error::Global(format!("{module}.{name}"));
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Known::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Known::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Ok(Known::RebuildParameter),
        ("torch", _) => ElementType::of_storage(name).map(Known::Storage).ok_or_else(refuse),
        _ => Err(refuse()),
    }
}

/// A little-endian two's complement integer of any length.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Number;
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut value = [if negative { 0xff } else { 0 }; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(value))
}

/// The names of opcodes that a hostile pickle is likely to have.
fn opcode_name(opcode: u8) -> String {
    let name = match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        b'P' => "PERSID",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'I' => "INT",
        b'L' => "LONG",
        b'F' => "FLOAT",
        b'S' => "STRING",
        b'T' => "BINSTRING",
        b'U' => "SHORT_BINSTRING",
        b'V' => "UNICODE",
        b'B' => "BINBYTES",
        b'C' => "SHORT_BINBYTES",
        0x8b => "LONG4",
        0x8d => "BINUNICODE8",
        0x8e => "BINBYTES8",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return format!("{opcode:#04x}"),
    };
    name.into()
}
