//! How often a run saves itself.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// When a checkpoint is due: `5` epochs, or a time such as `90s`, `10m` or `1.5h`. In TOML an integer or a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointEvery {
    /// After every epoch whose number is a multiple of this one, which is at least 1.
    Epochs(usize),
    /// After the first step or epoch that ends so long after the last checkpoint.
    Time(Duration),
}

/// Seconds per unit, the longest unit first.
const UNITS: [(char, u64); 3] = [('h', 3600), ('m', 60), ('s', 1)];
/// A year.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

impl FromStr for CheckpointEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let refused =
            || format!("`{text}` is neither a number of epochs, such as 5, nor a time, such as 90s, 10m or 2h");
        if let Ok(epochs) = text.parse() {
            return if epochs > 0 { Ok(Self::Epochs(epochs)) } else { Err(refused()) };
        }
        let of_unit = |(unit, seconds): (char, u64)| Some((text.strip_suffix(unit)?, seconds as f64));
        let (count, unit) = UNITS.into_iter().find_map(of_unit).ok_or_else(refused)?;
        let seconds = count.trim_end().parse::<f64>().map_err(|_| refused())? * unit;
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if !time.is_zero() && time <= LONGEST => Ok(Self::Time(time)),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for CheckpointEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = match self {
            Self::Epochs(epochs) => return write!(f, "{epochs}"),
            Self::Time(time) => time,
        };
        match UNITS.into_iter().find(|&(_, unit)| time.subsec_nanos() == 0 && time.as_secs().is_multiple_of(unit)) {
            Some((unit, seconds)) => write!(f, "{}{unit}", time.as_secs() / seconds),
            None => write!(f, "{}s", time.as_secs_f64()),
        }
    }
}

impl Serialize for CheckpointEvery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Epochs(epochs) => epochs.serialize(serializer),
            Self::Time(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for CheckpointEvery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Epochs(u64),
            Text(String),
        }
        let text = match Value::deserialize(deserializer)? {
            Value::Epochs(epochs) => epochs.to_string(),
            Value::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_and_times() {
        let time = |seconds| CheckpointEvery::Time(Duration::from_secs_f64(seconds));
        for (text, value, written) in [
            ("1", CheckpointEvery::Epochs(1), "1"),
            (" 20", CheckpointEvery::Epochs(20), "20"),
            ("90s", time(90.0), "90s"),
            ("10 m", time(600.0), "10m"),
            ("600s", time(600.0), "10m"),
            ("1.5h", time(5400.0), "90m"),
            ("2h", time(7200.0), "2h"),
            ("0.25s", time(0.25), "0.25s"),
        ] {
            assert_eq!(text.parse(), Ok(value), "{text}");
            assert_eq!((value.to_string().as_str(), written.parse()), (written, Ok(value)));
        }
        for text in ["", "0", "0s", "-1", "-5m", "1.5", "m", "5 minutes", "5ms", "1mm", "10d", "infs", "nanm", "1e300h"]
        {
            let error = text.parse::<CheckpointEvery>().unwrap_err();
            assert!(error.contains(&format!("`{text}` is neither")) && error.contains("10m"), "{error}");
        }
    }

    #[test]
    fn in_toml() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Of {
            every: CheckpointEvery,
        }
        for (text, value, written) in [
            ("every = 3", CheckpointEvery::Epochs(3), "every = 3\n"),
            ("every = \"3\"", CheckpointEvery::Epochs(3), "every = 3\n"),
            ("every = \"60s\"", CheckpointEvery::Time(Duration::from_secs(60)), "every = \"1m\"\n"),
        ] {
            let of = Of { every: value };
            assert_eq!((toml::from_str(text), toml::to_string(&of)), (Ok(Of { every: value }), Ok(written.into())));
        }
        assert!(toml::from_str::<Of>("every = 0").is_err() && toml::from_str::<Of>("every = 2.5").is_err());
    }
}
