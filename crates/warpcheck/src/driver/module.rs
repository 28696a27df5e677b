//! Modules: PTX in, functions and variables out.

use super::compressed::Format;
use super::context::Context;
use super::ffi::{In, Out, Text, api};
use super::function::{AllSettings, Function, Settings};
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::table::{Handle, Table, lock};
use crate::engine::Module;
use std::collections::HashMap;
use std::ffi::{c_char, c_uint, c_void};
use std::sync::{Arc, Mutex};

/// The longest PTX that is read from a pointer without a known length, in bytes.
const MOST_TEXT: usize = 256 << 20;

/// A module on a context.
#[derive(Debug)]
pub(super) struct Loaded {
    pub handle: Handle,
    pub context_handle: Handle,
    pub device: u32,
    pub module: Arc<Module>,
    /// Registers per thread that the loading program allows.
    pub max_registers: u32,
    settings: AllSettings,
    /// The functions' handles, so that each function has one.
    functions: Mutex<HashMap<String, Handle>>,
}

impl Loaded {
    /// Loads PTX into a context.
    pub fn load(driver: &Driver, context: &Context, image: &[u8], log: &mut Log) -> DriverResult<Arc<Loaded>> {
        let profile = driver.profile(context.device);
        let module = driver.engine.load(context.device, profile, image).map_err(|error| {
            // The error names the line, which an error code cannot.
            log.write(&format!("warpcheck: {error}"));
            driver.report.note(&format!("PTX is refused: {error}"));
            if error.unsupported_target { CuResult::NO_BINARY_FOR_GPU } else { CuResult::INVALID_PTX }
        })?;
        for (name, error) in module.refused() {
            log.write(&format!("warpcheck: kernel {name} cannot run: {error}"));
        }
        let handle = Table::<Loaded>::reserve();
        let loaded = Arc::new(Loaded {
            handle,
            context_handle: context.handle,
            device: context.device,
            module,
            max_registers: log.registers.unwrap_or(u32::MAX),
            settings: AllSettings::default(),
            functions: Mutex::default(),
        });
        driver.modules.enter(handle, loaded.clone());
        Ok(loaded)
    }

    /// The settings of a function of the module.
    pub fn settings(&self, name: &str) -> Arc<Settings> {
        self.settings.of(name)
    }

    /// The handle of a function of the module.
    pub fn function(self: &Arc<Self>, driver: &Driver, name: &str) -> DriverResult<Handle> {
        let mut functions = lock(&self.functions);
        if let Some(handle) = functions.get(name) {
            return Ok(*handle);
        }
        if let Some(error) = self.module.refused().get(name) {
            driver.report.note(&format!("kernel {name} cannot run, others of its module can: {error}"));
            return Err(CuResult::NOT_SUPPORTED);
        }
        let kernel = self.module.kernel(name).ok_or(CuResult::NOT_FOUND)?;
        let handle = driver.functions.add(Function::new(self.clone(), kernel));
        functions.insert(name.to_owned(), handle);
        Ok(handle)
    }

    /// Takes the module's functions out of the tables and frees its variables.
    pub fn unload(&self, driver: &Driver) {
        for (_, handle) in lock(&self.functions).drain() {
            // Already removed if the context is being destroyed.
            let _ = driver.functions.remove(handle);
        }
        driver.engine.unload(&self.module);
    }
}

const FATBIN: u32 = 0xba55_ed50;
const WRAPPER: u32 = 0x4662_43b1;
const ELF: u32 = 0x464c_457f;

/// An image in the client's memory; nothing beyond a known length is read.
#[derive(Clone, Copy)]
struct Image {
    pointer: In<u8>,
    length: usize,
}

impl Image {
    fn byte(self, at: usize) -> DriverResult<u8> {
        if at >= self.length {
            return Err(CuResult::INVALID_IMAGE);
        }
        self.pointer.at(at)
    }

