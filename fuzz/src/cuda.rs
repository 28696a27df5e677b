//! What warpcheck and the cache of compiled kernels read.

use std::sync::OnceLock;

use alexnet_kernels::cache;
use sha2::{Digest, Sha256};
use warpcheck::driver::ptx_of_file;
use warpcheck::engine::Engine;
use warpcheck::launch::{Launch, LaunchOptions};
use warpcheck::memory::Kind;
use warpcheck::profile::Profile;

use super::Folder;

/// Most shared memory of a block that the driver lets a kernel have.
const SHARED: u32 = 48 << 10;

/// PTX: it loads or the error says why; its kernels run to an end with all checks.
pub fn ptx(input: &[u8]) -> usize {
    static MACHINE: OnceLock<(Engine, Profile)> = OnceLock::new();
    let (engine, profile) =
        MACHINE.get_or_init(|| (Engine::new(), Profile::by_name("h100").expect("a profile of warpcheck")));
    let module = match engine.load(0, profile, input) {
        Ok(module) => module,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return 0;
        }
    };
    let memory = engine.memory();
    for kernel in module.kernels().take(4) {
        if kernel.static_shared > SHARED || kernel.local_bytes > 16 << 10 || kernel.param_bytes > 4096 {
            continue;
        }
        let buffer = memory.allocate(Kind::Device, 0, 1024, 256, "buffer").expect("room for a buffer");
        memory.write(buffer, &[1; 512]).expect("memory just allocated");
        let mut params = vec![0; kernel.param_bytes];
        for param in &kernel.params {
            // An address where there is room for one, else a small number.
            let value = if param.size == 8 { buffer } else { 3 };
            let bytes = value.to_le_bytes();
            let room = param.size.min(8);
            params[param.offset..param.offset + room].copy_from_slice(&bytes[..room]);
        }
        let block = kernel.required_threads.filter(|sides| sides.iter().product::<u32>() <= 64).unwrap_or([33, 1, 1]);
        let (grid, dynamic_shared) = ([2, 1, 1], 0);
        let launch = Launch { kernel, device: 0, profile, grid, block, dynamic_shared, params: &params };
        let options = LaunchOptions { budget: 500, threads: 1, count: true, ..LaunchOptions::checked() };
        let outcome = engine.launch(&launch, &options);
        assert!(outcome.findings.iter().all(|finding| !finding.message.is_empty()));
        memory.free(buffer).expect("memory just allocated");
    }
    engine.unload(&module);
    assert!(memory.live().is_empty(), "an unloaded module leaves memory behind");
    0
}

/// A file for `cuModuleLoad`: PTX, a fat binary or something else. What is found in it is loaded too.
pub fn module(input: &[u8]) -> usize {
    if let Ok(text) = ptx_of_file(input.to_vec()) {
        assert!(text.len() <= input.len() && !text.contains(&0));
        ptx(&text);
    }
    0
}

/// An entry of the cache: its first 64 bytes are the checksum, the rest is the image. What is read has this checksum, and
/// a damaged entry is replaced.
pub fn nvrtc_cache(input: &[u8]) -> usize {
    thread_local!(static FOLDER: Folder = Folder::new());
    FOLDER.with(|folder| {
        let (sum, image) = input.split_at(input.len().min(64));
        folder.write("entry/sha256", sum);
        folder.write("entry/image", image);
        let entry = folder.path().join("entry");
        let right: String = Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect();
        let whole = sum == right.as_bytes();
        assert_eq!(cache::read(&entry).is_some(), whole);
        if input.len().is_multiple_of(8) {
            cache::write(&entry, image).expect("the folder can be written");
            assert_eq!(cache::read(&entry).as_deref(), Some(image), "a damaged entry is not replaced");
        }
    });
    0
}
