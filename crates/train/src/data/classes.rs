//! Limits of class names, which folders, lists and files of weights bring.

/// Most classes; ImageNet-21k has 21,841.
pub const MOST: usize = 1 << 15;
/// Most bytes of a name.
pub const LONGEST: usize = 1 << 10;
/// Most bytes of all names as JSON: a checkpoint keeps them in its header.
const MOST_BYTES: usize = 3 << 20;

/// Checks the number and the lengths of class names.
///
/// # Errors
/// Which limit is exceeded.
pub fn check(names: &[String]) -> Result<(), String> {
    if names.len() > MOST {
        return Err(format!("there are {} classes, the limit is {MOST}", names.len()));
    }
    if let Some(long) = names.iter().find(|name| name.len() > LONGEST) {
        return Err(format!("the name of a class has {} bytes, the limit is {LONGEST}", long.len()));
    }
    within(serde_json::to_string(names).map_or(0, |json| json.len()))
}

/// The names in a JSON list.
///
/// # Errors
/// It is none, or exceeds a limit.
pub fn parse(json: &str) -> Result<Vec<String>, String> {
    within(json.len())?;
    let names: Vec<String> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    check(&names).map(|()| names)
}

fn within(bytes: usize) -> Result<(), String> {
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    Err(format!("the names of the classes have {bytes} bytes, the limit is {MOST_BYTES}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_and_long_names_are_refused() {
        let names = |count, length| vec!["x".repeat(length); count];
        for (names, reason) in [
            (names(MOST + 1, 1), "there are 32769 classes, the limit is 32768"),
            (names(2, LONGEST + 1), "the name of a class has 1025 bytes, the limit is 1024"),
            (names(10_000, LONGEST), "the names of the classes have 10270001 bytes, the limit is 3145728"),
        ] {
            assert_eq!(check(&names).unwrap_err(), reason);
            assert!(parse(&serde_json::to_string(&names).unwrap()).is_err());
        }
        let most = names(MOST, 80);
        assert_eq!(parse(&serde_json::to_string(&most).unwrap()).unwrap(), most);
        assert!(parse(&"[".repeat(1 << 20)).is_err());
    }
}