    fn word(self, at: usize) -> DriverResult<u32> {
        let mut bytes = [0; 4];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(at + index)?;
        }
        Ok(u32::from_le_bytes(bytes))
    }

    fn long(self, at: usize) -> DriverResult<usize> {
        Ok((u64::from(self.word(at)?) | u64::from(self.word(at + 4)?) << 32) as usize)
    }

    /// The first four bytes; text that is shorter has none.
    fn magic(self) -> DriverResult<u32> {
        let short = (0..4).any(|at| self.byte(at).is_ok_and(|byte| byte == 0));
        if short { self.byte(0).map(u32::from) } else { self.word(0) }
    }

    /// The PTX in the image: the text itself up to its zero, or what a fat binary holds.
    fn ptx(self) -> Result<Vec<u8>, Refusal> {
        match self.magic()? {
            FATBIN => self.fat_binary(),
            WRAPPER => {
                let pointer = In::from_address(self.long(8)?);
                Image { pointer, length: usize::MAX }.fat_binary()
            }
            ELF => Err(Refusal {
                code: CuResult::NO_BINARY_FOR_GPU,
                why: "this is a cubin, machine code of one GPU; hand over PTX: nvcc -ptx or -gencode arch=compute_80,code=compute_80, \
                      NVRTC with compute_ in place of sm_",
            }),
            _ => {
                let mut text = Vec::new();
                loop {
                    match self.byte(text.len())? {
                        0 => return Ok(text),
                        _ if text.len() == MOST_TEXT => return Err(CuResult::INVALID_IMAGE.into()),
                        byte => text.push(byte),
                    }
                }
            }
        }
    }

    /// The newest PTX of a fat binary, if it holds any.
    fn fat_binary(self) -> Result<Vec<u8>, Refusal> {
        if self.word(0)? != FATBIN {
            return Err(CuResult::INVALID_IMAGE.into());
        }
        // Header: magic, version and header size (16 bits each), bytes that follow (64 bits).
        let header = (self.word(4)? >> 16) as usize;
        let end = self.long(8)?.checked_add(header).ok_or(CuResult::INVALID_IMAGE)?;
        let mut at = header;
        let mut best: Option<(u32, Format, usize, usize)> = None;
        let mut machine = false;
        while end.saturating_sub(at) >= 48 {
            // Entry: kind and version (16 bits each), header size, payload size (64 bits),
            // compressed size (32 bits), architecture at 28, flags at 40.
            let kind = self.word(at)? & 0xffff;
            let (entry, payload) = (self.word(at + 4)? as usize, self.long(at + 8)?);
            let (compressed, target) = (self.word(at + 16)? as usize, self.word(at + 28)?);
            let format = Format::from_flags(self.word(at + 40)?);
            let next = at.checked_add(entry).and_then(|next| next.checked_add(payload));
            let next = next.filter(|next| *next <= end && entry >= 48);
            let next = next.ok_or(CuResult::INVALID_IMAGE)?;
            if kind == 1 && best.is_none_or(|(known, ..)| target > known) {
                // The payload is filled up to a multiple of eight bytes.
                let length = if format == Format::Text { payload } else { compressed.min(payload) };
                best = Some((target, format, at + entry, at + entry + length));
            }
            machine |= kind == 2;
            at = next;
        }
        let (_, format, start, end) = best.ok_or(Refusal {
            code: CuResult::NO_BINARY_FOR_GPU,
            why: match machine {
                true => {
                    "the fat binary holds machine code only; nvcc -gencode arch=compute_80,code=compute_80 adds PTX"
                }
                false => "the fat binary holds no PTX",
            },
        })?;
        let bytes = (start..end).map(|at| self.byte(at)).collect::<DriverResult<Vec<u8>>>()?;
        let text = format.expand(&bytes, MOST_TEXT).ok_or(Refusal {
            code: CuResult::INVALID_IMAGE,
            why: "the fat binary's compressed PTX is damaged; nvcc -no-compress leaves it as text",
        })?;
        Ok(text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
    }
}

/// Why an image holds no PTX that can be loaded.
#[derive(Debug)]
struct Refusal {
    code: CuResult,
    why: &'static str,
}

impl From<CuResult> for Refusal {
    fn from(code: CuResult) -> Refusal {
        Refusal { code, why: "the image is neither PTX nor a fat binary, or ends too early" }
    }
}

