//! The table of layers that is printed at the start.

use std::fmt::Write;

use alexnet_core::Architecture;

use crate::print::visible;

/// Digits in groups of three, as in 23,272,266.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 epoch`, `2 epochs`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number as u64), if number == 1 { "" } else { "s" })
}

/// `1 class`, `2 classes`.
pub fn classes(number: usize) -> String {
    if number == 1 { "1 class".into() } else { format!("{} classes", grouped(number as u64)) }
}

/// The first `most` names, and how many more there are: `ant, bee and 3 more`.
pub fn listed<T: AsRef<str>>(names: &[T], most: usize) -> String {
    let first = names.iter().take(most).map(|name| visible(name.as_ref())).collect::<Vec<_>>().join(", ");
    if names.len() > most { format!("{first} and {} more", names.len() - most) } else { first }
}

/// Table of layers: operation, output shape (channels first), parameters, and multiply-adds of the forward pass per image.
///
/// # Errors
/// A layer without output.
pub fn table(architecture: &Architecture) -> alexnet_core::Result<String> {
    let number = |n: u64| if n == 0 { "-".to_string() } else { grouped(n) };
    let mut rows = vec![["layer", "operation", "output", "parameters", "multiply-adds"].map(String::from)];
    let (mut parameters, mut multiply_adds) = (0, 0);
    for layer in architecture.trace()? {
        let own: u64 = layer.parameters().iter().filter(|p| !p.statistic).map(|p| p.len() as u64).sum();
        parameters += own;
        multiply_adds += layer.multiply_adds();
        rows.push([
            layer.spec.name.clone(),
            layer.spec.kind.to_string(),
            layer.output.to_string(),
            number(own),
            number(layer.multiply_adds()),
        ]);
    }
    rows.push(["total".into(), String::new(), String::new(), number(parameters), number(multiply_adds)]);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for [layer, operation, output, parameters, multiply_adds] in &rows {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{layer:a$}  {operation:b$}  {output:>c$}  {parameters:>d$}  {multiply_adds:>e$}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use alexnet_core::alexnet::{Options, Variant, architecture};

    use super::*;

    #[test]
    fn digits() {
        assert_eq!([0, 12, 123, 1234, 23_272_266].map(grouped), ["0", "12", "123", "1,234", "23,272,266"]);
    }

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 1000].map(|n| count(n, "step")), ["0 steps", "1 step", "1,000 steps"]);
    }

    #[test]
    fn one_row_per_layer_and_the_total() {
        let options = Options::new(32, 10);
        let text = table(&architecture(Variant::Cifar, options)).unwrap();
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(
            row("features.0 "),
            ["features.0", "conv", "3×3", "stride", "2", "pad", "1", "64×16×16", "1,792", "442,368"]
        );
        assert_eq!(row("total"), ["total", "23,272,266", "62,742,528"]);
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|&width| width == widths[0] && width <= 80), "{widths:?}");
    }
}
