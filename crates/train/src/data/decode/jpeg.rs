//! Checks that a JPEG file is whole: decoders fill what is missing with grey, without an error.
//!
//! It reads all entropy-coded data symbol by symbol, baseline and progressive (ITU-T T.81, annexes B, F and G), but
//! computes no pixels: about a third of the time of decoding. Found are data that end early, also if an end marker was
//! put after them, codes that do not exist, coefficients beyond a block's end, missing restart intervals, missing scans,
//! and a missing end marker. What follows the first end marker is ignored: the second picture of an MPO file, a gain map, a
//! video. Thumbnails lie in marker segments and are passed over with them.

use huffman::{Bits, Fault, Table};

use super::cut;

mod huffman;

/// Bytes between the end of the data and the next marker that are taken for padding; webcams write one or two.
const PADDING: usize = 16;
/// Most scans; the decoder's limit is 100.
const MOST_SCANS: usize = 100;
/// Most blocks of 8×8 samples that all scans read: ten times those of the largest picture with the usual sampling.
const MOST_BLOCKS: usize = 1 << 24;
/// Most marker segments; colour profiles and depth maps take a few hundred.
const MOST_SEGMENTS: usize = 10_000;
/// Most bytes of Huffman tables; a scan's have up to 1 KiB.
const MOST_TABLES: usize = 1 << 18;
/// Bytes of coefficients beyond the pixels' that a decoder may keep of a progressive picture.
const COEFFICIENTS: usize = 60 << 20;

struct Component {
    id: u8,
    /// Sampling factors.
    h: usize,
    v: usize,
    /// Per coefficient the bit position of its last scan, or `NEVER`.
    position: [u8; 64],
    /// Progressive: a bit per coefficient that is not zero, for each block.
    nonzero: Vec<u64>,
    dc: usize,
    ac: usize,
}

const NEVER: u8 = u8::MAX;

/// A scan's parameters.
struct Scan {
    components: Vec<usize>,
    /// First and last coefficient, in zigzag order.
    start: usize,
    end: usize,
    /// Bit positions before and after, of progressive pictures.
    high: u8,
    low: u8,
}

/// What the markers said so far.
#[derive(Default)]
struct Jpeg {
    width: usize,
    height: usize,
    progressive: bool,
    components: Vec<Component>,
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart: usize,
    /// Blocks that the scans read so far.
    blocks: usize,
}

/// Checks that a JPEG file has all headers before its first scan.
///
/// # Errors
/// That it is cut short, or that a header is damaged.
pub(super) fn headers(bytes: &[u8]) -> Result<(), String> {
    walk(bytes, true)
}

/// Checks that the data of a JPEG file are complete. Takes 8 bytes of memory per 64 samples of a progressive picture.
///
/// Of files that the decoder does not read (arithmetic coding, lossless, 12 bits) only the markers are looked at.
///
/// # Errors
/// What is missing or wrong, as text.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    walk(bytes, false)
}