/// The PTX of an image that has been read; if there is none, says why on stderr and in the log.
fn accept(driver: &Driver, image: Result<Vec<u8>, Refusal>, log: &mut Log) -> DriverResult<Vec<u8>> {
    image.map_err(|refusal| {
        // A null pointer.
        if refusal.code == CuResult::INVALID_VALUE {
            return refusal.code;
        }
        log.write(&format!("warpcheck: {}", refusal.why));
        driver.report.note(&format!("a module is refused: {}", refusal.why));
        refusal.code
    })
}

/// The client's error log buffer and limit of registers, from the JIT options.
#[derive(Debug, Default)]
pub(super) struct Log {
    registers: Option<u32>,
    buffer: Option<Out<c_char>>,
    room: usize,
    /// Where the number of bytes written goes.
    written: Option<Out<usize>>,
}

impl Log {
    /// Finds the buffer for errors among the options.
    pub fn from_options(keys: In<c_uint>, values: Out<usize>, count: usize) -> DriverResult<Log> {
        let mut log = Log::default();
        for index in 0..count {
            match keys.at(index)? {
                0 => log.registers = u32::try_from(values.at(index).get()?).ok().filter(|most| *most > 0),
                5 => log.buffer = Some(Out::from_address(values.at(index).get()?)),
                6 => {
                    log.room = values.at(index).get()?;
                    log.written = Some(values.at(index));
                }
                // Limits and hints for a compiler that does not run here; unknown options are errors.
                key if key < 34 => {}
                _ => return Err(CuResult::INVALID_VALUE),
            }
        }
        Ok(log)
    }

    fn write(&mut self, text: &str) {
        let Some(buffer) = self.buffer.filter(|buffer| buffer.wanted() && self.room > 0) else {
            return;
        };
        let bytes: Vec<c_char> = text.bytes().take(self.room - 1).chain([0]).map(|byte| byte as c_char).collect();
        let count = buffer.set_list(&bytes, self.room);
        if let Some(written) = self.written {
            written.set_if(count);
        }
    }
}

/// Reads an image.
pub(super) fn read(driver: &Driver, pointer: In<u8>, log: &mut Log) -> DriverResult<Vec<u8>> {
    accept(driver, Image { pointer, length: usize::MAX }.ptx(), log)
}

/// Reads a file.
pub(super) fn read_file(driver: &Driver, name: Text) -> DriverResult<Vec<u8>> {
    let bytes = std::fs::read(name.get()?).map_err(|_| CuResult::FILE_NOT_FOUND)?;
    accept(driver, of_file(bytes), &mut Log::default())
}

/// The PTX in a file for `cuModuleLoad`: text, or a fat binary.
///
/// # Errors
/// The code that the driver answers: the file is neither, or holds no PTX.
pub fn ptx_of_file(bytes: Vec<u8>) -> Result<Vec<u8>, CuResult> {
    of_file(bytes).map_err(|refusal| refusal.code)
}

fn of_file(mut bytes: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    // A zero after it, so that it ends as text in memory does.
    bytes.push(0);
    let image = Image { pointer: In::from_address(bytes.as_ptr() as usize), length: bytes.len() };
    // A wrapper holds an address, and none in a file is one of this process.
    if image.magic()? == WRAPPER { Err(CuResult::INVALID_IMAGE.into()) } else { image.ptx() }
}

/// Loads PTX that has been read.
pub(super) fn load_bytes(driver: &Driver, context: &Context, image: &[u8], mut log: Log) -> DriverResult<Arc<Loaded>> {
    Loaded::load(driver, context, image, &mut log)
}

/// Address and size of a module's variable.
pub(super) fn global(module: &Module, name: Text, address: Out<u64>, bytes: Out<usize>) -> DriverResult {
    let (at, size) = module.global(&name.get()?).ok_or(CuResult::NOT_FOUND)?;
    address.set_if(at);
    bytes.set_if(size as usize);
    Ok(())
}

