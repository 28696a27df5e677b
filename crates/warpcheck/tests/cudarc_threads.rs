//! Launches of several threads at a time, and what the race check makes of them.

mod client;

use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};

/// `write`: each block writes its word many times. `read`: reads the word of the second block.
const KERNELS: &str = "
.version 7.0
.target sm_70
.address_size 64
.visible .entry write(.param .u64 x, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<4>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [x];
    ld.param.u32 %r3, [n];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %ctaid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd2, %rd3;
    mov.u32 %r2, 0;
again:
    st.global.u32 [%rd4], %r2;
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p1, %r2, %r3;
    @%p1 bra again;
    ret;
}
.visible .entry read(.param .u64 x)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [x];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [%rd2+4];
    st.global.u32 [%rd2+8], %r1;
    ret;
}";

/// While a launch runs, another thread begins more launches than the race check's entries tell apart.
#[test]
fn a_long_launch_beside_many_short_ones_is_no_race() {
    let driver = client::driver(&[("WARPCHECK_CHECK", "all")]);
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each array is used on one stream.
    unsafe { context.disable_event_tracking() };
    let module = context.load_module(KERNELS.into()).unwrap();
    let [write, read] = ["write", "read"].map(|name| module.load_function(name).unwrap());
    let config = |blocks| LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let stream = context.new_stream().unwrap();
            let x = stream.alloc_zeros::<u32>(2).unwrap();
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the array has a word per block.
                unsafe { stream.launch_builder(&write).arg(&x).arg(&1u32).launch(config(1)) }.unwrap();
            }
        });
        let stream = context.new_stream().unwrap();
        let x = stream.alloc_zeros::<u32>(3).unwrap();
        for _ in 0..200 {
            // SAFETY: the array has a word per block, and one more.
            unsafe {
                stream.launch_builder(&write).arg(&x).arg(&20_000u32).launch(config(2)).unwrap();
                stream.launch_builder(&read).arg(&x).launch(config(1)).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(stream.clone_dtoh(&x).unwrap(), [19_999; 3]);
    });
    assert_eq!(driver.findings(), 0);
}
