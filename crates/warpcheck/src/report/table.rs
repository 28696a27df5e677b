//! The counters of each kernel as a table.

use super::KernelTotals;
use crate::count::{Global, Shared};

/// A number in at most five characters: `999`, `12.3k`, `4.56M`.
fn short(value: f64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let mut value = value;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 && value.fract() == 0.0 => 0,
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// A part of a whole in percent.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.0}%", part as f64 * 100.0 / whole as f64) }
}

/// The number and its factor over the ideal.
fn against(real: u64, ideal: u64) -> String {
    match (real, ideal) {
        (0, _) => "-".to_owned(),
        (_, 0) => short(real as f64),
        _ => format!("{} x{:.2}", short(real as f64), real as f64 / ideal as f64),
    }
}

fn global_against(parts: [&Global; 3]) -> String {
    let sum = |field: fn(&Global) -> u64| parts.iter().map(|part| field(part)).sum();
    against(sum(|part| part.sectors), sum(|part| part.ideal_sectors))
}

fn shared_against(load: &Shared, store: &Shared) -> String {
    against(load.wavefronts + store.wavefronts, load.ideal_wavefronts + store.ideal_wavefronts)
}

const HEADS: [&str; 13] = [
    "kernel",
    "launches",
    "time",
    "warp instr",
    "lanes",
    "flop f32",
    "f64",
    "tensor",
    "sectors",
    "unique rd",
    "wr",
    "wavefronts",
    "barriers",
];

/// The cells of a kernel's row; a kernel without counters has none.
fn row(kernel: &KernelTotals) -> Option<[String; 13]> {
    let c = kernel.counters.as_ref()?;
    Some([
        kernel.name.clone(),
        kernel.launches.to_string(),
        format!("{}s", time(kernel.time_ns)),
        short(c.warp_instructions as f64),
        share(c.lane_instructions, c.warp_instructions * 32),
        short((c.flops_f32 + c.flops_f16) as f64),
        short(c.flops_f64 as f64),
        short(c.flops_tensor as f64),
        global_against([&c.global_load, &c.global_store, &c.global_atomic]),
        format!("{}B", short(c.unique_bytes_read as f64)),
        format!("{}B", short(c.unique_bytes_written as f64)),
        shared_against(&c.shared_load, &c.shared_store),
        short(c.barriers as f64),
    ])
}

fn time(ns: f64) -> String {
    match ns {
        _ if ns < 1e6 => format!("{:.1}µ", ns / 1e3),
        _ if ns < 1e9 => format!("{:.2}m", ns / 1e6),
        _ => format!("{:.2}", ns / 1e9),
    }
}

/// The table, one line per kernel, the most expensive first. `x1.50` after sectors (of 32 bytes) and
/// wavefronts is the factor over the ideal.
pub fn counter_table(kernels: &[&KernelTotals]) -> String {
    let mut kernels = kernels.to_vec();
    kernels.sort_by(|a, b| b.time_ns.total_cmp(&a.time_ns).then_with(|| a.name.cmp(&b.name)));
    let rows: Vec<[String; 13]> = kernels.into_iter().filter_map(row).collect();
    let heads = HEADS.map(str::to_owned);
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEADS[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String; 13]| {
        let mut text = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            if column == 0 {
                text.push_str(cell);
                text.push_str(&padding);
            } else {
                text.push_str("  ");
                text.push_str(&padding);
                text.push_str(cell);
            }
        }
        text.trim_end().to_owned()
    };
    std::iter::once(&heads).chain(&rows).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Counters;

    #[test]
    fn numbers_are_short_and_right() {
        for (value, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1.00k"),
            (12_345.0, "12.3k"),
            (999_499.0, "999k"),
            (999_600.0, "1.00M"),
            (4.5e9, "4.50G"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn the_table_shows_what_is_wasted() {
        let counters = Counters {
            warp_instructions: 10,
            lane_instructions: 160,
            global_load: Global { requests: 1, sectors: 32, ideal_sectors: 4, bytes: 128, ..Global::default() },
            ..Counters::default()
        };
        let totals = |name: &str, time_ns| KernelTotals {
            name: name.to_owned(),
            launches: 2,
            time_ns,
            counters: Some(counters.clone()),
            ..KernelTotals::default()
        };
        let (fast, slow) = (totals("fast", 1e3), totals("slow", 2e6));
        let silent = KernelTotals { name: "silent".to_owned(), ..KernelTotals::default() };
        let table = counter_table(&[&fast, &slow, &silent]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(lines[1].starts_with("slow") && lines[1].contains("2.00ms"), "{table}");
        assert!(lines[2].contains("50%") && lines[2].contains("32 x8.00"), "{table}");
    }
}
