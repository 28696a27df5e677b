//! Stochastic gradient descent as `torch.optim.SGD` defines it.

/// One update: d = g + wd·w; v = μ·v + d; w −= lr·v, or with Nesterov w −= lr·(d + μ·v).
///
/// The momentum v starts at zero, so that the first v is d, as in PyTorch (dampening 0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// lr.
    pub learning_rate: f64,
    /// μ.
    pub momentum: f64,
    /// wd.
    pub weight_decay: f64,
    /// Whether to look ahead.
    pub nesterov: bool,
}
