//! Writes Python's pickle, protocol 2, as PyTorch's archives use it.

/// A pickle under construction.
#[derive(Debug)]
pub struct Pickle(Vec<u8>);

impl Default for Pickle {
    fn default() -> Self {
        Self::new()
    }
}

impl Pickle {
    /// A pickle with an empty stack.
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    /// Ends the pickle; its value is the top of the stack.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.push(b'.');
        self.0
    }

    /// Marks the start of the elements of a tuple or dictionary.
    pub fn mark(&mut self) -> &mut Self {
        self.0.push(b'(');
        self
    }

    /// Collects everything since the mark into a tuple.
    pub fn tuple(&mut self) -> &mut Self {
        self.0.push(b't');
        self
    }

    /// ().
    pub fn empty_tuple(&mut self) -> &mut Self {
        self.0.push(b')');
        self
    }

    /// {}.
    pub fn empty_dict(&mut self) -> &mut Self {
        self.0.push(b'}');
        self
    }

    /// Puts all pairs since the mark into the dictionary below it.
    pub fn set_items(&mut self) -> &mut Self {
        self.0.push(b'u');
        self
    }

    /// The class or function `module.name`.
    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
        self
    }

    /// Calls the function below the tuple of arguments on top.
    pub fn reduce(&mut self) -> &mut Self {
        self.0.push(b'R');
        self
    }

    /// Makes an object of the class below the tuple on top, without calling its constructor.
    pub fn new_object(&mut self) -> &mut Self {
        self.0.push(0x81);
        self
    }

    /// Gives the object below the dictionary on top its state.
    pub fn build(&mut self) -> &mut Self {
        self.0.push(b'b');
        self
    }

    /// An integer.
    pub fn int(&mut self, value: usize) -> &mut Self {
        match i32::try_from(value) {
            Ok(value) => {
                self.0.push(b'J');
                self.0.extend(value.to_le_bytes());
            }
            Err(_) => {
                self.0.extend([0x8a, 8]);
                self.0.extend((value as u64).to_le_bytes());
            }
        }
        self
    }

    /// True or False.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.0.push(if value { 0x88 } else { 0x89 });
        self
    }

    /// A string.
    pub fn string(&mut self, value: &str) -> &mut Self {
        self.0.push(b'X');
        self.0.extend((value.len() as u32).to_le_bytes());
        self.0.extend(value.bytes());
        self
    }

    /// A tuple of integers.
    pub fn ints(&mut self, values: &[usize]) -> &mut Self {
        self.mark();
        for &value in values {
            self.int(value);
        }
        self.tuple()
    }

    /// A contiguous float tensor on the CPU, whose bytes are the archive's record `data/KEY`.
    pub fn tensor(&mut self, key: &str, shape: &[usize]) -> &mut Self {
        self.stored_tensor("FloatStorage", key, shape)
    }

    /// The same of another type, by its class of storages in `torch`.
    pub fn stored_tensor(&mut self, storage: &str, key: &str, shape: &[usize]) -> &mut Self {
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        self.global("torch._utils", "_rebuild_tensor_v2").mark();
        self.mark().string("storage").global("torch", storage).string(key).string("cpu");
        self.int(shape.iter().product()).tuple();
        // The tuple above is the persistent id by which the reader finds the storage.
        self.0.push(b'Q');
        self.int(0).ints(shape).ints(&strides).bool(false);
        self.global("collections", "OrderedDict").empty_tuple().reduce();
        self.tuple().reduce()
    }
}
