//! Libraries: modules that are loaded once for all contexts, and their kernels.

use super::context;
use super::ffi::{In, Out, Text, api};
use super::function::Function;
use super::module::{self, Loaded, Log};
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::table::{Handle, Table, lock};
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_uint};
use std::sync::{Arc, Mutex};

/// A library: an image, and the module it became on each context that asked.
#[derive(Debug)]
pub(super) struct Library {
    image: Vec<u8>,
    names: Vec<String>,
    modules: Mutex<HashMap<Handle, Arc<Loaded>>>,
    kernels: Mutex<HashMap<String, Handle>>,
}

/// A kernel of a library.
#[derive(Debug)]
pub(super) struct LibraryKernel {
    library: Handle,
    name: CString,
}

impl Library {
    /// The library's module on the current context.
    fn module(&self, driver: &Driver) -> DriverResult<Arc<Loaded>> {
        let context = context::current(driver)?;
        context.check_error()?;
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(&context.handle) {
            return Ok(module.clone());
        }
        let module = Loaded::load(driver, &context, &self.image, &mut Log::default())?;
        modules.insert(context.handle, module.clone());
        Ok(module)
    }

    fn kernel(&self, driver: &Driver, own: Handle, name: &str) -> DriverResult<Handle> {
        if !self.names.iter().any(|known| known == name) {
            return Err(CuResult::NOT_FOUND);
        }
        let mut kernels = lock(&self.kernels);
        if let Some(handle) = kernels.get(name) {
            return Ok(*handle);
        }
        let handle = driver
            .kernels
            .add(LibraryKernel { library: own, name: CString::new(name).map_err(|_| CuResult::INVALID_VALUE)? });
        kernels.insert(name.to_owned(), handle);
        Ok(handle)
    }
}

impl LibraryKernel {
    /// The kernel's function on the current context, with its handle.
    pub fn function(&self, driver: &Driver) -> DriverResult<(Handle, Arc<Function>)> {
        let module = driver.libraries.get(self.library)?.module(driver)?;
        let handle = module.function(driver, &self.name.to_string_lossy())?;
        Ok((handle, driver.functions.get(handle)?))
    }

    /// The kernel's function on a device, whichever context is current.
    fn function_on(&self, driver: &Driver, device: c_int) -> DriverResult<Arc<Function>> {
        driver.device(device)?;
        self.function(driver).map(|(_, function)| function)
    }
}

/// Loads an image on the current context and keeps it for others.
fn create(driver: &Driver, out: Out<Handle>, module: Arc<Loaded>, image: Vec<u8>) -> DriverResult {
    let handle = Table::<Library>::reserve();
    let can = module.module.kernels().map(|kernel| &kernel.name);
    let names = can.chain(module.module.refused().keys()).cloned().collect();
    let modules = HashMap::from([(module.context_handle, module)]);
    let library = Library { image, names, modules: Mutex::new(modules), kernels: Mutex::default() };
    driver.libraries.enter(handle, Arc::new(library));
    out.set(handle)
}

