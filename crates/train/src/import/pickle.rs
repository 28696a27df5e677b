//! Reads pickles: those of PyTorch state dicts, of protocols 0 to 5, and what training scripts put beside the weights.
//!
//! A pickle is a program for a stack machine that may call any function of any Python module. This reader executes
//! nothing: a tensor becomes a description of bytes in the archive, and an object of any other class stays an opaque
//! [`Object`] with the name of its class. What could run code or programs, or reach files, is refused by name
//! (`pickle/globals.rs`).

mod call;
mod globals;
mod numpy;
mod text;
mod value;

use std::rc::Rc;

pub use numpy::Array;
pub use value::{ElementType, Error, Known, Object, Storage, Tensor, Value};

use globals::known;
use text::{integer, opcode_name, unescape, unicode};

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
    objects: Vec<Object>,
    storages: Vec<Rc<Storage>>,
    /// Values in dicts, lists, tuples and tensors, which outlive the stack.
    entries: usize,
}

/// Keys and values in order; a number as a key is written as text, other keys are skipped.
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
    /// All objects of unknown classes, likewise.
    pub objects: Vec<Object>,
    /// All storages, whether a tensor of the dict uses them or not.
    pub storages: Vec<Rc<Storage>>,
    /// Length of the pickle in bytes.
    pub len: usize,
}

