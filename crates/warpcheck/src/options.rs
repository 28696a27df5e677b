//! Options, from environment variables or `key=value` words; a wrong value is an error.

use crate::launch::LaunchOptions;
use crate::profile::{Profile, UnknownProfile};
use std::path::PathBuf;

/// The environment variables and their keys in `key=value` words.
pub const VARIABLES: [(&str, &str); 12] = [
    ("WARPCHECK_CHECK", "check"),
    ("WARPCHECK_STRICT", "strict"),
    ("WARPCHECK_COUNT", "count"),
    ("WARPCHECK_SCHEDULE", "schedule"),
    ("WARPCHECK_THREADS", "threads"),
    ("WARPCHECK_BUDGET", "budget"),
    ("WARPCHECK_ON_FAULT", "on_fault"),
    ("WARPCHECK_REPORT", "report"),
    ("WARPCHECK_PROFILE", "profile"),
    ("WARPCHECK_DEVICES", "devices"),
    ("WARPCHECK_SUMMARY", "summary"),
    ("CUDA_LAUNCH_BLOCKING", "blocking"),
];

/// Variables of the tests and tools around the driver, which it does not read itself.
const OTHERS: [&str; 1] = ["WARPCHECK_NVRTC"];

/// All options.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Checks, counters and schedule of launches. All checks are on by default, since checking kernels is what
    /// this driver is for.
    pub launch: LaunchOptions,
    /// Whether the context goes on after a launch that failed, as if it had not.
    pub continue_after_fault: bool,
    /// Where the report goes as JSON; `%p` in the name stands for the process id.
    pub report: Option<PathBuf>,
    /// The profile of all devices.
    pub profile: Profile,
    /// Number of devices.
    pub devices: u32,
    /// Whether leaks, totals and the counter table are printed when the process ends.
    pub summary: bool,
    /// Whether a launch waits for its end and returns its own error.
    pub blocking: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            launch: LaunchOptions::checked(),
            continue_after_fault: false,
            report: None,
            profile: Profile::default(),
            devices: 1,
            summary: true,
            blocking: false,
        }
    }
}

/// A wrong option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A key that does not exist.
    #[error("there is no option {0:?}; the options are {list}", list = VARIABLES.map(|(_, key)| key).join(", "))]
    Unknown(String),
    /// A word without `=`.
    #[error("{0:?} is no option; write key=value, as in check=mem,race")]
    NoValue(String),
    /// A check that does not exist.
    #[error("{name}: there is no check {check:?}; choose from mem, init, race, sync, or all or none")]
    Check {
        /// The option's name.
        name: String,
        /// The given value.
        check: String,
    },
    /// Not a number, or out of range.
    #[error("{name}={value:?}: expected {expected}")]
    Value {
        /// The option's name.
        name: String,
        /// The given value.
        value: String,
        /// The allowed values.
        expected: &'static str,
    },
    /// A profile that does not exist.
    #[error("{name}: {error}")]
    Profile {
        /// The option's name.
        name: String,
        /// The problem.
        error: UnknownProfile,
    },
}

impl Options {
    /// The options of the process's environment.
    pub fn from_environment() -> Result<Options, OptionError> {
        let mut options = Options::default();
        for (variable, key) in VARIABLES {
            if let Some(value) = std::env::var_os(variable) {
                options.set(variable, key, &value.to_string_lossy())?;
            }
        }
        Ok(options)
    }

