//! NumPy arrays in a pickle.

use super::{Pickle, Value};

/// A NumPy array in row order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array<'a> {
    /// NumPy's name of the type without its byte order: `u1`, `f4`, `i8` …
    pub dtype: &'a str,
    /// Its elements' bytes, little-endian.
    pub bytes: &'a [u8],
}

impl Pickle {
    /// The items of a dict.
    pub fn dict(&self, value: &Value) -> Option<&[(std::rc::Rc<str>, Value)]> {
        if let Value::Dict(dict) = value { self.dicts.get(*dict).map(Vec::as_slice) } else { None }
    }

    /// The value of a key; of two, the last, as in Python.
    pub fn get(&self, dict: &Value, key: &str) -> Option<&Value> {
        self.dict(dict)?.iter().rev().find(|(own, _)| **own == *key).map(|(_, value)| value)
    }

    /// The elements of a list or a tuple.
    pub fn list<'a>(&'a self, value: &'a Value) -> Option<&'a [Value]> {
        match value {
            Value::List(list) => self.lists.get(*list).map(Vec::as_slice),
            Value::Tuple(values, _) => Some(values),
            _ => None,
        }
    }

    /// An array with its shape, or `None` for everything else, also for arrays of Python objects, of big-endian numbers and
    /// in column order.
    pub fn array<'a>(&'a self, value: &'a Value) -> Option<(Array<'a>, Vec<usize>)> {
        let Value::Object(object) = value else { return None };
        let object = self.objects.get(*object)?;
        // The name of the module changed in NumPy 2; Python 2's strings are bytes.
        if !matches!(&*object.global, "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct") {
            return None;
        }
        let Value::Tuple(state, _) = &object.state else { return None };
        let [_version, shape, Value::Object(dtype), Value::Bool(false), Value::Bytes(bytes)] = state.as_slice() else {
            return None;
        };
        let dtype = self.objects.get(*dtype)?;
        let (Value::Tuple(arguments, _), Value::Tuple(order, _)) = (&dtype.arguments, &dtype.state) else {
            return None;
        };
        let code = arguments.first().filter(|_| &*dtype.global == "numpy.dtype")?;
        let order = order.get(1)?.text()?;
        let code = match code {
            Value::String(text) => text,
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok()?,
            _ => return None,
        };
        let size: usize = code.get(1..)?.parse().ok()?;
        let shape = shape.ints()?;
        let len = shape.iter().try_fold(size, |len, &side| len.checked_mul(side))?;
        let plain = matches!(&*order, "|" | "<" | "=") && len == bytes.len();
        plain.then_some((Array { dtype: code, bytes }, shape))
    }
}
