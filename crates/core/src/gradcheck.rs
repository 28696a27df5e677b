//! Numerical gradient check: central differences against the analytic gradient.
//!
//! As `torch.autograd.gradcheck`: (f(x+ε) − f(x−ε)) / 2ε must be within atol + rtol·|numeric| of the
//! gradient, in f64. A piecewise linear function (ReLU, max pooling) has kinks where no derivative
//! exists; there the difference to the left and to the right disagree and the element is skipped.

pub mod network;

/// Step and tolerances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// ε.
    pub epsilon: f64,
    /// atol.
    pub absolute: f64,
    /// rtol.
    pub relative: f64,
}

impl Default for Tolerance {
    /// PyTorch's: ε 1e-6, atol 1e-5, rtol 1e-3.
    fn default() -> Self {
        Self { epsilon: 1e-6, absolute: 1e-5, relative: 1e-3 }
    }
}

/// One element of a gradient, both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Index of the element.
    pub index: usize,
    /// By central difference.
    pub numeric: f64,
    /// By the backward pass.
    pub analytic: f64,
    /// |numeric − analytic| as a share of what is allowed; above 1 is a failure.
    pub share: f64,
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Elements compared.
    pub compared: usize,
    /// Elements skipped at a kink.
    pub kinks: usize,
    /// Elements outside the tolerance.
    pub failed: usize,
    /// The element that is farthest from its numeric value.
    pub worst: Option<Compared>,
}

impl Report {
    /// Every element within the tolerance, and no more than one in ten skipped.
    pub const fn passed(&self) -> bool {
        self.failed == 0 && self.compared > 0 && self.kinks * 10 <= self.compared + self.kinks
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} compared, {} failed, {} skipped at kinks", self.compared, self.failed, self.kinks)?;
        if let Some(Compared { index, numeric, analytic, share }) = self.worst {
            write!(
                f,
                "; worst at {index}: numeric {numeric:.9e}, analytic {analytic:.9e}, {share:.2e} of the tolerance"
            )?;
        }
        Ok(())
    }
}

/// Checks `analytic`, the gradient of `function` at `x`, at the elements `indices`.
///
/// # Errors
/// Those of `function`.
pub fn check<E>(
    x: &mut [f64],
    analytic: &[f64],
    indices: impl IntoIterator<Item = usize>,
    tolerance: Tolerance,
    mut function: impl FnMut(&[f64]) -> Result<f64, E>,
) -> Result<Report, E> {
    let Tolerance { epsilon, absolute, relative } = tolerance;
    let here = function(x)?;
    let mut report = Report::default();
    for index in indices {
        let value = x[index];
        x[index] = value + epsilon;
        let above = function(x)?;
        x[index] = value - epsilon;
        let below = function(x)?;
        x[index] = value;
        let (right, left) = ((above - here) / epsilon, (here - below) / epsilon);
        let numeric = (above - below) / (2.0 * epsilon);
        let allowed = absolute + relative * numeric.abs();
        // Between the sides of a smooth function lies ε·f'', far below the tolerance.
        if (right - left).abs() > allowed {
            report.kinks += 1;
            continue;
        }
        let share = (numeric - analytic[index]).abs() / allowed;
        report.compared += 1;
        // A NaN counts as farther than anything.
        let share = if share.is_nan() { f64::INFINITY } else { share };
        report.failed += usize::from(share > 1.0);
        if report.worst.is_none_or(|worst| share > worst.share) {
            report.worst = Some(Compared { index, numeric, analytic: analytic[index], share });
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(x: &mut [f64], analytic: &[f64], f: impl Fn(&[f64]) -> f64) -> Report {
        check(x, analytic, 0..x.len(), Tolerance::default(), |x| Ok::<_, ()>(f(x))).unwrap()
    }

    #[test]
    fn right_and_wrong_gradients() {
        let f = |x: &[f64]| x[0] * x[0] * x[1] + x[1].sin();
        let gradient = |x: &[f64]| [2.0 * x[0] * x[1], x[0] * x[0] + x[1].cos()];
        let mut x = [1.5, -0.7];
        let right = gradient(&x);
        assert!(run(&mut x, &right, f).passed());
        let wrong = [right[0], right[1] * 1.01];
        let report = run(&mut x, &wrong, f);
        assert!(!report.passed());
        assert_eq!(report.worst.unwrap().index, 1);
        assert!(!run(&mut x, &[f64::NAN, right[1]], f).passed());
    }

    #[test]
    fn a_kink_is_skipped_and_counted() {
        let f = |x: &[f64]| x.iter().map(|x| x.max(0.0)).sum();
        let mut x = vec![1.0; 20];
        x[3] = 2e-7;
        let report = run(&mut x, &[1.0; 20], f);
        assert_eq!((report.compared, report.kinks), (19, 1));
        assert!(report.passed());
    }
}