    /// Unknown variables that begin with `WARPCHECK_`, such as misspelt ones.
    pub fn unknown_variables() -> Vec<String> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let known = |name: &str| OTHERS.contains(&name) || VARIABLES.iter().any(|(variable, _)| *variable == name);
        names.filter(|name| name.starts_with("WARPCHECK_") && !known(name)).collect()
    }

    /// Sets options from `key=value` words separated by spaces or semicolons.
    pub fn set_all(&mut self, text: &str) -> Result<(), OptionError> {
        let words = text.split(|c: char| c == ';' || c.is_whitespace());
        for word in words.filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').ok_or_else(|| OptionError::NoValue(word.to_owned()))?;
            self.set(key, key, value)?;
        }
        Ok(())
    }

    /// Sets one option; `name` is how errors call it.
    fn set(&mut self, name: &str, key: &str, value: &str) -> Result<(), OptionError> {
        let value = value.trim();
        match key {
            "check" => self.set_checks(name, value)?,
            "strict" => self.launch.strict = flag(name, value)?,
            "count" => self.launch.count = flag(name, value)?,
            "schedule" if value.is_empty() => self.launch.schedule = None,
            "schedule" => self.launch.schedule = Some(number(name, value, "a seed, as in 7")?),
            "threads" => {
                let threads: u32 = number(name, value, "a number of threads, 0 for all cores")?;
                self.launch.threads = threads as usize;
            }
            "budget" => {
                let expected = "a number of instructions greater than 0";
                self.launch.budget = number(name, value, expected)?;
                if self.launch.budget == 0 {
                    return Err(wrong(name, value, expected));
                }
                // Who says how many means it, however short that is.
                self.launch.seconds = 0;
            }
            "on_fault" => {
                self.continue_after_fault = match value {
                    "continue" => true,
                    "stop" | "" => false,
                    _ => return Err(wrong(name, value, "continue or stop")),
                };
            }
            "report" if value.is_empty() => self.report = None,
            "report" => self.report = Some(PathBuf::from(value)),
            "profile" => {
                self.profile =
                    Profile::by_name(value).map_err(|error| OptionError::Profile { name: name.to_owned(), error })?;
            }
            "devices" => {
                let expected = "a number of devices from 0 to 16";
                self.devices = number(name, value, expected)?;
                if self.devices > 16 {
                    return Err(wrong(name, value, expected));
                }
            }
            "summary" => self.summary = flag(name, value)?,
            "blocking" => self.blocking = flag(name, value)?,
            _ => return Err(OptionError::Unknown(key.to_owned())),
        }
        Ok(())
    }

    fn set_checks(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let launch = &mut self.launch;
        let mut set = [false; 4];
        for check in value.split(',').map(str::trim) {
            match check {
                "mem" => set[0] = true,
                "init" => set[1] = true,
                "race" => set[2] = true,
                "sync" => set[3] = true,
                "all" => set = [true; 4],
                "none" | "" => {}
                _ => {
                    return Err(OptionError::Check { name: name.to_owned(), check: check.to_owned() });
                }
            }
        }
        [launch.mem, launch.init, launch.race, launch.sync] = set;
        Ok(())
    }
}

fn wrong(name: &str, value: &str, expected: &'static str) -> OptionError {
    OptionError::Value { name: name.to_owned(), value: value.to_owned(), expected }
}

fn flag(name: &str, value: &str) -> Result<bool, OptionError> {
    match value {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" | "" => Ok(false),
        _ => Err(wrong(name, value, "1 or 0")),
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str, expected: &'static str) -> Result<T, OptionError> {
    value.parse().map_err(|_| wrong(name, value, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<Options, OptionError> {
        let mut options = Options::default();
        options.set_all(text)?;
        Ok(options)
    }

    #[test]
    fn all_checks_are_on_until_somebody_chooses() {
        assert_eq!(Options::default().launch, LaunchOptions::checked());
        let some = set("check=mem,sync").unwrap().launch;
        assert_eq!([some.mem, some.init, some.race, some.sync], [true, false, false, true]);
        let none = set("check=none").unwrap().launch;
        assert_eq!(none, LaunchOptions::default());
    }

    #[test]
    fn every_key_is_taken() {
        let options =
            set("check=all; strict=1;count=1;schedule=9 threads=2 budget=1000 on_fault=continue report=/x/%p.json \
             profile=h100 devices=2 summary=0 blocking=1")
            .unwrap();
        assert!(
            options.launch.count
                && options.launch.strict
                && options.continue_after_fault
                && options.blocking
                && !options.summary
        );
        assert_eq!(options.launch.schedule, Some(9));
        assert_eq!((options.launch.budget, options.launch.seconds), (1000, 0));
        assert_eq!(options.devices, 2);
        assert_eq!(options.profile.sm(), 90);
        assert_eq!(set("schedule=").unwrap().launch.schedule, None);
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_it() {
        for (text, parts) in [
            ("check=mem,rice", ["rice", "race"]),
            ("count=2", ["count", "1 or 0"]),
            ("schedule=x", ["schedule", "seed"]),
            ("budget=0", ["budget", "greater"]),
            ("on_fault=go", ["on_fault", "continue or stop"]),
            ("devices=17", ["17", "0 to 16"]),
            ("profile=voodoo", ["voodoo", "a100"]),
            ("chekc=all", ["chekc", "check"]),
            ("all", ["all", "key=value"]),
        ] {
            let error = set(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }
}