fn walk(bytes: &[u8], headers: bool) -> Result<(), String> {
    let mut jpeg = Jpeg::default();
    let (mut at, mut scans, mut segments, mut tables) = (2, 0, 0, 0);
    loop {
        while bytes.get(at).is_some_and(|&byte| byte != 0xff) {
            at += 1;
        }
        while bytes.get(at) == Some(&0xff) {
            at += 1;
        }
        let Some(&marker) = bytes.get(at) else { return Err(cut("its end marker is missing")) };
        at += 1;
        match marker {
            0xd9 if scans == 0 => return Err(cut("it ends before the picture begins")),
            0xd9 => return jpeg.complete(),
            0 | 0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = bytes.get(at..at + 2).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
        let Some(segment) = length.and_then(|length| bytes.get(at + 2..at + length.max(2))) else {
            return Err(cut("it ends within a header"));
        };
        at += 2 + segment.len();
        segments += 1;
        tables += if marker == 0xc4 { segment.len() } else { 0 };
        if segments > MOST_SEGMENTS || tables > MOST_TABLES {
            return Err("it has more headers than a picture needs: save it again".into());
        }
        let broken = || "a header is damaged".to_owned();
        match marker {
            0xc0..=0xc2 => {
                // A height of 0 is given later; the decoder does not read such files, nor other depths.
                if !jpeg.frame(segment, marker == 0xc2).ok_or_else(broken)? {
                    return Ok(());
                }
                let coefficients = 2 * 64 * jpeg.blocks_of_all();
                if jpeg.progressive && coefficients > 3 * jpeg.width * jpeg.height + COEFFICIENTS {
                    return Err(format!(
                        "decoding a progressive JPEG of {}×{} takes {} MiB: save it without `progressive`",
                        jpeg.width,
                        jpeg.height,
                        coefficients >> 20
                    ));
                }
                // The decoder would give such pictures wrong colours.
                if jpeg.components.first().is_some_and(|first| (first.h, first.v) != jpeg.most()) {
                    return Err("its first component has fewer samples than another: save the picture again".into());
                }
            }
            0xc4 => jpeg.tables(segment).ok_or_else(broken)?,
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcf => return Ok(()),
            0xdd => jpeg.restart = segment.first_chunk().map_or(0, |n| usize::from(u16::from_be_bytes(*n))),
            0xda if headers => return Ok(()),
            0xda => {
                scans += 1;
                if scans > MOST_SCANS {
                    return Err(format!("it has more than {MOST_SCANS} scans"));
                }
                let scan = jpeg.scan(segment).ok_or_else(broken)?;
                at = jpeg.read(&scan, bytes, at)?;
            }
            _ => {}
        }
    }
}

impl Jpeg {
    /// Reads a frame header; `false` for one that the decoder does not read.
    fn frame(&mut self, segment: &[u8], progressive: bool) -> Option<bool> {
        let [depth, high, low, wide, narrow, count, components @ ..] = segment else { return None };
        self.height = usize::from(u16::from_be_bytes([*high, *low]));
        self.width = usize::from(u16::from_be_bytes([*wide, *narrow]));
        self.progressive = progressive;
        self.components.clear();
        if *depth != 8 || self.width * self.height == 0 || *count > 4 {
            return Some(false);
        }
        for component in components.chunks_exact(3).take(usize::from(*count)) {
            let (h, v) = (usize::from(component[1] >> 4), usize::from(component[1] & 15));
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
                return None;
            }
            let position = [NEVER; 64];
            self.components.push(Component { id: component[0], h, v, position, nonzero: Vec::new(), dc: 0, ac: 0 });
        }
        if self.components.len() != usize::from(*count) {
            return None;
        }
        Some(true)
    }

    /// Width and height in units of interleaved scans.
    fn mcus(&self) -> (usize, usize) {
        let (h, v) = self.most();
        (self.width.div_ceil(8 * h), self.height.div_ceil(8 * v))
    }

    /// The blocks of all components.
    fn blocks_of_all(&self) -> usize {
        let (across, down) = self.mcus();
        self.components.iter().map(|component| across * component.h * down * component.v).sum()
    }

    /// The largest sampling factors.
    fn most(&self) -> (usize, usize) {
        let of = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max().unwrap_or(1);
        (of(|component| component.h), of(|component| component.v))
    }

    fn tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [class, rest @ ..] = segment {
            let counts = rest.get(..16)?;
            let symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let table = Table::new(counts, rest.get(16..16 + symbols)?)?;
            let tables = if class >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(class & 15))? = Some(table);
            segment = &rest[16 + symbols..];
        }
        Some(())
    }

    /// Reads a scan header.
    fn scan(&mut self, segment: &[u8]) -> Option<Scan> {
        let (&count, rest) = segment.split_first()?;
        let (chosen, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let [start, end, positions, ..] = *rest else { return None };
        let mut components = Vec::new();
        for pair in chosen.chunks_exact(2) {
            let index = self.components.iter().position(|component| component.id == pair[0])?;
            let component = &mut self.components[index];
            (component.dc, component.ac) = (usize::from(pair[1] >> 4), usize::from(pair[1] & 15));
            components.push(index);
        }
        let (start, end) = if self.progressive { (usize::from(start), usize::from(end)) } else { (0, 63) };
        let (high, low) = if self.progressive { (positions >> 4, positions & 15) } else { (0, 0) };
        let one = components.len() == 1;
        let fits = start <= end && end < 64 && (!self.progressive || (start == 0) == (end == 0));
        (fits && !components.is_empty() && (one || start == 0)).then_some(Scan { components, start, end, high, low })
    }

    /// Reads a scan's data, which begin at `at`; returns where its next marker is.
    fn read(&mut self, scan: &Scan, bytes: &[u8], at: usize) -> Result<usize, String> {
        let ((across, down), (h, v)) = (self.mcus(), self.most());
        // A scan of one component has its own blocks only, not those that fill up the units of interleaved scans.
        let single = (scan.components.len() == 1).then(|| {
            let component = &self.components[scan.components[0]];
            ((self.width * component.h).div_ceil(8 * h), (self.height * component.v).div_ceil(8 * v))
        });
        let (columns, rows) = single.unwrap_or((across, down));
        let of_unit = |&index: &usize| self.components[index].h * self.components[index].v;
        let in_unit = if single.is_some() { 1 } else { scan.components.iter().map(of_unit).sum() };
        self.blocks += columns * rows * in_unit;
        if self.blocks > MOST_BLOCKS {
            return Err(format!("its scans have more than {MOST_BLOCKS} blocks: save it without `progressive`"));
        }
        let mut bits = Bits::new(bytes, at);
        // Pictures taken out of motion JPEG films leave the tables of the standard's annex K out.
        let tables =
            |&index: &usize| (&self.dc[self.components[index].dc & 3], &self.ac[self.components[index].ac & 3]);
        if !self.progressive && scan.components.iter().map(tables).any(|(dc, ac)| dc.is_none() && ac.is_none()) {
            bits.align();
            while matches!(bytes.get(bits.at + 1), Some(0xd0..=0xd7)) {
                bits.at += 2;
                bits.align();
            }
            scan.components.iter().for_each(|&index| self.components[index].position.fill(0));
            return Ok(bits.at);
        }
        for component in self.components.iter_mut().filter(|component| self.progressive && component.nonzero.is_empty())
        {
            component.nonzero = vec![0; across * component.h * down * component.v];
        }
        let mut run = 0;
        let share = |unit: usize| 100 * unit / (columns * rows).max(1);
        let fail = |fault, unit| match fault {
            Fault::End => format!("the file is cut short or damaged: data end after {} % of a scan", share(unit)),
            Fault::Bad => format!("the file is damaged: wrong data after {} % of a scan", share(unit)),
        };
        for unit in 0..columns * rows {
            if self.restart > 0 && unit > 0 && unit % self.restart == 0 {
                let left = bits.align();
                let expected = 0xd0 + ((unit / self.restart - 1) % 8) as u8;
                match bits.bytes.get(bits.at + 1) {
                    Some(&marker) if marker == expected && left <= PADDING => bits.at += 2,
                    Some(0xd0..=0xd7) => return Err(fail(Fault::Bad, unit)),
                    _ => return Err(fail(Fault::End, unit)),
                }
                run = 0;
            }
            let (x, y) = (unit % columns, unit / columns);
            for &index in &scan.components {
                let component = &mut self.components[index];
                let (wide, high) = if single.is_some() { (1, 1) } else { (component.h, component.v) };
                let stride = across * component.h;
                for block in 0..wide * high {
                    let place = (y * high + block / wide) * stride + x * wide + block % wide;
                    let (dc, ac) = (&self.dc[component.dc & 3], &self.ac[component.ac & 3]);
                    let nonzero = component.nonzero.get_mut(place);
                    let read = if self.progressive {
                        progressive(&mut bits, scan, dc.as_ref(), ac.as_ref(), nonzero, &mut run)
                    } else {
                        baseline(&mut bits, dc.as_ref(), ac.as_ref())
                    };
                    read.map_err(|fault| fail(fault, unit))?;
                }
            }
        }
        for &index in &scan.components {
            self.components[index].position[scan.start..=scan.end].fill(scan.low);
        }
        let left = bits.align();
        if left > PADDING && bits.at < bytes.len() {
            return Err(format!("the file is damaged: {left} bytes of a scan are left over"));
        }
        Ok(bits.at)
    }

    /// Whether all coefficients of all components have been read to the last bit.
    fn complete(&self) -> Result<(), String> {
        if self.components.iter().flat_map(|component| &component.position).any(|&low| low != 0) {
            let scans = "its later scans are missing";
            return Err(cut(if self.progressive { scans } else { "a colour component is missing" }));
        }
        Ok(())
    }
}

