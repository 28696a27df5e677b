//! The peaks that benches compare with are those of the device, not of one with a similar name.

#[path = "../benches/support/peaks.rs"]
mod peaks;

#[test]
fn names_as_drivers_report_them() {
    for (name, fp32, tf32, half, memory) in [
        ("Tesla T4", 8.1, 8.1, 65.0, 320.0),
        ("Tesla V100-SXM2-32GB", 15.7, 15.7, 125.0, 900.0),
        ("NVIDIA A10", 31.2, 62.5, 125.0, 600.0),
        ("NVIDIA A100-SXM4-40GB", 19.5, 156.0, 312.0, 1555.0),
        ("NVIDIA A100-SXM4-80GB", 19.5, 156.0, 312.0, 2039.0),
        ("NVIDIA A100-PCIE-40GB", 19.5, 156.0, 312.0, 1555.0),
        ("NVIDIA A100 80GB PCIe", 19.5, 156.0, 312.0, 1935.0),
        ("NVIDIA L4", 30.3, 60.0, 121.0, 300.0),
        ("NVIDIA L40S", 91.6, 183.0, 362.0, 864.0),
        ("NVIDIA H100 80GB HBM3", 67.0, 494.5, 989.5, 3350.0),
        ("NVIDIA H100 PCIe", 51.0, 378.0, 756.0, 2000.0),
        ("NVIDIA H200", 67.0, 494.5, 989.5, 4800.0),
        ("NVIDIA GH200 480GB", 67.0, 494.5, 989.5, 4000.0),
        ("NVIDIA B200", 75.0, 1125.0, 2250.0, 7700.0),
        ("NVIDIA GeForce RTX 4090", 82.6, 82.6, 165.2, 1008.0),
        ("NVIDIA GeForce RTX 5070 Ti", 43.9, 43.9, 87.9, 896.0),
        ("NVIDIA GeForce RTX 5090", 104.8, 104.8, 209.5, 1792.0),
    ] {
        assert_eq!(peaks::peaks(name), Some(peaks::Peaks { fp32, tf32, half, memory }), "{name}");
    }
}

#[test]
fn others_are_unknown() {
    for name in ["NVIDIA A10G", "NVIDIA GeForce RTX 5090 Laptop GPU", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", ""] {
        assert_eq!(peaks::peaks(name), None, "{name}");
    }
}
