//! Huffman tables, and the bits of entropy-coded data.

/// Bits that are looked up at once.
const LOOKUP: u32 = 9;

/// A Huffman table.
pub(super) struct Table {
    /// Length and symbol by the next [`LOOKUP`] bits; a length of 0: longer, or no code.
    fast: Box<[(u8, u8); 1 << LOOKUP]>,
    /// Per length: end of its codes, aligned to 16 bits, and what to add to a code for the index of its symbol.
    ends: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// From the counts of codes per length and the symbols in order.
    pub fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let mut table =
            Table { fast: Box::new([(0, 0); 1 << LOOKUP]), ends: [0; 17], offsets: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0_u32, 0_usize);
        for length in 1..=16 {
            table.offsets[length] = index as i32 - code as i32;
            for _ in 0..counts[length - 1] {
                let length = length as u32;
                if length <= LOOKUP {
                    let from = (code << (LOOKUP - length)) as usize;
                    let entries = table.fast.get_mut(from..from + (1 << (LOOKUP - length)))?;
                    entries.fill((length as u8, *symbols.get(index)?));
                }
                (code, index) = (code + 1, index + 1);
            }
            if code > 1 << length {
                return None;
            }
            table.ends[length] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }
}

/// Why the data cannot be read on.
pub(super) enum Fault {
    /// They end: a marker or the end of the file.
    End,
    /// A code that does not exist, or a value that cannot be.
    Bad,
}

/// The bits of entropy-coded data, up to the next marker.
pub(super) struct Bits<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    /// The next bits, highest first; zeros follow.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// Those of `bytes` from `at` on.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0 }
    }

    fn refill(&mut self) {
        while self.count <= 56 {
            let byte = match self.bytes.get(self.at..).unwrap_or_default() {
                [0xff, 0, ..] => {
                    self.at += 2;
                    0xff
                }
                // A marker, or the end of the file.
                [0xff, ..] | [] => return,
                &[byte, ..] => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline(always)]
    pub fn symbol(&mut self, table: &Table) -> Result<u8, Fault> {
        if self.count < 32 {
            self.refill();
        }
        let (length, symbol) = table.fast[(self.buffer >> (64 - LOOKUP)) as usize];
        if length > 0 {
            self.skip(u32::from(length))?;
            return Ok(symbol);
        }
        let next = (self.buffer >> 48) as u32;
        let length = (LOOKUP + 1..=16).find(|&length| next < table.ends[length as usize]);
        let Some(length) = length else { return Err(if self.count < 16 { Fault::End } else { Fault::Bad }) };
        let index = (next >> (16 - length)) as i32 + table.offsets[length as usize];
        self.skip(length)?;
        table.symbols.get(index as usize).copied().ok_or(Fault::Bad)
    }

    #[inline(always)]
    pub fn skip(&mut self, bits: u32) -> Result<(), Fault> {
        if bits > self.count {
            self.refill();
            if bits > self.count {
                return Err(Fault::End);
            }
        }
        self.buffer <<= bits;
        self.count -= bits;
        Ok(())
    }

    pub fn bits(&mut self, bits: u32) -> Result<u32, Fault> {
        if bits == 0 {
            return Ok(0);
        }
        if self.count < bits {
            self.refill();
        }
        let value = (self.buffer >> (64 - bits)) as u32;
        self.skip(bits)?;
        Ok(value)
    }

    /// Goes to the next marker; the number of bytes passed over that are no padding.
    pub fn align(&mut self) -> usize {
        let mut left = (self.count / 8) as usize;
        (self.buffer, self.count) = (0, 0);
        while let Some(pair) = self.bytes.get(self.at..self.at + 2) {
            match pair {
                [0xff, 0] => self.at += 2,
                // Fill bytes may come before a marker.
                [0xff, 0xff] => {
                    self.at += 1;
                    continue;
                }
                [0xff, _] => return left,
                [byte, _] => {
                    self.at += 1;
                    left += usize::from(*byte != 0);
                    continue;
                }
                _ => {}
            }
            left += 1;
        }
        self.at = self.bytes.len();
        left
    }
}
