//! What calls, states and persistent ids stand for; none is executed.

use std::rc::Rc;

use super::Machine;
use super::value::{Error, Known, Storage, Tensor, Value};

impl Machine<'_> {
    /// The state of an object; that of a dict, such as a state dict's `_metadata`, and of a tensor hold no weights.
    pub(super) fn build(&mut self, state: Value) -> Result<(), Error> {
        match (self.stack.last(), &state) {
            (Some(&Value::Object(object)), _) => self.objects[object].state = state,
            (Some(Value::Dict(_)), _) => (),
            // `Tensor.__setstate__` with other values than the tensor was made with.
            (Some(Value::Tensor(_)), Value::Tuple(values, _))
                if matches!(values.first(), Some(Value::Storage(_) | Value::Tensor(_))) =>
            {
                return self.malformed("a tensor that is given other values is not read");
            }
            (Some(Value::Tensor(_)), _) => (),
            _ => return self.malformed("a state is given to something that has none"),
        }
        Ok(())
    }

    /// What a persistent id of PyTorch's stands for.
    pub(super) fn persistent(&mut self, id: &Value) -> Result<Value, Error> {
        let Value::Tuple(id, _) = id else { return self.malformed("a persistent id must name a storage") };
        match (id.first().and_then(Value::text).as_deref(), id.as_slice()) {
            (Some("storage"), [_, Value::Global(Known::Storage(element)), key, location, len, rest @ ..]) => {
                let (Some(key), Some(_), Some(len)) = (key.text(), location.text(), len.int()) else {
                    return self.malformed("a storage needs a key, a device and a length");
                };
                // The older format: a part of the storage, as (key, offset, length).
                let part = match rest.first() {
                    Some(Value::Tuple(view, _)) => match view.as_slice() {
                        [_, offset, count] => offset.int().zip(count.int()),
                        _ => None,
                    },
                    _ => Some((0, len)),
                };
                let part = part.and_then(|(start, count)| Some(start..start.checked_add(count)?));
                let Some(part) = part.filter(|part| part.end <= len) else {
                    return self.malformed("a part of a storage lies outside of it");
                };
                self.entries += 4;
                let storage = Rc::new(Storage { key: key.into_owned(), element: *element, len, part });
                self.storages.push(Rc::clone(&storage));
                Ok(Value::Storage(storage))
            }
            (Some("storage"), [_, Value::Global(Known::Other(class)), ..]) => {
                Ok(self.new_object(Rc::clone(class), Value::None))
            }
            // The older format of whole models: a class with its source text.
            (Some("module"), [_, class @ Value::Global(_), ..]) => Ok(class.clone()),
            _ => self.malformed("a persistent id must name a storage"),
        }
    }

    /// A call with the values since the mark.
    pub(super) fn call_with_marked(&mut self, class: &Value) -> Result<(), Error> {
        let arguments = self.since_mark()?;
        self.push_tuple(arguments)?;
        let arguments = self.pop("arguments of a class")?;
        let value = self.call(class, &arguments)?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn call(&mut self, function: &Value, arguments: &Value) -> Result<Value, Error> {
        let function = match function {
            Value::Global(function) => function,
            // What an unknown call gives may be called.
            Value::Object(object) => &Known::Other(Rc::clone(&self.objects[*object].global)),
            _ => return self.malformed("a call needs a function and a tuple"),
        };
        let Value::Tuple(values, _) = arguments else {
            return self.malformed("a call needs a function and a tuple");
        };
        Ok(match (function, values.as_slice()) {
            (Known::DefaultDict, _) | (Known::OrderedDict, []) => self.new_dict(),
            (Known::OrderedDict, [pairs]) => return self.ordered_dict(pairs),
            (Known::Encode, [text, ..]) => match text.text() {
                Some(text) => Value::Bytes(latin_1(&text)),
                None => return self.malformed("text to encode"),
            },
            (Known::RebuildParameter, [Value::Tensor(tensor), ..]) => Value::Tensor(Rc::clone(tensor)),
            (
                Known::RebuildFromType,
                [function @ Value::Global(_), Value::Global(_), arguments @ Value::Tuple(..), ..],
            ) => {
                let (function, arguments) = (function.clone(), arguments.clone());
                // Once: the function is not this one again.
                match function {
                    Value::Global(Known::RebuildFromType) => {
                        self.new_object("torch._tensor._rebuild_from_type_v2".into(), arguments)
                    }
                    function => return self.call(&function, &arguments),
                }
            }
            (Known::RebuildTensor, [Value::Storage(storage), offset, shape, strides, ..]) => {
                match (offset.int(), shape.ints(), strides.ints()) {
                    (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() && shape.len() <= 16 => {
                        // Counted, since shape and strides are copied out of their tuples.
                        self.entries += 2 * shape.len();
                        let storage = Storage::clone(storage);
                        // After requires_grad and backward_hooks.
                        let negative = values.get(6).is_some_and(|metadata| self.has_negative_bit(metadata));
                        Value::Tensor(Rc::new(Tensor { storage, offset, shape, strides, negative }))
                    }
                    _ => return self.malformed("a tensor's offset, shape and strides must be numbers"),
                }
            }
            (Known::Other(name), _) => self.new_object(Rc::clone(name), arguments.clone()),
            (other, _) => {
                // A tensor of an opaque storage, or of a kind that is not read, is opaque itself.
                let name = other.name();
                self.new_object(name.into(), arguments.clone())
            }
        })
    }

    /// Whether a tensor's metadata is `{'neg': True}`.
    fn has_negative_bit(&self, metadata: &Value) -> bool {
        let Value::Dict(dict) = *metadata else { return false };
        self.dicts[dict].iter().any(|(key, value)| **key == *"neg" && matches!(value, Value::Bool(true)))
    }

    /// Python 2's `OrderedDict([[key, value], …])`.
    fn ordered_dict(&mut self, pairs: &Value) -> Result<Value, Error> {
        let Value::List(list) = *pairs else { return self.malformed("a dict of something that is no list of pairs") };
        let pairs = self.lists[list].clone();
        let mut items = Vec::with_capacity(2 * pairs.len());
        for pair in &pairs {
            let pair = match pair {
                Value::List(pair) => &self.lists[*pair],
                Value::Tuple(pair, _) => &**pair,
                _ => return self.malformed("a pair of key and value"),
            };
            let [key, value] = pair.as_slice() else { return self.malformed("a pair of key and value") };
            items.extend([key.clone(), value.clone()]);
        }
        let dict = self.new_dict();
        if let Value::Dict(dict) = dict {
            self.put(dict, items);
        }
        Ok(dict)
    }
}

/// The bytes of text that stands for bytes, a character each.
fn latin_1(text: &str) -> Rc<[u8]> {
    match text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<Vec<u8>>>() {
        Some(bytes) => bytes.into(),
        None => text.as_bytes().into(),
    }
}
