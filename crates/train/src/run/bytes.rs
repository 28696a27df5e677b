//! Numbers of bytes as text.

/// `1.3 GiB`, or `93 MiB` below one GiB.
pub fn gib(bytes: u64) -> String {
    const MIB: f64 = 1048576.0;
    match bytes as f64 / MIB {
        mib if mib < 1024.0 => format!("{mib:.0} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(gib(93 << 20), "93 MiB");
        assert_eq!(gib((13 << 30) / 10), "1.3 GiB");
    }
}