api! {
    /// Loads a module from a file.
    fn cuModuleLoad[driver, context](out: Out<Handle>, name: Text) {
        out.required()?;
        out.set(load_bytes(driver, context, &read_file(driver, name)?, Log::default())?.handle)
    }

    /// Loads a module from memory.
    fn cuModuleLoadData[driver, context](out: Out<Handle>, image: In<u8>) {
        out.required()?;
        out.set(load_bytes(driver, context, &read(driver, image, &mut Log::default())?, Log::default())?.handle)
    }

    /// Loads a module from memory, with options for the compiler.
    fn cuModuleLoadDataEx[driver, context](
        out: Out<Handle>, image: In<u8>, count: c_uint, keys: In<c_uint>, values: Out<usize>,
    ) {
        out.required()?;
        let mut log = Log::from_options(keys, values, count as usize)?;
        let image = read(driver, image, &mut log)?;
        out.set(load_bytes(driver, context, &image, log)?.handle)
    }

    /// Loads the PTX of a fat binary.
    fn cuModuleLoadFatBinary[driver, context](out: Out<Handle>, image: In<u8>) {
        out.required()?;
        out.set(load_bytes(driver, context, &read(driver, image, &mut Log::default())?, Log::default())?.handle)
    }

    /// Unloads a module.
    fn cuModuleUnload[driver](module: Handle) {
        let module = driver.modules.remove(module)?;
        if let Some(context) = driver.contexts.find(module.context_handle) {
            // Work that uses the module must be done; a broken context is reported below.
            let _ = context.wait_all();
            module.unload(driver);
            return context.check_error();
        }
        module.unload(driver);
        Ok(())
    }

    /// When functions are loaded: at once.
    fn cuModuleGetLoadingMode[_driver](out: Out<c_uint>) {
        out.set(1)
    }

    /// A function of a module.
    fn cuModuleGetFunction[driver, _context](out: Out<Handle>, module: Handle, name: Text) {
        out.required()?;
        let module = driver.modules.get(module)?;
        out.set(module.function(driver, &name.get()?)?)
    }

    /// How many functions a module has.
    fn cuModuleGetFunctionCount[driver](out: Out<c_uint>, module: Handle) {
        out.required()?;
        out.set(driver.modules.get(module)?.module.kernels().count() as c_uint)
    }

    /// The functions of a module.
    fn cuModuleEnumerateFunctions[driver](out: Out<Handle>, room: c_uint, module: Handle) {
        out.required()?;
        let module = driver.modules.get(module)?;
        let handles: Vec<Handle> = module
            .module
            .kernels()
            .take(room as usize)
            .map(|kernel| module.function(driver, &kernel.name))
            .collect::<DriverResult<_>>()?;
        out.set_list(&handles, room as usize);
        Ok(())
    }

    /// A variable of a module.
    fn cuModuleGetGlobal_v2[driver, _context](
        address: Out<u64>, bytes: Out<usize>, module: Handle, name: Text,
    ) {
        global(&driver.modules.get(module)?.module, name, address, bytes)
    }

    /// A texture of a module: textures are not supported.
    fn cuModuleGetTexRef[driver](_out: Out<c_void>, module: Handle, _name: Text) {
        driver.modules.get(module)?;
        Err(CuResult::NOT_FOUND)
    }

    /// A surface of a module: surfaces are not supported.
    fn cuModuleGetSurfRef[driver](_out: Out<c_void>, module: Handle, _name: Text) {
        driver.modules.get(module)?;
        Err(CuResult::NOT_FOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_holds_addresses_or_impossible_lengths_is_refused() {
        let wrapper = [&WRAPPER.to_le_bytes()[..], &1u32.to_le_bytes(), &8u64.to_le_bytes(), &[0; 8]].concat();
        assert_eq!(ptx_of_file(wrapper), Err(CuResult::INVALID_IMAGE));
        // An entry that ends where addresses do.
        let header = [&FATBIN.to_le_bytes()[..], &(16u32 << 16).to_le_bytes(), &(u64::MAX - 16).to_le_bytes()].concat();
        let mut entry = [&2u32.to_le_bytes()[..], &48u32.to_le_bytes(), &(u64::MAX - 64).to_le_bytes()].concat();
        entry.resize(48, 0);
        assert_eq!(ptx_of_file([header, entry].concat()), Err(CuResult::NO_BINARY_FOR_GPU));
    }
}