fn baseline(bits: &mut Bits, dc: Option<&Table>, ac: Option<&Table>) -> Result<(), Fault> {
    let (Some(dc), Some(ac)) = (dc, ac) else { return Err(Fault::Bad) };
    let size = bits.symbol(dc)?;
    if size > 11 {
        return Err(Fault::Bad);
    }
    bits.skip(u32::from(size))?;
    let mut k = 1;
    while k < 64 {
        let symbol = bits.symbol(ac)?;
        match (symbol >> 4, symbol & 15) {
            (15, 0) => k += 16,
            (_, 0) => break,
            (run, size) => {
                k += usize::from(run);
                if k > 63 {
                    return Err(Fault::Bad);
                }
                bits.skip(u32::from(size))?;
                k += 1;
            }
        }
    }
    Ok(())
}

/// A block of a progressive scan; `run` is the number of further blocks without new coefficients.
fn progressive(
    bits: &mut Bits,
    scan: &Scan,
    dc: Option<&Table>,
    ac: Option<&Table>,
    nonzero: Option<&mut u64>,
    run: &mut u32,
) -> Result<(), Fault> {
    if scan.start == 0 {
        if scan.high > 0 {
            return bits.skip(1);
        }
        let size = bits.symbol(dc.ok_or(Fault::Bad)?)?;
        return if size > 11 { Err(Fault::Bad) } else { bits.skip(u32::from(size)) };
    }
    let (Some(ac), Some(nonzero)) = (ac, nonzero) else { return Err(Fault::Bad) };
    let mut k = scan.start;
    while *run == 0 && k <= scan.end {
        let symbol = bits.symbol(ac)?;
        let (mut zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 && zeros < 15 {
            *run = (1 << zeros) + bits.bits(zeros as u32)?;
            break;
        }
        if scan.high == 0 {
            k += zeros;
            if size > 0 {
                if k > scan.end {
                    return Err(Fault::Bad);
                }
                bits.skip(size)?;
                *nonzero |= 1 << k;
            }
        } else {
            // A new coefficient of this scan is ±1: its sign. Those known before take a bit each on the way.
            if size > 1 {
                return Err(Fault::Bad);
            }
            bits.skip(size)?;
            while k <= scan.end {
                if *nonzero & (1 << k) != 0 {
                    bits.skip(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if size > 0 {
                if k > scan.end {
                    return Err(Fault::Bad);
                }
                *nonzero |= 1 << k;
            }
        }
        k += 1;
    }
    if *run > 0 {
        if scan.high > 0 && k <= scan.end {
            let rest = (*nonzero >> k) & (u64::MAX >> (63 - (scan.end - k)));
            bits.skip(rest.count_ones().min(32))?;
            bits.skip(rest.count_ones().saturating_sub(32))?;
        }
        *run -= 1;
    }
    Ok(())
}
