//! Peak rates of GPUs, as NVIDIA publishes them.

/// Peak rates of a GPU without sparsity; TFLOP/s, memory in GB/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// fp32 outside tensor cores.
    pub fp32: f64,
    /// tf32 on tensor cores; fp32 where they have no tf32.
    pub tf32: f64,
    /// fp16 with fp32 accumulation on tensor cores.
    pub half: f64,
    /// Global memory.
    pub memory: f64,
}

/// Words of a device's name, and fp32, tf32, half, memory. The first entry whose words all occur holds, so longer ones
/// precede. Sources: the data sheets "NVIDIA T4", "V100", "A10", "A100 80GB", "L4", "L40", "L40S", "H100", "H200",
/// "GH200", "HGX B200" and "GB200 NVL72" (tensor figures with sparsity halved; HGX and NVL72 divided by their GPUs),
/// and the appendices of the architecture papers for GA102 ("RTX 3090"), AD102 ("RTX 4090") and "RTX Blackwell".
const PEAKS: [(&str, [f64; 4]); 31] = [
    ("T4", [8.1, 8.1, 65.0, 320.0]),
    ("V100 PCIE", [14.0, 14.0, 112.0, 900.0]),
    ("V100", [15.7, 15.7, 125.0, 900.0]),
    ("A10", [31.2, 62.5, 125.0, 600.0]),
    ("A100 80GB PCIE", [19.5, 156.0, 312.0, 1935.0]),
    ("A100 80GB", [19.5, 156.0, 312.0, 2039.0]),
    ("A100", [19.5, 156.0, 312.0, 1555.0]),
    ("L4", [30.3, 60.0, 121.0, 300.0]),
    ("L40", [90.5, 90.5, 181.0, 864.0]),
    ("L40S", [91.6, 183.0, 362.0, 864.0]),
    ("H100 PCIE", [51.0, 378.0, 756.0, 2000.0]),
    ("H100 NVL", [60.0, 417.5, 835.5, 3900.0]),
    ("H100", [67.0, 494.5, 989.5, 3350.0]),
    ("H200 NVL", [60.0, 417.5, 835.5, 4800.0]),
    ("H200", [67.0, 494.5, 989.5, 4800.0]),
    ("GH200 480GB", [67.0, 494.5, 989.5, 4000.0]),
    ("GH200", [67.0, 494.5, 989.5, 4900.0]),
    ("B200", [75.0, 1125.0, 2250.0, 7700.0]),
    ("GB200", [80.0, 1250.0, 2500.0, 8000.0]),
    ("RTX 3090 TI", [40.0, 40.0, 80.0, 1008.0]),
    ("RTX 3090", [35.6, 35.6, 71.0, 936.0]),
    ("RTX 4080 SUPER", [52.2, 52.2, 104.4, 736.0]),
    ("RTX 4080", [48.7, 48.7, 97.5, 717.0]),
    ("RTX 4090 D", [73.5, 73.5, 147.0, 1008.0]),
    ("RTX 4090", [82.6, 82.6, 165.2, 1008.0]),
    ("RTX 5070 TI", [43.9, 43.9, 87.9, 896.0]),
    ("RTX 5070", [30.9, 30.9, 61.7, 672.0]),
    ("RTX 5080", [56.3, 56.3, 112.6, 960.0]),
    ("RTX 5090 D", [104.8, 104.8, 209.5, 1792.0]),
    ("RTX 5090", [104.8, 104.8, 209.5, 1792.0]),
    ("RTX 5060 TI", [23.7, 23.7, 47.4, 448.0]),
];

/// The peaks of the device that its driver calls `name`; none if it is not in the table.
pub fn peaks(name: &str) -> Option<Peaks> {
    let name = name.to_uppercase();
    let words: Vec<&str> = name.split([' ', '-']).collect();
    // A part of a GPU (MIG) and a slower chip of the same name.
    if words.contains(&"MIG") || words.contains(&"LAPTOP") || words.contains(&"MAX") {
        return None;
    }
    let (_, [fp32, tf32, half, memory]) =
        PEAKS.into_iter().find(|(entry, _)| entry.split(' ').all(|word| words.contains(&word)))?;
    Some(Peaks { fp32, tf32, half, memory })
}
