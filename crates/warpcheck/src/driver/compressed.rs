//! PTX as fat binaries compress it: a block of LZ4, or a frame of zstd.

use std::io::Read;

/// The formats, by a fat binary's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Lz4,
    Zstd,
}

impl Format {
    pub fn from_flags(flags: u32) -> Format {
        match (flags & 0x2000 != 0, flags & 0x8000 != 0) {
            (true, _) => Format::Lz4,
            (_, true) => Format::Zstd,
            _ => Format::Text,
        }
    }

    /// The text, of at most this many bytes; `None` if the bytes are no such format.
    pub fn expand(self, bytes: &[u8], most: usize) -> Option<Vec<u8>> {
        match self {
            Format::Text => Some(bytes.to_vec()),
            Format::Lz4 => lz4(bytes, most),
            Format::Zstd => {
                let mut text = Vec::new();
                let decoder = ruzstd::decoding::StreamingDecoder::new(bytes).ok()?;
                decoder.take(most as u64 + 1).read_to_end(&mut text).ok()?;
                (text.len() <= most).then_some(text)
            }
        }
    }
}

/// A block of LZ4: literals, and copies of what has been written, in turn.
fn lz4(bytes: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::new();
    let mut rest = bytes.iter().copied();
    let length = |first: u8, rest: &mut dyn Iterator<Item = u8>| -> Option<usize> {
        let mut length = usize::from(first);
        if first == 15 {
            loop {
                let more = rest.next()?;
                length += usize::from(more);
                if more != 255 {
                    break;
                }
            }
        }
        Some(length)
    };
    while let Some(token) = rest.next() {
        let literals = length(token >> 4, &mut rest)?;
        if literals > rest.len() || out.len() + literals > most {
            return None;
        }
        out.extend(rest.by_ref().take(literals));
        // The last sequence has literals alone.
        let Some(low) = rest.next() else { return Some(out) };
        let distance = usize::from(u16::from_le_bytes([low, rest.next()?]));
        let copied = length(token & 15, &mut rest)? + 4;
        if distance == 0 || distance > out.len() || out.len() + copied > most {
            return None;
        }
        // What is copied may overlap what is written.
        for _ in 0..copied {
            out.push(out[out.len() - distance]);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_lz4_is_expanded_and_a_broken_one_refused() {
        // Three literals, 4 + 5 bytes from 3 back, then one literal.
        let block = [0x35, b'a', b'b', b'c', 3, 0, 0x10, b'!'];
        assert_eq!(lz4(&block, 100).as_deref(), Some(&b"abcabcabcabc!"[..]));
        assert_eq!(lz4(&block, 12), None);
        // 15 + 3 literals.
        let long: Vec<u8> = [0xf0, 3].into_iter().chain(0..18).collect();
        assert_eq!(lz4(&long, 100), Some((0..18).collect()));
        for broken in [&[0x35, b'a'][..], &[0x15, b'a', 2, 0], &[0x15, b'a', 0, 0], &[0xf0, 255], &[0x14, b'a', 1]] {
            assert_eq!(lz4(broken, 100), None, "{broken:?}");
        }
        assert_eq!(Format::Zstd.expand(b"no frame", 100), None);
    }
}
