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
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
    /// Whether weight decay applies to biases and to batch norm's γ and β too, as in PyTorch with one parameter group.
    pub decay_all: bool,
}

impl Sgd {
    /// Whether weight decay applies to a parameter of this shape: always to the weights of convolutions and linear layers,
    /// which have more than one dimension, to others only with `decay_all`.
    pub const fn decays(&self, shape: &[usize]) -> bool {
        self.decay_all || shape.len() > 1
    }

    /// The constants for a parameter of this shape: without weight decay where it does not apply.
    pub const fn of(&self, shape: &[usize]) -> Self {
        Self { weight_decay: if self.decays(shape) { self.weight_decay } else { 0.0 }, ..*self }
    }
}
