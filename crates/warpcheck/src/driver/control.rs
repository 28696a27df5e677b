//! The exported `warpcheck_*` functions: options, findings and counters of the driver that is loaded in the
//! process. They work after `cuInit`; the library is the one
//! that the CUDA client has loaded (`dlopen("libcuda.so")` returns it). In Rust use [`crate::harness`].

use super::ffi::{Out, Text, api};
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use std::ffi::{CString, c_char};

/// Gives a string to the client, to be freed with `warpcheck_free`.
fn give(out: Out<*mut c_char>, text: String) -> DriverResult {
    out.required()?;
    let text = CString::new(text).map_err(|_| CuResult::UNKNOWN)?;
    out.set(text.into_raw())
}

fn json<T: serde::Serialize>(out: Out<*mut c_char>, value: &T) -> DriverResult {
    give(out, serde_json::to_string(value).map_err(|_| CuResult::UNKNOWN)?)
}

/// Waits for all submitted work, so that findings and counters are complete.
fn wait_for_work(driver: &Driver) {
    for context in driver.contexts.all() {
        // The findings report a broken context.
        let _ = context.wait_all();
    }
}

api! {
    /// Sets options: words `key=value`, separated by spaces or semicolons. The keys are `check`,
    /// `count`, `schedule`, `threads`, `budget`, `report`, `summary` and `blocking`; `profile` and
    /// `devices` are fixed once `cuInit` has run. A wrong word changes nothing, prints the reason on stderr
    /// and returns `CUDA_ERROR_INVALID_VALUE`.
    fn warpcheck_set_options[driver](text: Text) {
        wait_for_work(driver);
        let before = driver.options();
        let mut options = before.clone();
        let set = options.set_all(&text.get()?).map_err(|error| error.to_string()).and_then(|()| {
            if options.profile != before.profile || options.devices != before.devices {
                return Err("profile and devices are fixed once cuInit has run".to_owned());
            }
            Ok(())
        });
        if let Err(error) = set {
            eprintln!("warpcheck: error: {error}");
            return Err(CuResult::INVALID_VALUE);
        }
        driver.set_options(options);
        Ok(())
    }

    /// Clears findings, counters, leaks and notes.
    fn warpcheck_reset[driver]() {
        wait_for_work(driver);
        driver.report.reset();
        Ok(())
    }

    /// Number of findings since the last reset.
    fn warpcheck_findings_count[driver](out: Out<u64>) {
        wait_for_work(driver);
        out.set(driver.report.count())
    }

    /// The findings since the last reset as a JSON array.
    fn warpcheck_findings_json[driver](out: Out<*mut c_char>) {
        wait_for_work(driver);
        json(out, &driver.report.document(&[]).findings)
    }

    /// Totals by kernel since the last reset as a JSON array.
    fn warpcheck_counters_json[driver](out: Out<*mut c_char>) {
        wait_for_work(driver);
        json(out, &driver.report.document(&[]).kernels)
    }

    /// The whole report as a JSON object, as in the file of `WARPCHECK_REPORT`; its leaks are the
    /// allocations that are alive now.
    fn warpcheck_report_json[driver](out: Out<*mut c_char>) {
        wait_for_work(driver);
        json(out, &driver.report.document(&driver.leaks()))
    }

    /// Frees a string that one of these functions gave.
    fn warpcheck_free[](text: usize) {
        if text != 0 {
            // SAFETY: the client promises that it got the string from here and frees it once.
            drop(unsafe { CString::from_raw(text as *mut c_char) });
        }
        Ok(())
    }
}