api! {
    /// Loads a library from memory.
    fn cuLibraryLoadData[driver, context](
        out: Out<Handle>, image: In<u8>,
        keys: In<c_uint>, values: Out<usize>, count: c_uint,
        _options: In<c_uint>, _option_values: Out<usize>, _option_count: c_uint,
    ) {
        out.required()?;
        let mut log = Log::from_options(keys, values, count as usize)?;
        let image = module::read(driver, image, &mut log)?;
        let module = module::load_bytes(driver, context, &image, log)?;
        create(driver, out, module, image)
    }

    /// Loads a library from a file.
    fn cuLibraryLoadFromFile[driver, context](
        out: Out<Handle>, name: Text,
        keys: In<c_uint>, values: Out<usize>, count: c_uint,
        _options: In<c_uint>, _option_values: Out<usize>, _option_count: c_uint,
    ) {
        out.required()?;
        let log = Log::from_options(keys, values, count as usize)?;
        let image = module::read_file(driver, name)?;
        let module = module::load_bytes(driver, context, &image, log)?;
        create(driver, out, module, image)
    }

    /// Unloads a library.
    fn cuLibraryUnload[driver](library: Handle) {
        let library = driver.libraries.remove(library)?;
        for (_, kernel) in lock(&library.kernels).drain() {
            driver.kernels.remove(kernel)?;
        }
        for (context, module) in lock(&library.modules).drain() {
            let Some(context) = driver.contexts.find(context) else { continue };
            // Work that uses the module must be done; a broken context still loses it.
            let _ = context.wait_all();
            driver.modules.remove(module.handle)?;
            module.unload(driver);
        }
        Ok(())
    }

    /// A kernel of a library.
    fn cuLibraryGetKernel[driver](out: Out<Handle>, library: Handle, name: Text) {
        out.required()?;
        out.set(driver.libraries.get(library)?.kernel(driver, library, &name.get()?)?)
    }

    /// How many kernels a library has.
    fn cuLibraryGetKernelCount[driver](out: Out<c_uint>, library: Handle) {
        out.required()?;
        out.set(driver.libraries.get(library)?.names.len() as c_uint)
    }

    /// The kernels of a library.
    fn cuLibraryEnumerateKernels[driver](out: Out<Handle>, room: c_uint, handle: Handle) {
        out.required()?;
        let library = driver.libraries.get(handle)?;
        let kernels = library.names.iter().take(room as usize);
        let handles = kernels
            .map(|name| library.kernel(driver, handle, name))
            .collect::<DriverResult<Vec<Handle>>>()?;
        out.set_list(&handles, room as usize);
        Ok(())
    }

    /// The module that a library is on the current context.
    fn cuLibraryGetModule[driver](out: Out<Handle>, library: Handle) {
        out.required()?;
        out.set(driver.libraries.get(library)?.module(driver)?.handle)
    }

    /// A variable of a library on the current context.
    fn cuLibraryGetGlobal[driver](
        address: Out<u64>, bytes: Out<usize>, library: Handle, name: Text,
    ) {
        let module = driver.libraries.get(library)?.module(driver)?;
        module::global(&module.module, name, address, bytes)
    }

    /// A managed variable of a library: NVRTC makes variables of modules only.
    fn cuLibraryGetManaged[driver](
        _address: Out<u64>, _bytes: Out<usize>, library: Handle, _name: Text,
    ) {
        driver.libraries.get(library)?;
        Err(CuResult::NOT_FOUND)
    }

    /// The function of a kernel on the current context.
    fn cuKernelGetFunction[driver](out: Out<Handle>, kernel: Handle) {
        out.required()?;
        out.set(driver.kernels.get(kernel)?.function(driver)?.0)
    }

    /// The library of a kernel.
    fn cuKernelGetLibrary[driver](out: Out<Handle>, kernel: Handle) {
        out.required()?;
        out.set(driver.kernels.get(kernel)?.library)
    }

    /// The name of a kernel.
    fn cuKernelGetName[driver](out: Out<*const c_char>, kernel: Handle) {
        out.required()?;
        // Valid as long as the library: the table holds the kernel until then.
        out.set(driver.kernels.get(kernel)?.name.as_ptr())
    }

    /// Offset and size of a kernel's parameter.
    fn cuKernelGetParamInfo[driver](
        kernel: Handle, index: usize, offset: Out<usize>, size: Out<usize>,
    ) {
        offset.required()?;
        let (_, function) = driver.kernels.get(kernel)?.function(driver)?;
        let (at, bytes) = function.parameter(index)?;
        size.set_if(bytes);
        offset.set(at)
    }

    /// An attribute of a kernel.
    fn cuKernelGetAttribute[driver](
        out: Out<c_int>, attribute: c_uint, kernel: Handle, device: c_int,
    ) {
        out.required()?;
        let function = driver.kernels.get(kernel)?.function_on(driver, device)?;
        out.set(function.attribute(driver.profile(device as u32), attribute)?)
    }

    /// Sets an attribute of a kernel.
    fn cuKernelSetAttribute[driver](
        attribute: c_uint, value: c_int, kernel: Handle, device: c_int,
    ) {
        let function = driver.kernels.get(kernel)?.function_on(driver, device)?;
        function.set_attribute(driver.profile(device as u32), attribute, value)
    }

    /// Sets the preferred split between cache and shared memory; a hint without effect.
    fn cuKernelSetCacheConfig[driver](kernel: Handle, config: c_uint, device: c_int) {
        driver.kernels.get(kernel)?.function_on(driver, device)?.set_cache(config)
    }
}