/// Reads the pickle at the start of `bytes`.
///
/// # Errors
/// A pickle that is cut short or malformed, that refers to what could run, or that holds more than any state dict.
pub fn read(bytes: &[u8]) -> Result<Pickle, Error> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        dicts: Vec::new(),
        lists: Vec::new(),
        objects: Vec::new(),
        storages: Vec::new(),
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
            let Machine { dicts, lists, objects, storages, at: len, .. } = machine;
            return Ok(Pickle { root, dicts, lists, objects, storages, len });
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
            Some(&Value::List(list)) => self.lists[list].extend(values),
            Some(&Value::Object(object)) => self.objects[object].items.extend(values),
            _ => return self.malformed("elements need a list below them"),
        }
        Ok(())
    }

    fn new_list(&mut self, values: Vec<Value>) -> Value {
        self.entries += 1 + values.len();
        self.lists.push(values);
        Value::List(self.lists.len() - 1)
    }

    /// What a call of an unknown function would give.
    fn new_object(&mut self, global: Rc<str>, arguments: Value) -> Value {
        // An object is as large as some values.
        self.entries += 6;
        self.objects.push(Object { global, arguments, state: Value::None, items: Vec::new() });
        Value::Object(self.objects.len() - 1)
    }

    fn new_dict(&mut self) -> Value {
        self.dicts.push(Vec::new());
        self.entries += 1;
        Value::Dict(self.dicts.len() - 1)
    }

    /// Puts pairs of key and value into the dict on top.
    fn set_items(&mut self, items: Vec<Value>) -> Result<(), Error> {
        if !items.len().is_multiple_of(2) {
            return self.malformed("a key without a value");
        }
        let dict = match self.stack.last() {
            Some(&Value::Dict(dict)) => dict,
            Some(&Value::Object(object)) => {
                self.entries += items.len();
                self.objects[object].items.extend(items);
                return Ok(());
            }
            _ => return self.malformed("items need a dict below them"),
        };
        self.put(dict, items);
        Ok(())
    }

    fn put(&mut self, dict: usize, items: Vec<Value>) {
        self.entries += items.len();
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let key = match key {
                Value::String(key) => key,
                Value::Int(number) => number.to_string().into(),
                key => match key.text() {
                    Some(text) => text.into(),
                    None => continue,
                },
            };
            self.dicts[dict].push((key, value));
        }
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
            // LONG4
            0x8b => {
                let len = u32::from_le_bytes(self.take()?) as usize;
                let value = long(self.take_slice(len)?);
                self.stack.push(value);
            }
            // INT, LONG, FLOAT: a line of text
            b'I' | b'L' => {
                let value = integer(&self.line()?);
                self.stack.push(value);
            }
            b'F' => {
                self.line()?;
                self.stack.push(Value::Number);
            }
            // BINFLOAT
            b'G' => {
                self.take::<8>()?;
                self.stack.push(Value::Number);
            }
            // BINUNICODE8, BINBYTES8, BYTEARRAY8
            0x8d | 0x8e | 0x96 => {
                let len = usize::try_from(u64::from_le_bytes(self.take()?)).unwrap_or(usize::MAX);
                let value = match opcode {
                    0x8d => Value::String(self.text(len)?),
                    _ => Value::Bytes(self.take_slice(len)?.into()),
                };
                self.stack.push(value);
            }
            // BINBYTES, SHORT_BINBYTES; of Python 2 STRING, BINSTRING, SHORT_BINSTRING, UNICODE
            b'B' | b'T' => {
                let len = u32::from_le_bytes(self.take()?) as usize;
                let bytes = self.take_slice(len)?.into();
                self.stack.push(Value::Bytes(bytes));
            }
            b'C' | b'U' => {
                let len = self.take::<1>()?[0].into();
                let bytes = self.take_slice(len)?.into();
                self.stack.push(Value::Bytes(bytes));
            }
            b'S' => {
                let bytes = unescape(&self.line()?);
                self.stack.push(Value::Bytes(bytes.into()));
            }
            b'V' => {
                let text = unicode(&self.line()?);
                self.stack.push(Value::String(text.into()));
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
            // EMPTY_LIST, EMPTY_SET; LIST, FROZENSET
            b']' | 0x8f => {
                let list = self.new_list(Vec::new());
                self.stack.push(list);
            }
            b'l' | 0x91 => {
                let values = self.since_mark()?;
                let list = self.new_list(values);
                self.stack.push(list);
            }
            // APPEND; APPENDS, ADDITEMS
            b'a' => {
                let value = self.pop("an element to append")?;
                self.append(vec![value])?;
            }
            b'e' | 0x90 => {
                let values = self.since_mark()?;
                self.append(values)?;
            }
            b'}' => {
                let dict = self.new_dict();
                self.stack.push(dict);
            }
            // DICT
            b'd' => {
                let items = self.since_mark()?;
                let dict = self.new_dict();
                self.stack.push(dict);
                self.set_items(items)?;
            }
            // POP, POP_MARK, DUP
            b'0' => {
                // At a mark, the mark itself is taken off.
                if self.marks.last().is_some_and(|&mark| mark == self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop("a value to drop")?;
                }
            }
            b'1' => drop(self.since_mark()?),
            b'2' => match self.stack.last().cloned() {
                Some(value) => self.stack.push(value),
                None => return self.malformed("nothing to copy"),
            },
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
            // PUT, GET, BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'p' | b'g' => {
                let Ok(index) = self.line()?.trim().parse::<usize>() else {
                    return self.malformed("a number to remember by");
                };
                if opcode == b'p' { self.remember(index)? } else { self.recall(index)? }
            }
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
                let (Some(module), Some(name)) = (module.text(), name.text()) else {
                    return self.malformed("a global needs two strings");
                };
                self.stack.push(Value::Global(known(&module, &name)?));
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop("a persistent id")?;
                let value = self.persistent(&id)?;
                self.stack.push(value);
            }
            // REDUCE
            b'R' => {
                let arguments = self.pop("arguments of a call")?;
                let function = self.pop("a function to call")?;
                let value = self.call(&function, &arguments)?;
                self.stack.push(value);
            }
            // NEWOBJ, NEWOBJ_EX
            0x81 | 0x92 => {
                if opcode == 0x92 {
                    self.pop("keywords of a call")?;
                }
                let arguments = self.pop("arguments of a class")?;
                let class = self.pop("a class")?;
                let value = self.call(&class, &arguments)?;
                self.stack.push(value);
            }
            // INST, OBJ
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let class = Value::Global(known(&module, &name)?);
                self.call_with_marked(&class)?;
            }
            b'o' => {
                let mark = self.marks.last().copied().unwrap_or(usize::MAX);
                if mark >= self.stack.len() {
                    return self.malformed("a class with its arguments");
                }
                let class = self.stack.remove(mark);
                self.call_with_marked(&class)?;
            }
            b'b' => {
                let state = self.pop("a state")?;
                self.build(state)?;
            }
            // FRAME
            0x95 => {
                self.take::<8>()?;
            }
            _ => return Err(Error::Opcode { name: opcode_name(opcode), at: start }),
        }
        Ok(())
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

#[cfg(test)]
mod tests;
